"""jobs.json read: an object id -> job with sixteen keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from shlex import join
from typing import Any

from ... import validation
from ...exceptions import InvalidField, InvalidText
from ...models import Stream
from ...outcome import Kind
from ...states import JobState
from ...stats import rfc3339
from .. import fields
from ..fields import Check, optional
from ..record import Record, ready
from ..source import Source, Text
from .common import DEAD, STATES, first_due_at

KEYS: dict[str, Check] = {
    "id": fields.job_id,
    "command": fields.validated,
    "state": fields.one_of(*STATES),
    "attempts": fields.COUNT,
    "max_retries": fields.COUNT,
    "created_at": fields.moment,
    "updated_at": fields.moment,
    "next_retry_at": optional(fields.moment),
    "error_message": optional(fields.text()),
    "priority": fields.whole(),
    "run_at": optional(fields.moment),
    "stdout": optional(fields.printed),
    "stderr": optional(fields.printed),
    "execution_time": optional(fields.real(0, 3_153_600_000)),
    "started_at": optional(fields.moment),
    "completed_at": optional(fields.moment),
}

_TIMED_OUT = "Job timed out after "


def entries(source: Source) -> Iterator[tuple[str, Any]]:
    """The jobs of a jobs.json, each with where it stands: (place, (id, object)).

    In place of what can be read but not accepted comes the InvalidText that says why. Raises
    InvalidText where the text is no JSON, or ends in the middle: what follows cannot be told.
    """
    text = Text(source)
    text.take("{")
    if text.peek() == "}":
        text.take("}")
    else:
        while True:
            key = _key(text)
            place = f"job {validation.shown(key)} (line {text.line})"
            text.take(":")
            found = text.value()
            yield place, found if isinstance(found, InvalidText) else (key, found)
            if text.take(",}") == "}":
                break
    if text.peek():
        raise text.broken("there is more after the end of the object")


def _key(text: Text) -> str:
    if text.peek() not in ('"', ""):
        raise text.broken("expecting an id in double quotes")
    key = text.value()
    if isinstance(key, InvalidText):
        raise key
    return str(key)


def records(entry: tuple[str, Any], now: datetime, actor: str) -> list[Record]:
    """A job of a jobs.json with its last attempt and what that printed.

    Raises InvalidField for the first field that is wrong.
    """
    key, given = entry
    said = fields.check_all(given, KEYS, "job")
    if said["id"] != key:
        raise InvalidField(
            "id", f"Invalid id: {validation.shown(said['id'])}", hint="it is kept under another id"
        )
    job = _job(said, now, actor)
    found = [Record("job", key, _NOT_SAID | ready(job))]
    if _ran(said):
        attempt = ready(_attempt(said, job["runs"]))
        found.append(Record("attempt", key, attempt))
        found += [
            Record(
                "output",
                key,
                {
                    "attempt": job["runs"],
                    "stream": stream,
                    "sequence": 0,
                    "offset": 0,
                    "data": data,
                },
            )
            for stream, data in ((Stream.STDOUT, said["stdout"]), (Stream.STDERR, said["stderr"]))
            if data
        ]
    return found


def _job(said: Mapping[str, Any], now: datetime, actor: str) -> dict[str, Any]:
    state = _state(said, now)
    started_at = None if said["state"] == JobState.PROCESSING else said["started_at"]
    finished_at = None
    if state == JobState.COMPLETED:
        finished_at = said["completed_at"] or said["updated_at"]
        started_at = started_at or _before(finished_at, said["execution_time"])
    elif state == JobState.DEAD:
        finished_at = said["updated_at"]
    return {
        "key": said["id"],
        "command": said["command"],
        "state": str(state),
        "priority": said["priority"],
        "run_at": said["run_at"],
        "due_at": _due_at(said, state, now),
        "attempts": said["attempts"],
        "max_retries": said["max_retries"],
        "runs": max(said["attempts"], 1) if _ran(said) else 0,
        "created_at": said["created_at"],
        "updated_at": said["updated_at"],
        "started_at": started_at,
        "finished_at": finished_at,
        "last_error": said["error_message"] or "",
        "request_digest": _digest(said),
        "enqueued_by": actor,
    }


_NOT_SAID: dict[str, Any] = {
    "queue": "default", "argv": None, "task": None, "args": None, "cwd": "", "env": "{}", "losses": 0,
    "interruptions": 0, "prefetchable": True, "timeout": None, "backoff_base": None,
    "exit_codes": None, "unique_key": None, "concurrency_key": None, "cancel_requested_at": None,
    "result": None, "fingerprint": "",
}  # fmt: skip


def _state(said: Mapping[str, Any], now: datetime) -> JobState:
    state = JobState(said["state"])
    if state == JobState.PROCESSING:
        return JobState.PENDING
    if state == JobState.PENDING and said["run_at"] is not None and said["run_at"] > now:
        return JobState.SCHEDULED
    return state


def _due_at(said: Mapping[str, Any], state: JobState, now: datetime) -> datetime:
    """Its place in line: the retry that is, or was, to come, else when it could first run."""
    retry_at: datetime | None = said["next_retry_at"]
    if retry_at is not None and _counts(retry_at, state, now):
        return retry_at
    if state == JobState.FAILED:
        return said["updated_at"]  # type: ignore[no-any-return]
    return first_due_at(said["run_at"], said["created_at"])


def _counts(retry_at: datetime, state: JobState, now: datetime) -> bool:
    """A job that may run now, or waits for its run_at, does not wait for a retry."""
    if state == JobState.PENDING:
        return retry_at <= now
    return state != JobState.SCHEDULED


def _before(moment: datetime, span: float | None) -> datetime | None:
    if span is None:
        return None
    try:
        return validation.showable(moment - timedelta(seconds=span))
    except OverflowError:
        raise fields.wrong("execution_time", span, "the seconds a job ran") from None


def _ran(said: Mapping[str, Any]) -> bool:
    return (
        said["attempts"] > 0
        or said["state"] == JobState.COMPLETED
        or any(said[name] is not None for name in ("stdout", "stderr", "execution_time"))
    )


def _attempt(said: Mapping[str, Any], number: int) -> dict[str, Any]:
    completed = said["state"] == JobState.COMPLETED
    finished_at = (said["completed_at"] if completed else None) or said["updated_at"]
    error = DEAD.sub("", said["error_message"] or "", count=1)
    kind = Kind.TIMED_OUT if error.startswith(_TIMED_OUT) else Kind.FAILED
    return {
        "number": number,
        "outcome": str(Kind.SUCCEEDED if completed else kind),
        "started_at": _before(finished_at, said["execution_time"]),
        "finished_at": finished_at,
        "exit_code": None,
        "signal": None,
        "cpu_seconds": None,
        "peak_memory_bytes": None,
        "stdout_bytes": len(said["stdout"] or b""),
        "stderr_bytes": len(said["stderr"] or b""),
        "error": "" if completed else error,
        "traceback": "",
    }


def _digest(said: Mapping[str, Any]) -> str:
    """As if it had been enqueued here with what differs from a new job's defaults.

    So the command line that put it into the original's queue says "already there" here.
    """
    asked = {
        "command": said["command"],
        "priority": None if said["priority"] == 5 else said["priority"],
        "run_at": rfc3339(said["run_at"]),
    }
    return validation.digest(asked)


CONTENT = (
    "command",
    "argv",
    "max_retries",
    "created_at",
    "run_at",
    "due_at",
    "priority",
    "request_digest",
)


def is_same(said: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    """Whether a job of the file is the stored one: what it was asked to be, not how far it is.

    Both are ready values; of the stored one the columns of CONTENT.
    """
    argv = stored["argv"]
    command = stored["command"] if argv is None else join(json.loads(argv))
    # One that waits for a time nobody named is exported with that time as its run_at.
    run_at = stored["run_at"] or (said["run_at"] and stored["due_at"])
    return bool(
        said["command"] == command
        and said["max_retries"] == stored["max_retries"]
        and said["created_at"] == stored["created_at"]
        and said["run_at"] == run_at
        and (
            said["priority"] == stored["priority"]
            or said["request_digest"] == stored["request_digest"]
        )
    )
