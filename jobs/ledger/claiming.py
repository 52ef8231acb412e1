"""Jobs become a worker's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from django.db.models import Case, F, Q, TextField, Value, When
from django.db.models.functions import Left

from .. import conf, dialect, transitions
from ..models import Attempt, Job, Queue
from ..work import Run, Work
from . import submitters, writing
from .room import Room, choose, has_slots_for_commands_only, limits, place, wanted
from .spoilt import bury, flaw
from .works import Row, token_of, work_of

_ROUNDS = 100

TOLD, TOLD_IN_FULL, BRIEFLY = 200, 20, 200
"""So many earlier attempts a running task's result tells of: of the last ones with the traceback, of
those before with the beginning of the error, in characters. A message to a runner stays small."""


def claim(
    worker_id: int, queues: Sequence[str], room: Room, *, policy: conf.Policy, now: datetime
) -> list[Work]:
    """Take as many jobs as there is room for, best first.

    Each gets a fresh lease. One LIMIT probe per queue on the claim's index, locking as it reads;
    returns [] when nothing is pending. A job that a worker died holding is never taken ahead; one
    whose cancellation was asked for while it ran, and which came back all the same, ends here, and
    so does one whose row nobody can run.
    """
    last, token = limits().wary_losses, uuid4()
    zone, zoned = dialect.zone(), dialect.times_have_zones()
    works = [
        work_of(job, token, ahead, policy, zone, wary=job.losses >= last)
        for job, ahead in choose(_fit(queues, room, zoned, now), room)
    ]
    held: list[Work] = []
    for ahead in (False, True):
        part = [work for work in works if work.ahead is ahead]
        started_at = None if ahead else now
        ids = [work.job_id for work in part]
        taken = dialect.take(
            Job, ids, lease=token, worker_id=worker_id, started_at=started_at, now=now
        )
        if taken < len(ids):
            # Only where rows are not locked as they are read, and somebody was between.
            ours = Job.objects.held_by(worker_id).filter(lease=token).values_list("id", flat=True)
            part = [work for work in part if work.job_id in set(ours)]
        held += part
    writing.write(
        [
            writing.row(transitions.cancelled(w, now), w, None, now)
            for w in held
            if w.cancel_requested
        ]
    )
    return _with_past([work for work in held if not work.cancel_requested])


def claim_at_once(
    worker_id: int, queues: Sequence[str], room: Room, *, policy: conf.Policy
) -> list[Work] | None:
    """The short way of a worker with empty hands: the first jobs in line, by one statement of its own.

    Begins and ends outside a transaction. None where `claim` has to be asked, which knows more of what
    there may be to do. What it takes and nobody can run ends here, or stays for that.
    """
    limit, token = min(room.free, room.tasks, room.wary), uuid4()
    if not (limit and queues) or conf.get().HOLD_JOBS_OF_DISABLED_USERS:
        return None
    zone, zoned, last = dialect.zone(), dialect.times_have_zones(), limits().wary_losses
    first = dialect.FirstInLine(Job, Queue, Row._fields, queues, limit, token, worker_id)
    taken = dialect.take_at_once(first, lambda row: not flaw(Row._make(row), zoned))
    if taken is None:
        return None
    found = [Row._make(row) for row in taken]
    if spoilt := {job.id: name for job in found if (name := flaw(job, zoned))}:
        with dialect.turn() as now:
            bury(spoilt, now, lease=token)
    fit = sorted((job for job in found if job.id not in spoilt), key=place)
    return _with_past(
        [work_of(job, token, False, policy, zone, wary=job.losses >= last) for job in fit]
    )


def _fit(queues: Sequence[str], room: Room, zoned: bool, now: datetime) -> list[Row]:
    """The first in line that may run. Those before them end, or wait aside, a bounded number a turn."""
    for _ in range(_ROUNDS):
        found = _first(queues, room)
        spoilt = {job.id: name for job in found if (name := flaw(job, zoned))}
        barred = submitters.barred(found)
        if barred is None:
            return []
        if not spoilt and not barred:
            return found
        bury(spoilt, now)
        submitters.hold({job.queue for job in found if job.enqueued_by in barred}, barred, now)
    return []


def _first(queues: Sequence[str], room: Room) -> list[Row]:
    """The first in line of each queue, as many as there is room for."""
    found: list[Row] = []
    limit, which = room.free + room.ahead, wanted(room)
    for queue in queues:
        rows = _pending(queue, limit, which)
        commands = sum(row.task is None for row in rows)
        if len(rows) == limit and commands < room.free and has_slots_for_commands_only(room):
            # Behind tasks for which there is no process are commands for which a slot is free.
            known = {row.id for row in rows}
            more = _pending(queue, room.free, which | {"tasks": False})
            rows += [row for row in more if row.id not in known]
        found += rows
    return found


def _pending(queue: str, limit: int, which: dict[str, Any]) -> list[Row]:
    rows = dialect.pending(Job, Row._fields, queue, limit, lock=True, **which)
    return [Row._make(row) for row in rows]


def _with_past(works: Sequence[Work]) -> list[Work]:
    """Give tasks that ran before their last attempts, which their results name."""
    again = [work.job_id for work in works if work.about and work.number > 1]
    if not again:
        return list(works)
    past: dict[int, list[Run]] = {job_id: [] for job_id in again}
    runs = F("job__runs")
    recent = Q(number__gt=runs - TOLD_IN_FULL)
    last = Attempt.objects.filter(job_id__in=again, number__range=(runs - TOLD + 1, runs))
    attempts = last.order_by("job_id", "number")
    for each in attempts.only("job", "started_at", "outcome").annotate(
        said=Case(
            When(recent, then="error"), default=Left("error", BRIEFLY), output_field=TextField()
        ),
        text=Case(When(recent, then="traceback"), default=Value(""), output_field=TextField()),
        by=F("worker__name"),
    ):
        began = each.started_at.timestamp() if each.started_at else None
        past[each.job_id].append(Run(began, each.outcome, each.said, each.text, each.by or ""))
    return [
        work._replace(about=work.about._replace(past=tuple(past[work.job_id])))
        if work.about and work.job_id in past
        else work
        for work in works
    ]


def mark_started(starts: Iterable[tuple[Work, datetime]], now: datetime) -> None:
    """Record that jobs claimed ahead have started, so that a rescue knows."""
    dialect.update_rows(
        Job,
        columns=["started_at", "updated_at"],
        guard=["lease"],
        rows=[(work.job_id, started_at, now, token_of(work)) for work, started_at in starts],
    )


def distrust(works: Sequence[Work]) -> None:
    """Never claim these ahead again: whatever held them died, and they may be why."""
    if works:
        Job.objects.filter(id__in=[work.job_id for work in works]).update(prefetchable=False)
