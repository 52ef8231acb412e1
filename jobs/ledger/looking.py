"""Reads that take no lock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from .. import dialect
from ..models import Job, Queue
from ..outcome import Obstacle
from ..states import TIMED, JobState
from ..transitions import RETURN_DELAY
from .room import Room, choose, has_slots_for_commands_only, wanted
from .works import lease_of

SHORT_FOR = timedelta(minutes=1)
"""So long a worker that leaves when all is done waits for what it cannot start."""


def next_due() -> datetime | None:
    """When the next scheduled or failed job may run; None when there is none."""
    moments = [Job.objects.earliest_due(state) for state in TIMED]
    return min((m for m in moments if m is not None), default=None)


class First(NamedTuple):
    """What decides whether the first of a queue is taken."""

    id: int
    priority: int
    due_at: Any
    task: str | None
    losses: int
    prefetchable: bool


def is_claimable(queues: Sequence[str], room: Room) -> bool:
    """Whether there is something that a worker with such room may claim."""
    which = [wanted(room)]
    if which[0]["tasks"] and has_slots_for_commands_only(room):
        which.append(which[0] | {"tasks": False})
    found = (
        First._make(row)
        for each in which
        for queue in queues
        for row in dialect.pending(Job, First._fields, queue, 1, **each)
    )
    if room.free:  # then the first of one queue holds up hardly ever one of another: a vain turn
        return any(_is_spoilt(first) or choose([first], room) for first in found)
    firsts = list(found)
    return any(map(_is_spoilt, firsts)) or bool(choose(firsts, room))


def _is_spoilt(first: First) -> bool:
    """It has no place in line: a turn ends it."""
    whole = type(first.priority) is type(first.losses) is int
    return not (whole and dialect.is_stored_time(first.due_at, dialect.times_have_zones()))


class Survey(NamedTuple):
    due: bool
    """Whether promote would find anything."""

    queues: list[str]
    """Those a worker may claim from, in the order of their names; of many, those with something pending."""


def survey(only: Sequence[str], now: datetime) -> Survey:
    """What a worker of these queues (all, where none are named) may promote, and where it may claim."""
    return Survey(*dialect.survey(Job, Queue, states=TIMED, only=only, now=now))


def queues_without_rows() -> list[str]:
    """Names of queues that only their pending jobs know: a hand has moved those, or taken the row away."""
    return dialect.queues_without_rows(Job, Queue)


def is_empty(queues: Sequence[str], now: datetime) -> bool:
    """Nothing is pending, processing or between retries in these queues (all, where none are named).

    Nor put off for a moment, since this machine was short of something; for a minute, no longer.
    """
    busy = (JobState.PENDING, JobState.PROCESSING, JobState.FAILED)
    soon = Job.objects.due(JobState.SCHEDULED, now + 2 * RETURN_DELAY[Obstacle.SHORT])
    rows = [
        *(Job.objects.filter(state=state) for state in busy),
        soon.filter(put_off_since__gt=now - SHORT_FOR),
    ]
    # Queue by queue, and not by exists(), which drops the order: so each is the first row of an index.
    each = [
        found.in_queues(only) for found in rows for only in ([[name] for name in queues] or [[]])
    ]
    return not any(found.order_by("due_at").values_list("id")[:1] for found in each)


def cancel_requests(worker_id: int) -> set[str]:
    """Leases of this worker whose jobs a person wants stopped."""
    asked = Job.objects.held_by(worker_id).filter(cancel_requested_at__isnull=False)
    return {lease_of(job.lease, job.id) for job in asked.only("lease") if job.lease}
