"""What an operation does to a job's row, and from which states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Case, F, Q, Value, When

from .. import conf, dialect, signatures, validation
from ..models import Job, Queue
from ..models.job import JobQuerySet
from ..states import TIMED, WAITING, JobState

_BATCH = 500
NOT_PROCESSING = tuple(state for state in JobState if state is not JobState.PROCESSING)


@dataclass(frozen=True, slots=True)
class Change:
    """What an operation does to a row, as one guarded UPDATE: only from these states, these values."""

    action: str
    said: str
    """In the past, for people: "Retried 3 jobs"."""

    allowed: Sequence[JobState]
    values: Callable[[datetime], dict[str, Any]]
    refusal: str = "Job '{}' is {}"

    def apply(self, rows: JobQuerySet, now: datetime) -> int:
        """Change the rows that are in an allowed state; returns how many were."""
        return rows.filter(state__in=self.allowed).update(**self.values(now), updated_at=now)


def _revived(now: datetime) -> dict[str, Any]:
    return {
        "state": JobState.PENDING,
        "due_at": now,
        "attempts": 0,
        "losses": 0,
        "interruptions": 0,
        "last_error": "",
        "started_at": None,
        "finished_at": None,
        "cancel_requested_at": None,
    }


RETRY = Change(
    "retry", "Retried", (JobState.DEAD,), _revived, "Job '{}' is not in Dead Letter Queue"
)
RUN_NOW = Change("run now", "Hurried", TIMED, lambda now: {"due_at": now})
CANCEL = Change(
    "cancel", "Cancelled", WAITING, lambda now: {"state": JobState.CANCELLED, "finished_at": now}
)
ASK_TO_CANCEL = Change(
    "cancel", "Asked to cancel", (JobState.PROCESSING,), lambda now: {"cancel_requested_at": now}
)


def _cancelled_or_asked(now: datetime) -> dict[str, Any]:
    waits, runs = Q(state__in=CANCEL.allowed), Q(state__in=ASK_TO_CANCEL.allowed)
    changes = ((CANCEL, waits), (ASK_TO_CANCEL, runs))
    return {
        name: Case(When(which, then=Value(value)), default=F(name))
        for change, which in changes
        for name, value in change.values(now).items()
    }


CANCEL_OR_ASK = Change("cancel", "Cancelled", (*WAITING, JobState.PROCESSING), _cancelled_or_asked)
"""Either, by the state that a row has when it is locked."""


@dataclass(frozen=True, slots=True)
class Move(Change):
    """The queue is made if any job moves there. A signature names it, so where jobs are signed, each
    that moves is signed anew.
    """

    def apply(self, rows: JobQuerySet, now: datetime) -> int:
        values = self.values(now)
        if moved := self._move(rows, values, now):
            Queue.objects.ensure([values["queue"]], now)
        return moved

    def _move(self, rows: JobQuerySet, values: dict[str, Any], now: datetime) -> int:
        if conf.get().SIGNATURES == "off":
            return rows.filter(state__in=self.allowed).update(**values, updated_at=now)
        moved, last = 0, 0
        chosen = rows.filter(state__in=self.allowed).order_by("id").select_for_update()
        while batch := list(chosen.filter(id__gt=last)[:_BATCH]):
            signed = [(job.id, values["queue"], _resigned(job, **values), now) for job in batch]
            columns = ["queue", "signature", "updated_at"]
            moved += len(dialect.update_rows(Job, columns=columns, guard=[], rows=signed))
            last = batch[-1].id
        return moved


def _resigned(job: Job, queue: str) -> str | None:
    """What is not signed stays so, and a bad signature bad: to move a job vouches for nothing else."""
    if not job.signature or signatures.flaw(job):
        return job.signature
    job.queue = queue
    return signatures.sign(job)


def to_queue(queue: str) -> Change:
    name = validation.queue(queue)
    return Move("move", "Moved", WAITING, lambda now: {"queue": name})


def to_priority(priority: int) -> Change:
    checked = validation.CHECKS["priority"](priority)
    return Change("set priority", "Changed", WAITING, lambda now: {"priority": checked})
