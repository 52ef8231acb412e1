"""Argument types that several verbs take."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from ..validation import shown

_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h|d|w)?\Z")
_UNITS = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def span(text: str) -> float:
    """Seconds of "90", "90s", "10m", "2h", "1d" or "1w"."""
    found = _SPAN.match(text)
    if not found or len(text) > 20:
        raise ArgumentTypeError(f"{shown(text)} is not a duration such as 90s, 10m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2]]


def positive(text: str) -> int:
    """A whole number from 1 to a million."""
    if not (text.isascii() and text.isdigit() and len(text) < 8 and 1 <= int(text) <= 1_000_000):
        raise ArgumentTypeError(f"{shown(text)} is not a whole number from 1 to 1000000")
    return int(text)


def whole(text: str) -> int:
    """A whole number, in digits alone."""
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ArgumentTypeError(f"{shown(text)} is not a whole number")
    return int(text)


def number(text: str) -> Any:
    """A whole or decimal number; anything else stays as typed, for validation to refuse by name."""
    if re.fullmatch(r"-?[0-9]{1,30}", text):
        return int(text)
    if re.fullmatch(r"-?[0-9]{1,30}\.[0-9]{1,30}", text):
        return float(text)
    return text


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="JSON on stdout, errors as JSON on stderr"
    )


def add_yes(parser: ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
