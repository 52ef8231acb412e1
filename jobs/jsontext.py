"""JSON as people may send it: exactly one document, no surprises."""

from __future__ import annotations

import json
import math
import sys
from typing import Any, NoReturn

from .exceptions import InvalidText

MAX_DEPTH = 32
MAX_PLAIN_DEPTH = MAX_DEPTH - 3
"""Of a value within the arguments of a job within a line of an export, which is read by `parse`."""

LARGEST = int(sys.float_info.max)
"""Of whole numbers, which a reader may take for floats: and PostgreSQL gives a float back as one,
1e150 with all its digits.
"""


def parse(text: str) -> Any:
    """Read one JSON document. Raises InvalidText with one sentence for everything that is not.

    Refused beyond the grammar: duplicate keys (Python keeps the last), NaN and Infinity,
    numbers beyond what a float holds, and nesting deeper than 32 (a RecursionError is no ValueError).
    """
    if text.startswith("\ufeff"):
        raise InvalidText(hint="the text begins with a byte order mark; save it as plain UTF-8")
    if _depth(text) > MAX_DEPTH:
        raise InvalidText(hint=f"it is nested deeper than {MAX_DEPTH} levels")
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_whole,
            parse_float=_number,
        )
    except json.JSONDecodeError as error:
        where = (
            f"line {error.lineno}, column {error.colno}"
            if "\n" in text
            else f"column {error.colno}"
        )
        raise InvalidText(hint=f"{error.msg[:1].lower()}{error.msg[1:]} at {where}") from None


def looks_like_json(text: str) -> bool:
    """Whether a person who typed this meant JSON: an object or an array."""
    return text.lstrip("\ufeff \t\r\n").startswith(("{", "["))


def _depth(text: str) -> int:
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif in_string:
            escaped = character == "\\"
            in_string = character != '"'
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidText(hint=f"the key {key!r} is there twice")
        found[key] = value
    return found


def _constant(name: str) -> NoReturn:
    raise InvalidText(hint=f"{name} is not a JSON number")


def _whole(text: str) -> int:
    # By its length first: to read very many digits takes long.
    if len(text) > len(f"-{LARGEST}") or abs(value := int(text)) > LARGEST:
        raise InvalidText(hint=f"the number {text[:20]} is too large")
    return value


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise InvalidText(hint=f"the number {text[:20]} is too large")
    return value


def check_plain(value: Any) -> None:
    """Refuse what JSON, or a database's JSON column, would not give back as it was.

    Raises InvalidText: NaN, infinity and whole numbers beyond what a float holds, keys that are no
    text, NUL and lone surrogates, and what is nested deeper than an export may be.
    """
    _check_plain(value, MAX_PLAIN_DEPTH)


def _check_plain(value: Any, deeper: int) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidText(hint="it has a NUL character in it")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidText(hint="it has half a character (a lone surrogate) in it")
    elif isinstance(value, int):
        if abs(value) > LARGEST:
            raise InvalidText(hint="it has a number in it that is too large")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidText(hint=f"{value} is not a JSON number")
    elif isinstance(value, dict | list) and not deeper:
        raise InvalidText(hint=f"it is nested deeper than {MAX_PLAIN_DEPTH} levels")
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidText(hint=f"the key {key!r} is no text")
            _check_plain(key, deeper)
            _check_plain(inner, deeper - 1)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, deeper - 1)
