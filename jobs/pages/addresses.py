"""Ids in URLs. An id may hold a slash, or be two dots, which browsers and routers take for a path; where a
hand has edited it, it may be empty.
"""

from __future__ import annotations

import re

EMPTY = "~"

_CODE = re.compile(r"~([0-9A-F]{2})")


def to_url(key: str) -> str:
    """An id as one segment of a path, not yet percent-encoded: `a/b` is `a~2Fb`."""
    if not key:
        return EMPTY
    coded = key.replace("~", "~7E").replace("/", "~2F")
    return coded.replace(".", "~2E") if not coded.strip(".") else coded


def from_url(text: str) -> str:
    """The id that `to_url` wrote. Raises ValueError for what no id can be."""
    if text == EMPTY:
        return ""
    key = _CODE.sub(lambda code: chr(int(code[1], 16)), text)
    if not key.isprintable() or to_url(key) != text:
        raise ValueError(text)
    return key


class JobIdConverter:
    """`<job:key>` in a path."""

    regex = "[^/]+"
    to_python = staticmethod(from_url)
    to_url = staticmethod(to_url)
