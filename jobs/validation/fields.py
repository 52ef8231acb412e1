"""One check for each field of a job: it returns the value, or names the field and says what it takes."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from django.utils import timezone

from ..exceptions import InvalidField
from .text import shown

MAX_ID, MAX_QUEUE, MAX_COMMAND_BYTES, MAX_ARGV, MAX_ENV = 128, 64, 131_071, 256, 256
MAX_RUNS = 1_000_000
"""Of one job in its life. A task is told them all, one by one."""
MAX_ENV_SIZE = 1_048_576
PRIORITIES, RETRIES = (-1000, 1000), (0, 100)
MAX_TIMEOUT, MAX_DELAY = 2_592_000, timedelta(days=3653)

_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?\Z"
)
_EARLIEST = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
_LATEST = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)
"""What is beyond cannot be shown in every zone."""


def wrong(name: str, value: object, accepted: str) -> NoReturn:
    """Raises InvalidField for a field of this value."""
    raise InvalidField(name, f"Invalid {name}: {shown(value)}", hint=f"{name} takes {accepted}")


def _is_clean(value: object, longest: int) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= longest
        and value.isprintable()
        and value == value.strip()
        and not value.startswith("-")
        and not _UNSEEN.search(value)
        and unicodedata.is_normalized("NFC", value)
    )


_CLEAN = f"text of 1 to {MAX_ID} printable characters, no space at its ends, not beginning with '-'"
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0e\uffa0\U000e0100-\U000e01ef]"
    "|(?<=[ -~])\ufe0f"  # what makes a sign an emoji makes nothing of a letter
)
"""Printable, as Unicode has it, and yet nothing that anybody sees: fillers, joiners, variations."""


def job_id(value: object) -> str:
    if not _is_clean(value, MAX_ID):
        wrong("id", value, _CLEAN)
    return str(value)


def worker_name(value: object) -> str:
    if not _is_clean(value, MAX_ID):
        wrong("name", value, _CLEAN)
    return str(value)


def unique_key(value: object) -> str:
    if not _is_clean(value, MAX_ID):
        wrong("unique_key", value, _CLEAN)
    return str(value)


def queue(value: object) -> str:
    ok = isinstance(value, str) and len(value) <= MAX_QUEUE and _QUEUE.match(value)
    if not ok or str(value).lower() == "all":
        accepted = f"1 to {MAX_QUEUE} letters, digits, '-', '_' and '.', and not the word 'all'"
        wrong("queue", value, accepted)
    return str(value)


def _is_runnable(value: object) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        return len(value.encode()) <= MAX_COMMAND_BYTES
    except UnicodeEncodeError:
        return False


def command(value: object) -> str:
    accepted = f"text for the shell, up to {MAX_COMMAND_BYTES:,} bytes of UTF-8 without NUL, not only spaces"
    if not _is_runnable(value) or not str(value).strip():
        wrong("command", value, accepted)
    return str(value)


def argv(value: object) -> list[str]:
    accepted = f"a list of 1 to {MAX_ARGV} texts without NUL, the program's name first"
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_ARGV or not value[0]:
        wrong("argv", value, accepted)
    if not all(_is_runnable(item) for item in value):
        wrong("argv", value, accepted)
    return value


def cwd(value: object) -> str:
    if not _is_runnable(value) or not str(value).startswith("/") or len(str(value)) > 4096:
        wrong("cwd", value, "an absolute path")
    return str(value)


def env(value: object) -> dict[str, str]:
    accepted = "an object of up to 256 texts by name; names are letters, digits and '_'"
    if not isinstance(value, dict) or len(value) > MAX_ENV:
        wrong("env", value, accepted)
    if sum(len(str(name)) + len(str(text)) for name, text in value.items()) > MAX_ENV_SIZE:
        raise InvalidField(
            "env", "Invalid env: too large", hint=f"env takes {MAX_ENV_SIZE:,} characters in all"
        )
    for name, text in value.items():
        if not isinstance(name, str) or not _ENV_NAME.match(name) or not _is_runnable(text):
            # The value may be a secret, so the name alone is shown.
            raise InvalidField("env", f"Invalid env: {shown(name)}", hint=f"env takes {accepted}")
        if name.startswith("QUEUECTL_"):
            raise InvalidField(
                "env", f"Invalid env: {shown(name)}", hint="QUEUECTL_… is set by the worker"
            )
    return value


def _whole(name: str, low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            wrong(name, value, f"a whole number from {low} to {high}")
        return value

    return check


def _real(name: str, low: float, high: float, unit: str = "") -> Callable[[object], float]:
    def check(value: object) -> float:
        ok = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        if not ok or not math.isfinite(value):  # type: ignore[arg-type]
            wrong(name, value, f"a number{unit} from {low:g} to {high:,}")
        return float(value)  # type: ignore[arg-type]

    return check


def moment(name: str, value: object) -> datetime:
    """A point in time, in UTC; one without a zone is in the project's."""
    accepted = 'a time such as "2030-12-31T23:59:00Z"; without a zone it is in the project\'s'
    if not isinstance(value, str) or not _TIME.match(value):
        wrong(name, value, accepted)
    try:
        found = datetime.fromisoformat(str(value))
        if found.tzinfo is None:
            found = timezone.make_aware(found)
        return showable(found.astimezone(UTC))
    except ValueError:
        wrong(name, value, accepted)
    except OverflowError:
        wrong(name, value, "a time that every zone can show, not the first or the last day of all")


def showable(moment: datetime) -> datetime:
    """The same moment. Raises OverflowError for one that some zone cannot show."""
    if not _EARLIEST <= moment <= _LATEST:
        raise OverflowError(moment)
    return moment


def run_at(value: object) -> datetime:
    return moment("run_at", value)


def delay(value: object) -> timedelta:
    seconds = _real("delay", 0, MAX_DELAY.total_seconds(), " of seconds")(value)
    return timedelta(seconds=seconds)


CHECKS: dict[str, Callable[[object], Any]] = {
    "id": job_id,
    "command": command,
    "argv": argv,
    "queue": queue,
    "priority": _whole("priority", *PRIORITIES),
    "max_retries": _whole("max_retries", *RETRIES),
    "run_at": run_at,
    "delay": delay,
    "timeout": _real("timeout", 0.001, MAX_TIMEOUT, " of seconds"),
    "backoff_base": _real("backoff_base", 1, 100),
    "cwd": cwd,
    "env": env,
    "unique_key": unique_key,
}
