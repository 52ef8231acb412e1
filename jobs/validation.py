"""The one gate for what people ask: it checks, names the field and says what is accepted.

Values are never coerced: a number is not an id, `true` is not 1, "5 " is not 5.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, NoReturn

from django.utils import timezone

from . import jsontext
from .exceptions import InvalidField, InvalidText

MAX_ID, MAX_QUEUE, MAX_COMMAND_BYTES, MAX_ARGV, MAX_ENV = 128, 64, 131_071, 256, 256
MAX_TASK, TASK_PRIORITY = 255, 5
MAX_ENV_SIZE = 1_048_576
PRIORITIES, RETRIES = (-1000, 1000), (0, 100)
MAX_TIMEOUT, MAX_DELAY = 2_592_000, timedelta(days=3653)
IGNORED = frozenset({"state", "attempts", "created_at", "updated_at"})
"""Fields of the original that describe a job rather than ask for one: ignored with a warning."""

_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_TASK = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+\Z")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?\Z"
)
_EARLIEST = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
_LATEST = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)
"""What is beyond cannot be shown in every zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """A job somebody asked for, checked. None means: the default at the time of enqueueing."""

    key: str | None
    queue: str
    command: str | None
    argv: list[str] | None
    cwd: str
    env: dict[str, str] = field(repr=False)
    priority: int
    max_retries: int | None
    run_at: datetime | None
    delay: timedelta | None
    timeout: float | None
    backoff_base: float | None
    unique_key: str | None
    task: str | None = None
    args: dict[str, Any] | None = field(default=None, repr=False)
    """Of the task: {"args": […], "kwargs": {…}}."""

    template: str | None = None
    """The registered template that made `argv`."""

    digest: str
    """SHA-256 of the fields as given, without the id: "the same content" means the same digest."""

    warnings: tuple[str, ...] = ()


def job_request(given: object, now: datetime) -> JobRequest:
    """Check what somebody asks for now. Raises InvalidField for the first field that is wrong."""
    if not isinstance(given, Mapping):
        raise InvalidField(
            "job", "A job must be a JSON object", hint='for example {"command": "echo hello"}'
        )
    _refuse_unknown(given)
    fields = {
        name: check(given[name])
        for name, check in CHECKS.items()
        if name in given and given[name] is not None
    }
    if "id" in given and given["id"] is None:
        _wrong(
            "id",
            given["id"],
            "text of 1 to 128 printable characters; leave it out to have one made",
        )
    _exactly_one_kind(given, fields)
    if "run_at" in fields:
        _not_too_far(fields["run_at"], now)
    if "delay" in fields and "run_at" in fields:
        raise InvalidField("delay", "A job takes 'delay' or 'run_at', not both")
    return JobRequest(
        key=fields.get("id"),
        queue=fields.get("queue", "default"),
        command=fields.get("command"),
        argv=fields.get("argv"),
        cwd=fields.get("cwd", ""),
        env=fields.get("env", {}),
        priority=fields.get("priority", 5),
        max_retries=fields.get("max_retries"),
        run_at=fields.get("run_at"),
        delay=fields.get("delay"),
        timeout=fields.get("timeout"),
        backoff_base=fields.get("backoff_base"),
        unique_key=fields.get("unique_key"),
        digest=_digest(given),
        warnings=tuple(
            f"'{name}' is ignored: a job's {name} is not for its sender to say"
            for name in given
            if name in IGNORED
        ),
    )


def task_request(
    path: str, args: list[Any], kwargs: dict[str, Any], *, key: str, queue: str, priority: int,
    run_at: datetime | None, max_retries: int | None, timeout: float | None, backoff: float | None,
    now: datetime,
) -> JobRequest:  # fmt: skip
    """Check what a task is to be enqueued with now. Raises InvalidField for the first that is wrong.

    `priority` is the framework's, -100 to 100; a command's default of 5 and its 0 are equals.
    """
    if not _TASK.match(path) or len(path) > MAX_TASK:
        _wrong("task", path, f"the path of a function, up to {MAX_TASK} characters")
    for name, value in (("args", args), ("kwargs", kwargs)):
        try:
            jsontext.check_plain(value)
        except InvalidText as error:
            raise InvalidField(name, f"Invalid {name} of {path}: {error.hint}") from None
    task_options(max_retries=max_retries, timeout=timeout, backoff=backoff)
    if run_at is not None:
        _not_too_far(run_at, now)
    return JobRequest(
        key=key,
        queue=CHECKS["queue"](queue),
        command=None,
        argv=None,
        task=path,
        args={"args": args, "kwargs": kwargs},
        cwd="",
        env={},
        priority=priority + TASK_PRIORITY,
        max_retries=max_retries,
        run_at=run_at,
        delay=None,
        timeout=timeout,
        backoff_base=backoff,
        unique_key=None,
        digest="",
    )


def task_options(*, max_retries: object, timeout: object, backoff: object) -> None:
    """Check the options of a task, None meaning the default. Raises InvalidField."""
    for name, value in (
        ("max_retries", max_retries),
        ("timeout", timeout),
        ("backoff_base", backoff),
    ):
        if value is not None:
            CHECKS[name](value)


def _refuse_unknown(given: Mapping[Any, Any]) -> None:
    for name in given:
        if name not in CHECKS and name not in IGNORED:
            near = nearest(name, CHECKS)
            hint = f"did you mean '{near}'?" if near else f"known fields: {', '.join(CHECKS)}"
            field = name if isinstance(name, str) else "job"
            raise InvalidField(field, f"Unknown field {shown(name)}", hint=hint)


def _exactly_one_kind(given: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    kinds = [name for name in ("command", "argv") if name in fields]
    if len(kinds) == 2:
        raise InvalidField("argv", "A job takes 'command' or 'argv', not both")
    if not kinds and "command" in given:
        _wrong("command", given["command"], "text for the shell")
    if not kinds:
        raise InvalidField(
            "command",
            "Job must have a 'command' field",
            hint='for example {"id": "job1", "command": "echo hello"}',
        )


def _digest(given: Mapping[str, Any]) -> str:
    content = {k: v for k, v in given.items() if k != "id" and k not in IGNORED and v is not None}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _wrong(name: str, value: object, accepted: str) -> NoReturn:
    raise InvalidField(name, f"Invalid {name}: {shown(value)}", hint=f"{name} takes {accepted}")


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
    return next(iter(get_close_matches(name, known, n=1)), None) if isinstance(name, str) else None


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
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _is_clean(value: object, longest: int) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= longest
        and value.isprintable()
        and value == value.strip()
        and not value.startswith("-")
        and unicodedata.is_normalized("NFC", value)
    )


_CLEAN = f"text of 1 to {MAX_ID} printable characters, no space at its ends, not beginning with '-'"


def job_id(value: object) -> str:
    if not _is_clean(value, MAX_ID):
        _wrong("id", value, _CLEAN)
    return str(value)


def worker_name(value: object) -> str:
    if not _is_clean(value, MAX_ID):
        _wrong("name", value, _CLEAN)
    return str(value)


def unique_key(value: object) -> str:
    if not _is_clean(value, MAX_ID):
        _wrong("unique_key", value, _CLEAN)
    return str(value)


def queue(value: object) -> str:
    ok = isinstance(value, str) and len(value) <= MAX_QUEUE and _QUEUE.match(value)
    if not ok or str(value).lower() == "all":
        accepted = f"1 to {MAX_QUEUE} letters, digits, '-', '_' and '.', and not the word 'all'"
        _wrong("queue", value, accepted)
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
        _wrong("command", value, accepted)
    return str(value)


def argv(value: object) -> list[str]:
    accepted = f"a list of 1 to {MAX_ARGV} texts without NUL, the program's name first"
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_ARGV or not value[0]:
        _wrong("argv", value, accepted)
    if not all(_is_runnable(item) for item in value):
        _wrong("argv", value, accepted)
    return value


def cwd(value: object) -> str:
    if not _is_runnable(value) or not str(value).startswith("/") or len(str(value)) > 4096:
        _wrong("cwd", value, "an absolute path")
    return str(value)


def env(value: object) -> dict[str, str]:
    accepted = "an object of up to 256 texts by name; names are letters, digits and '_'"
    if not isinstance(value, dict) or len(value) > MAX_ENV:
        _wrong("env", value, accepted)
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
            _wrong(name, value, f"a whole number from {low} to {high}")
        return value

    return check


def _real(name: str, low: float, high: float, unit: str = "") -> Callable[[object], float]:
    def check(value: object) -> float:
        ok = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        if not ok or not math.isfinite(value):  # type: ignore[arg-type]
            _wrong(name, value, f"a number{unit} from {low:g} to {high:,}")
        return float(value)  # type: ignore[arg-type]

    return check


def moment(name: str, value: object) -> datetime:
    """A point in time, in UTC; one without a zone is in the project's."""
    accepted = 'a time such as "2030-12-31T23:59:00Z"; without a zone it is in the project\'s'
    if not isinstance(value, str) or not _TIME.match(value):
        _wrong(name, value, accepted)
    try:
        found = datetime.fromisoformat(str(value))
        if found.tzinfo is None:
            found = timezone.make_aware(found)
        return showable(found.astimezone(UTC))
    except ValueError:
        _wrong(name, value, accepted)
    except OverflowError:
        _wrong(name, value, "a time that every zone can show, not the first or the last day of all")


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


def _not_too_far(run_at: datetime, now: datetime) -> None:
    """Raises InvalidField for a time more than ten years ahead; that is a slip, not a plan."""
    if run_at > now + MAX_DELAY:
        raise InvalidField(
            "run_at",
            f"Invalid run_at: {run_at:%Y-%m-%d}",
            hint="run_at takes a time within ten years",
        )


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
