"""Log records as text that a terminal obeys in nothing, and in which none looks like another."""

from __future__ import annotations

import logging

from .validation import visible

CONTINUED = "    "


class Formatter(logging.Formatter):
    """Spells out control characters; each further line of a record, its traceback's too, is indented."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).rstrip("\n")
        return visible(text, keep="\n\t").replace("\n", f"\n{CONTINUED}")
