"""Our own format: JSON lines. A header names it, an end says that all of it is there.

    {"format": "queuectl", "version": 1, ...}
    {"setting": {...}}  {"queue": {...}}
    {"job": {...}}  then its {"attempt": {...}} lines, each followed by its {"output": {...}}
    {"end": {"jobs": 3}}

A line each for attempts and output, since the output of one job may be larger than memory likes.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from .. import __version__, jsontext, validation
from ..exceptions import InvalidField, InvalidText
from ..models import Attempt, Job, Queue, Stream
from ..outcome import Kind
from ..states import FINAL, JobState
from ..stats import rfc3339
from . import fields, original
from .fields import Check, optional
from .record import Record, ready
from .source import STRICT, Source, lines

FORMAT, VERSION = "queuectl", 1
PIECE = 262_144
"""Bytes of output on one line at most."""


def _empty_or(check: Check) -> Check:
    return lambda name, value: "" if value == "" else check(name, value)


_KEY_TEXT = optional(fields.job_id)
JOB: dict[str, Check] = {
    "id": fields.job_id,
    "queue": fields.validated,
    "command": optional(fields.validated),
    "argv": optional(fields.validated),
    "task": optional(validation.task_path),
    "args": fields.task_args,
    "cwd": _empty_or(fields.validated),
    "env": fields.validated,
    "state": fields.one_of(*JobState),
    "priority": fields.whole(),
    "run_at": optional(fields.moment),
    "due_at": fields.moment,
    "attempts": fields.COUNT,
    "max_retries": fields.COUNT,
    "runs": fields.whole(0, validation.MAX_RUNS),
    "losses": fields.COUNT,
    "interruptions": fields.COUNT,
    "prefetchable": fields.flag,
    "timeout": optional(fields.validated),
    "backoff_base": optional(fields.validated),
    "exit_codes": fields.json_value,
    "unique_key": _KEY_TEXT,
    "concurrency_key": _KEY_TEXT,
    "created_at": fields.moment,
    "updated_at": fields.moment,
    "started_at": optional(fields.moment),
    "finished_at": optional(fields.moment),
    "cancel_requested_at": optional(fields.moment),
    "result": fields.json_value,
    "last_error": fields.text(),
    "fingerprint": fields.text(64),
    "request_digest": fields.text(64),
    "enqueued_by": fields.ignored,
}
ATTEMPT: dict[str, Check] = {
    "job": fields.job_id,
    "number": fields.whole(1),
    "outcome": fields.one_of(*Kind),
    "started_at": optional(fields.moment),
    "finished_at": fields.moment,
    "exit_code": optional(fields.whole()),
    "signal": optional(fields.whole()),
    "cpu_seconds": optional(fields.real(0, 1e15)),
    "peak_memory_bytes": optional(fields.BIG),
    "stdout_bytes": fields.BIG,
    "stderr_bytes": fields.BIG,
    "error": fields.text(),
    "traceback": fields.text(),
}


def _base64(name: str, value: object) -> bytes:
    try:
        return base64.b64decode(value, validate=True)  # type: ignore[arg-type]
    except (TypeError, ValueError, binascii.Error):
        raise fields.wrong(name, value, "bytes in base64") from None


OUTPUT: dict[str, Check] = {
    "job": fields.job_id,
    "attempt": fields.whole(1),
    "stream": fields.one_of(*(stream.name.lower() for stream in Stream)),
    "sequence": fields.COUNT,
    "offset": fields.BIG,
    "data": _base64,
}
QUEUE: dict[str, Check] = {
    "name": lambda name, value: validation.queue(value),
    "note": fields.text(),
    "created_at": fields.moment,
    "paused_at": optional(fields.moment),
    "paused_by": fields.ignored,
    "paused_reason": fields.text(),
    "paused_until": optional(fields.moment),
}
SETTING: dict[str, Check] = {"key": fields.text(64), "value": lambda name, value: value}
END: dict[str, Check] = {"jobs": fields.BIG}


# Reading


def entries(source: Source) -> Iterator[tuple[str, Any]]:
    """The lines after the header, each with where it stands: (place, bytes).

    Raises InvalidText for a header of another version.
    """
    rest = lines(source)
    _, header = next(rest)
    given = _parsed(header, "line 1")
    if given.get("format") != FORMAT or given.get("version") != VERSION:
        raise InvalidText(
            f"{source.name} is of a format that this version cannot read",
            hint=f"it reads format {FORMAT!r}, version {VERSION}, and the original's files",
        )
    for number, line in rest:
        yield f"line {number}", line


def records(entry: bytes, now: datetime, actor: str) -> list[Record]:
    """What a line says. Raises InvalidText, InvalidField for one that is wrong."""
    given = _parsed(entry, "")
    (kind, values), *more = given.items() or [("", None)]
    if more or kind not in _READ:
        raise InvalidField(
            "line", f"Unknown line {validation.shown(kind)}", hint=f"known: {', '.join(_READ)}"
        )
    return [_READ[kind](values, actor)]


def _parsed(line: bytes, place: str) -> dict[str, Any]:
    before = f"{place}: " if place else ""
    try:
        text = line.decode()
        # Few lines have so many brackets that their depth needs a closer look.
        if text.count("[") + text.count("{") > jsontext.MAX_DEPTH:
            found = jsontext.parse(text)
        else:
            found = STRICT.decode(text)
    except UnicodeDecodeError:
        raise InvalidText(f"{before}it is not UTF-8" if place else "It is not UTF-8") from None
    except json.JSONDecodeError as error:
        hint = f"{error.msg[:1].lower()}{error.msg[1:]} at column {error.pos + 1}"
        raise InvalidText(f"{before}Invalid JSON format", hint=hint) from None
    if not isinstance(found, dict):
        raise InvalidText(f"{before}Invalid JSON format", hint="expecting an object")
    return found


def _read_job(given: object, actor: str) -> Record:
    said = fields.check_all(given, JOB, "job")
    if [said["command"], said["argv"], said["task"]].count(None) != 2:
        raise InvalidField("command", "A job has one of 'command', 'argv' and 'task'")
    if (said["state"] in FINAL) != (said["finished_at"] is not None):
        raise InvalidField("finished_at", "A job has 'finished_at' if it has ended, and only then")
    if said["state"] == JobState.PROCESSING:
        # The worker that held it is not here; what it had begun will never be reported.
        said |= {"state": str(JobState.PENDING), "started_at": None}
    if said["state"] == JobState.BLOCKED:
        # What would free it does not come along. A worker makes it pending when it is due.
        said["state"] = str(JobState.SCHEDULED)
    key = said.pop("id")
    return Record("job", key, ready(said | {"key": key, "enqueued_by": actor}))


def _read_attempt(given: object, actor: str) -> Record:
    said = fields.check_all(given, ATTEMPT, "attempt")
    return Record("attempt", said.pop("job"), ready(said))


def _read_output(given: object, actor: str) -> Record:
    said = fields.check_all(given, OUTPUT, "output")
    said["stream"] = int(Stream[said["stream"].upper()])
    return Record("output", said.pop("job"), said)


def _read_queue(given: object, actor: str) -> Record:
    said = fields.check_all(given, QUEUE, "queue")
    said["paused_by"] = actor if said["paused_at"] else ""
    return Record("queue", said["name"], said)


def _read_setting(given: object, actor: str) -> Record:
    said = fields.check_all(given, SETTING, "setting")
    return original.setting(said["key"], said["value"])


def _read_end(given: object, actor: str) -> Record:
    return Record("end", "", fields.check_all(given, END, "end"))


_READ = {
    "job": _read_job,
    "attempt": _read_attempt,
    "output": _read_output,
    "queue": _read_queue,
    "setting": _read_setting,
    "end": _read_end,
}


CONTENT = (
    "command", "argv", "task", "args", "cwd", "env", "max_retries", "run_at", "timeout", "backoff_base",
    "exit_codes", "unique_key", "concurrency_key", "created_at", "queue", "priority", "request_digest",
)  # fmt: skip
_FIXED = CONTENT[:-3]


def is_same(said: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    """Whether a job of the file is the stored one: what it was asked to be, not how far it is.

    Both are ready values; of the stored one the columns of CONTENT. A job that a person has moved,
    or given another priority, is known by its digest.
    """
    place = ("queue", "priority")
    return all(said[name] == stored[name] for name in _FIXED) and (
        all(said[name] == stored[name] for name in place)
        or (said["request_digest"] != "" and said["request_digest"] == stored["request_digest"])
    )


# Writing


def _line(kind: str, values: Mapping[str, Any]) -> str:
    return _dumps({kind: values})


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_OBEYED = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""What a terminal or an editor would obey; JSON itself spells out only what is below a space."""


def _dumps(value: object) -> str:
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", _encode(value))


def header(now: datetime) -> str:
    return _dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "exported_at": rfc3339(now),
            "by": f"QueueCTL {__version__}",
        }
    )


def setting_line(key: str, value: object) -> str:
    return _line("setting", {"key": key, "value": value})


def queue_line(queue: Queue) -> str:
    return _line("queue", {name: _plain(getattr(queue, name)) for name in QUEUE})


def job_line(job: Job) -> str:
    return _line(
        "job", {name: _plain(getattr(job, "key" if name == "id" else name)) for name in JOB}
    )


def attempt_line(key: str, attempt: Attempt) -> str:
    rest = {name: _plain(getattr(attempt, name)) for name in ATTEMPT if name != "job"}
    return _line("attempt", {"job": key, **rest})


def output_lines(key: str, number: int, chunks: Iterable[tuple[int, int, bytes]]) -> Iterator[str]:
    """The output of an attempt: (stream, offset, bytes) in order, in pieces."""
    sequences = dict.fromkeys(Stream, 0)
    for stream, offset, data in chunks:
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            values = {
                "job": key,
                "attempt": number,
                "stream": Stream(stream).name.lower(),
                "sequence": sequences[Stream(stream)],
                "offset": offset + start,
                "data": base64.b64encode(piece).decode(),
            }
            sequences[Stream(stream)] += 1
            yield _line("output", values)


def end_line(jobs: int) -> str:
    return _line("end", {"jobs": jobs})


def _plain(value: Any) -> Any:
    return rfc3339(value) if isinstance(value, datetime) else value
