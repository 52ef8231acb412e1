"""What both formats check, field by field: what was stored once is accepted, nonsense is not.

Wider than `validation` on purpose, which says what may be asked for *now*: an original may hold
an id that begins with "-", or a priority of 5000, and keeps it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from .. import validation
from ..exceptions import InvalidField
from ..jsontext import MAX_DEPTH

Check = Callable[[str, Any], Any]
"""Takes the name of a field and its value; returns the value to store, or raises InvalidField."""

LARGEST = 2**31 - 1
_DEPTH = MAX_DEPTH - 2  # of a value within a job within a line


def wrong(name: str, value: object, accepted: str) -> InvalidField:
    return InvalidField(
        name, f"Invalid {name}: {validation.shown(value)}", hint=f"{name} takes {accepted}"
    )


def check_all(given: object, checks: Mapping[str, Check], what: str) -> dict[str, Any]:
    """Check an object that has exactly these fields. Raises InvalidField for the first wrong one."""
    if not isinstance(given, dict):
        raise InvalidField(what, f"a {what} must be a JSON object, not {validation.shown(given)}")
    for name in given:
        if name not in checks:
            near = validation.nearest(name, checks)
            hint = f"did you mean '{near}'?" if near else f"known fields: {', '.join(checks)}"
            raise InvalidField(name, f"Unknown field {validation.shown(name)}", hint=hint)
    for name in checks:
        if name not in given:
            raise InvalidField(name, f"The field '{name}' is missing")
    return {name: check(name, given[name]) for name, check in checks.items()}


def optional(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def ignored(name: str, value: object) -> None:
    return None


def job_id(name: str, value: object) -> str:
    """Any printable text: also one that a new job may not have."""
    ok = isinstance(value, str) and 0 < len(value) <= validation.MAX_ID and value.isprintable()
    if not ok:
        raise wrong(name, value, f"text of 1 to {validation.MAX_ID} printable characters")
    return str(value)


def one_of(*words: str) -> Check:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise wrong(name, value, f"one of {', '.join(words)}")
        return value

    return check


def whole(low: int = -LARGEST - 1, high: int = LARGEST) -> Check:
    def check(name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise wrong(name, value, f"a whole number from {low} to {high}")
        return value

    return check


COUNT = whole(0, 10**9)
"""Far from where a database can count no further."""

BIG = whole(0, 2**63 - 1)


def real(low: float, high: float) -> Check:
    def check(name: str, value: object) -> float:
        ok = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        if not ok or not math.isfinite(value):  # type: ignore[arg-type]
            raise wrong(name, value, f"a number from {low:g} to {high:,}")
        return float(value)  # type: ignore[arg-type]

    return check


def flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise wrong(name, value, "true or false")
    return value


def moment(name: str, value: object) -> datetime:
    if not isinstance(value, str) or not value.endswith("Z"):
        raise wrong(name, value, 'a time in UTC such as "2030-12-31T23:59:00Z"')
    return validation.moment(name, value)


def text(longest: int | None = None) -> Check:
    """Text a database can hold, its NULs and lone surrogates replaced."""

    def check(name: str, value: object) -> str:
        if not isinstance(value, str):
            raise wrong(name, value, "text")
        if longest is not None and len(value) > longest:
            raise wrong(name, value, f"text of at most {longest} characters")
        return value if value.isprintable() else validation.storable(value)

    return check


def printed(name: str, value: object) -> bytes:
    """What a command printed, as the bytes it was."""
    if not isinstance(value, str):
        raise wrong(name, value, "text")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise wrong(name, value, "text without lone surrogates") from None


def validated(name: str, value: object) -> Any:
    """As a new job's."""
    return validation.CHECKS[name](value)


def json_value(name: str, value: object) -> Any:
    """A value of JSON that both databases can hold. PostgreSQL refuses NUL, both a lone surrogate."""
    if _depth(value) > _DEPTH:
        raise wrong(name, "…", f"JSON nested at most {_DEPTH} deep")
    try:
        found = json.dumps(value, ensure_ascii=False)
        found.encode()
    except UnicodeEncodeError:
        raise wrong(name, value, "JSON without lone surrogates") from None
    if "\\u0000" in found.replace("\\\\", ""):
        raise wrong(name, value, "JSON without NUL")
    return value


def task_args(name: str, value: object) -> Any:
    return validation.task_args(json_value(name, value))


def _depth(value: object) -> int:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(_depth, inner), default=0)
    return 0
