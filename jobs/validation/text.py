"""Text for people and for the database, whatever it was made of."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_NAME, MOST_NAMES = 40, 100
"""No slip is made up of one that is longer, nor looked for among more that are stored: to compare two
names takes the square of their length, and of some the cube.
"""


def shown(value: object, limit: int = 60) -> str:
    """A value as it may appear in a message: JSON, short, every control character visible."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        # Python may refuse to print a number of so many digits.
        kind = "very long number" if isinstance(value, int) else type(value).__name__
        text = f"(a {kind})"
    text = visible(text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def quoted(name: object) -> str:
    """A name as Python code writes it; of what is no name as it may appear in a message."""
    return repr(name) if isinstance(name, str) else shown(name)


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Which of the known names was probably meant; None where none is like it."""
    return next(iter(closest(name, known, 1)), None)


def closest(name: object, known: Iterable[str], most: int = 3) -> list[str]:
    """Which of the known names are most like it, best first."""
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        return []
    return get_close_matches(name, [each for each in known if len(each) <= LONGEST_NAME], n=most)


def visible(text: str, keep: str = "") -> str:
    """Text with controls, bidi marks, zero-width and lone surrogates spelled out, not obeyed."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    code = ord(character)
    if character == " " or unicodedata.category(character) == "Zs":
        return character
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def storable(text: str) -> str:
    """Text either database takes: PostgreSQL refuses NUL, both refuse lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text  # nearly all of it, most of it empty: half the price
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
