"""What a job was asked to be, checked as a whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .. import jsontext
from ..exceptions import InvalidField, InvalidText
from .fields import CHECKS, MAX_DELAY, showable, wrong
from .text import nearest, shown

MAX_TASK, TASK_PRIORITY = 255, 5
MAX_ARGS_BYTES = 1_048_576
"""Of a task's args and kwargs together, as JSON; as much as is kept of what it returns."""

IGNORED = frozenset({"state", "attempts", "created_at", "updated_at"})
"""Fields of the original that describe a job rather than ask for one: ignored with a warning."""

_TASK = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+\Z")


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
        wrong(
            "id",
            given["id"],
            "text of 1 to 128 printable characters; leave it out to have one made",
        )
    _exactly_one_kind(given, fields)
    if "run_at" in fields:
        _in_reach(fields["run_at"], now)
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
        digest=digest(given),
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
    task_path("task", path)
    for name, value in (("args", args), ("kwargs", kwargs)):
        try:
            jsontext.check_plain(value)
        except InvalidText as error:
            raise InvalidField(name, f"Invalid {name} of {path}: {error.hint}") from None
    given = task_args({"args": args, "kwargs": kwargs})
    task_options(max_retries=max_retries, timeout=timeout, backoff=backoff)
    if run_at is not None:
        _in_reach(run_at, now)
    return JobRequest(
        key=key,
        queue=CHECKS["queue"](queue),
        command=None,
        argv=None,
        task=path,
        args=given,
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


def task_path(name: str, value: object) -> str:
    """Check the path of a task's function, dots between identifiers. Raises InvalidField."""
    if not (isinstance(value, str) and _TASK.match(value) and len(value) <= MAX_TASK):
        wrong(name, value, f"the path of a function, up to {MAX_TASK} characters")
    return str(value)


def task_args(given: Any) -> Any:
    """Check the size of what a task is called with. Raises InvalidField for more than 1 MiB of JSON."""
    size = len(json.dumps(given))
    if size > MAX_ARGS_BYTES:
        raise InvalidField(
            "args",
            f"Invalid args: {size:,} bytes of JSON",
            hint=f"args and kwargs take {MAX_ARGS_BYTES:,} bytes together; pass where the rest is kept",
        )
    return given


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
        wrong("command", given["command"], "text for the shell")
    if not kinds:
        raise InvalidField(
            "command",
            "Job must have a 'command' field",
            hint='for example {"id": "job1", "command": "echo hello"}',
        )


def digest(given: Mapping[str, Any]) -> str:
    """Of the fields as given; equal for what asks for the same job, whatever its id."""
    content = {k: v for k, v in given.items() if k != "id" and k not in IGNORED and v is not None}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _in_reach(run_at: datetime, now: datetime) -> None:
    """Raises InvalidField for a time that not every zone can show, and for one more than ten years ahead.

    That is a slip, not a plan.
    """
    try:
        showable(run_at)
    except OverflowError:
        hint = "run_at takes a time that every zone can show, not the first or the last day of all"
        raise InvalidField("run_at", f"Invalid run_at: {run_at}", hint=hint) from None
    if run_at > now + MAX_DELAY:
        raise InvalidField(
            "run_at",
            f"Invalid run_at: {run_at:%Y-%m-%d}",
            hint="run_at takes a time within ten years",
        )
