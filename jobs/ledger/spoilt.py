"""Rows that nobody can run, spoilt by a hand or too long. They end as dead; their neighbours run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from operator import attrgetter, or_
from typing import Any
from uuid import UUID

from django.db.models import F, Q

from .. import dialect, signatures, validation
from ..models import Attempt, Job, Queue, Setting, Worker
from ..states import WAITING, JobState
from .works import MOST, NUMBERS, Row, anew, is_number

logger = logging.getLogger(__name__)

_LIMITS = {"timeout": float(validation.MAX_TIMEOUT), "backoff_base": sys.float_info.max}
"""The most that each may be. PostgreSQL keeps NaN and infinity, SQLite the latter."""

_ALWAYS = ("due_at", "created_at")
_TIMES = (*_ALWAYS, "run_at", "put_off_since")
_whole = attrgetter(*NUMBERS)
_MOST_ARGS = 50_331_648
"""Bytes of a task's arguments that a worker can send to its runner: a frame holds 64 MiB, and the rest
of the job comes along. Far more than may be asked for, since PostgreSQL writes 1e308 with all its digits.
"""

_DEEP = "deep "
"""Before the name of a field that is nested too deeply for anybody to read."""

_RELEASED: dict[str, Any] = {"lease": None, "worker": None}
_EMPTY: dict[str, Any] = {"env": {}, "argv": []}
_EDITED = "Somebody has edited its row in the database."
UNSIGNED = {
    signatures.ABSENT: "it has no signature, and this site runs no job without one.",
    signatures.BAD: "bad signature. What it runs was changed in the database, or another key signed it.",
}
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def flaw(row: Row, zoned: bool) -> str:
    """The first field that makes a row unfit to be run, or nothing.

    SQLite keeps any value in any column, and both databases any JSON in a JSON column. `zoned`: whether
    its times have zones.
    """
    _, *counts = numbers = _whole(row)
    if {*map(type, numbers)} != {int} or max(counts) > MOST:
        return next(name for name in NUMBERS if not is_number(name, getattr(row, name)))
    for name in _LIMITS:
        if (number := getattr(row, name)) is not None and not _is_within(number, _LIMITS[name]):
            return name
    if row.env != "{}" and (wrong := _json_flaw("env", row.env, _is_object_of_texts)):
        return wrong
    if row.argv is not None and (wrong := _json_flaw("argv", row.argv, _is_list_of_texts)):
        return wrong
    # What is not a time in SQLite, its converter reads as none.
    if not dialect.is_stored_time(row.due_at, zoned):
        return "due_at"
    if row.created_at is None:
        return "created_at"
    if row.args is not None and _is_too_long(row.args):
        return "args"
    return signatures.flaw(row)


def _is_within(number: object, most: float) -> bool:
    return isinstance(number, int | float) and 0 <= number <= most


def _is_too_long(args: object) -> bool:
    """The first look is cheap: a character takes at most four bytes."""
    if not isinstance(args, str) or len(args) * 4 <= _MOST_ARGS:
        return False
    return len(args.encode()) > _MOST_ARGS


def _json_flaw(name: str, stored: Any, is_sound: Callable[[object], bool]) -> str:
    try:
        return "" if is_sound(dialect.as_json(stored)) else name
    except RecursionError:
        return f"{_DEEP}{name}"


def _is_object_of_texts(env: object) -> bool:
    return isinstance(env, dict) and all(isinstance(value, str) for value in env.values())


def _is_list_of_texts(argv: object) -> bool:
    return isinstance(argv, list) and bool(argv) and all(isinstance(word, str) for word in argv)


def bury(spoilt: Mapping[int, str], now: datetime, *, lease: UUID | None = None) -> None:
    """End pending jobs, or those claimed by a lease, each for the field that is spoilt.

    One that nobody could read is mended.
    """
    which, released = Q(state=JobState.PENDING), {}
    if lease is not None:
        which, released = Q(state=JobState.PROCESSING, lease=lease), _RELEASED
    for job_id, name in spoilt.items():
        wrong, mended = _wrong(job_id, name, now)
        logger.error("job number %d cannot be run: %s", job_id, wrong)
        _end(which & Q(id=job_id), f"Could not start: {wrong}", now, mended | released)


def _wrong(job_id: int, name: str, now: datetime) -> tuple[str, dict[str, Any]]:
    """What is wrong in words, and the values that mend it."""
    if name in UNSIGNED:
        return UNSIGNED[name], {}
    if name == "args":
        return f"its args are longer than the {_MOST_ARGS:,} bytes that a worker can send.", {}
    field, mended = name.removeprefix(_DEEP), {}
    if name.startswith(_DEEP):
        word, mended = "was nested too deeply to be read, and is emptied", {field: _EMPTY[field]}
    elif name == "env":
        word = "is not an object of texts"
    elif name == "argv":
        word = "is not a list of texts"
    elif name in _ALWAYS:
        word, mended = "is not a time", {name: now}
    else:
        whole = "whole " if name in NUMBERS else ""
        word = f"is not a {whole}number within its bounds"
        mended = {name: anew(job_id, name)}
    return f"its {field} {word}. {_EDITED}", mended


def bury_held(ids: Sequence[int], why: str, now: datetime) -> None:
    """End jobs that a dead worker held under a lease that nobody can read, nor report by."""
    error = f"{why}; its lease cannot be read. {_EDITED}"
    # It may have run: no later attempt takes that number.
    ran = {"runs": F("runs") + 1}
    _end(Q(id__in=ids, state=JobState.PROCESSING), error, now, _RELEASED | ran)


def bury_unreadable(now: datetime) -> int:
    """End waiting jobs that the driver cannot read; their rows, and others that workers read, are mended."""
    return _bury_what_is_no_text(now) + _bury_what_is_no_time(now)


def name_queues(jobs: Iterable[tuple[int, str]]) -> None:
    """Put pending jobs into the queues of these names: a hand has put their names as bytes."""
    for job_id, name in jobs:
        logger.warning("job number %d is in queue %r, put as bytes", job_id, name)
        dialect.name_queue(Job, job_id, name)


def _bury_what_is_no_text(now: datetime) -> int:
    """Bytes that are no UTF-8, which SQLite takes for a text."""
    states = [*WAITING, JobState.PROCESSING]
    past = Attempt.objects.filter(job__state__in=states)
    for rows in (Queue.objects.all(), Setting.objects.all(), Worker.objects.all(), past):
        if mended := dialect.mend_texts(rows):
            table = rows.model._meta.db_table
            logger.error("%d rows of %s had texts that are not UTF-8", len(mended), table)
    by_name: dict[str, list[int]] = {}
    for job_id, names in dialect.mend_texts(Job.objects.filter(state__in=states)).items():
        # What no claim reads, as its last error, is mended and ends nothing.
        if read := [name for name in names if name in Row._fields]:
            by_name.setdefault(read[0], []).append(job_id)
    ended = 0
    for name, ids in by_name.items():
        logger.error("jobs number %s: their %s is not UTF-8", ids, name)
        error = f"Could not start: its {name} is not a readable text. {_EDITED}"
        ended += _end(Q(id__in=ids, state__in=WAITING), error, now, {})
    return ended


def _bury_what_is_no_time(now: datetime) -> int:
    """A time that Python cannot hold: PostgreSQL's infinity, a 13th month in SQLite."""
    beyond = {name: Q(**{f"{name}__gt": _LAST}) | Q(**{f"{name}__lt": _FIRST}) for name in _TIMES}
    for name, ids in dialect.no_times(Job, _TIMES, WAITING).items():
        beyond[name] |= Q(id__in=ids)
    any_of_them = reduce(or_, beyond.values())
    spoilt = list(Job.objects.waiting().filter(any_of_them).values_list("id", flat=True))
    for name, wrong in beyond.items():
        mended = now if name in _ALWAYS else None
        Job.objects.filter(wrong, id__in=spoilt).update(**{name: mended})
    error = f"Could not start: one of its times is beyond the calendar. {_EDITED}"
    return _end(Q(id__in=spoilt), error, now, {})


def _end(which: Q, error: str, now: datetime, mended: Mapping[str, Any]) -> int:
    return Job.objects.filter(which).update(
        state=JobState.DEAD, finished_at=now, updated_at=now, last_error=error, **mended
    )
