"""What people do to many jobs: one transaction, one Event, an honest count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError
from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet

from .. import dialect
from ..exceptions import QueueCTLError
from ..models import Job
from ..models.job import JobQuerySet
from ..states import JobState
from .actor import Actor
from .changes import (
    CANCEL,
    CANCEL_OR_ASK,
    NOT_PROCESSING,
    RETRY,
    RUN_NOW,
    Change,
    to_priority,
    to_queue,
)
from .events import record
from .policy import has_quota, must, must_have_room, must_place

_BATCH, _TRIES = 500, 10


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a bulk operation, told honestly."""

    said: str
    changed: int
    left: dict[str, int]
    """How many stayed as they were, by the reason: a state, or "unique_key taken"."""

    def __str__(self) -> str:
        total = self.changed + sum(self.left.values())
        if not self.left:
            return f"{self.said} {_jobs(total)}."
        reasons = ", ".join(
            f"{n} {'was' if n == 1 else 'were'} {why}" for why, n in self.left.items()
        )
        return f"{self.said} {self.changed} of {total}; {reasons}."


def _jobs(number: int) -> str:
    return f"{number} job{'' if number == 1 else 's'}"


def retry_many(rows: JobQuerySet, actor: Actor) -> Done:
    """Bring back those that are dead. One whose unique_key an active job has taken stays dead.

    Of those that share a unique_key the first is brought back, and takes it. Raises QuotaReached.
    """
    must(actor, "operate_job", "retry", "jobs")
    if has_quota(actor):
        free = Q(unique_key__isnull=True) | Q(id__in=_first_of_each_key(rows))
        own = rows.dead().filter(free, enqueued_by=actor.name)
        must_have_room(actor, own.order_by().count(), "retry", "jobs")
    with dialect.atomic():
        now, left = dialect.now(), _left(rows, RETRY.allowed)
        changed = RETRY.apply(rows.filter(unique_key__isnull=True), now)
        changed += _retry_by_key(rows, now)
        if kept := rows.dead().filter(_has_active_twin()).count():
            left["unique_key taken"] = kept
        return _recorded(RETRY, changed, left, actor, now)


def _retry_by_key(rows: JobQuerySet, now: datetime) -> int:
    """Bring back one of each unique_key, where no active job has it; returns how many."""
    for _ in range(_TRIES):
        try:
            with dialect.atomic():
                return RETRY.apply(Job.objects.filter(id__in=_first_of_each_key(rows)), now)
        except IntegrityError as error:
            # On PostgreSQL an enqueue of such a key may commit after the statement has looked and
            # before it writes. The next one sees it.
            if not dialect.is_taken(error, Job._meta.db_table):
                raise
    raise QueueCTLError(
        "Other jobs took the same unique keys meanwhile, so nothing was retried", hint="try again"
    )


def _first_of_each_key(rows: JobQuerySet) -> QuerySet[Job, Any]:
    free = rows.dead().filter(~_has_active_twin(), unique_key__isnull=False).order_by()
    return free.values("unique_key").annotate(first=Min("id")).values("first")


def _has_active_twin() -> Exists:
    return Exists(Job.objects.active().filter(unique_key=OuterRef("unique_key")))


def run_now_many(rows: JobQuerySet, actor: Actor) -> Done:
    must(actor, "operate_job", "run now", "jobs")
    return _many(RUN_NOW, rows, actor)


def cancel_many(rows: JobQuerySet, actor: Actor) -> Done:
    """Cancel those that wait at once; those that run are asked, and count as cancelled here."""
    must(actor, "operate_job", "cancel", "jobs")
    # PostgreSQL lets workers claim and give back between two statements, so the second takes what is
    # left in either state: a row that goes from one to the other meanwhile matches all the same. Those
    # that run come last, for while their rows are locked nobody can report them. What can still be
    # missed is a job that a person enqueues or retries after the second has begun.
    return _many(CANCEL, rows, actor, then=CANCEL_OR_ASK)


def move_many(rows: JobQuerySet, queue: str, actor: Actor) -> Done:
    """Move those that wait; none if that changes rights of any and the actor may not choose them."""
    must(actor, "operate_job", "move", "jobs")
    change = to_queue(queue)
    commands = rows.filter(task__isnull=True, state__in=change.allowed)
    places = set(commands.order_by().values_list("queue", flat=True).distinct())
    for own in sorted(places):
        must_place(actor, queue, own, "move", "jobs")
    # Not what somebody else moves elsewhere meanwhile.
    among = rows.filter(Q(task__isnull=False) | Q(queue__in=places))
    return _many(change, rows, actor, among=among, note=f"to queue {queue}")


def set_priority_many(rows: JobQuerySet, priority: int, actor: Actor) -> Done:
    must(actor, "operate_job", "set priority", "jobs")
    return _many(to_priority(priority), rows, actor, note=f"to priority {priority}")


def discard_many(rows: JobQuerySet, actor: Actor) -> Done:
    """Delete those that are not processing, with their attempts and output."""
    must(actor, "delete_job", "discard", "jobs")
    with dialect.atomic():
        now, left, changed = dialect.now(), _left(rows, NOT_PROCESSING), 0
        chosen = rows.filter(state__in=NOT_PROCESSING).order_by("id")
        while ids := list(chosen.select_for_update().values_list("id", flat=True)[:_BATCH]):
            changed += Job.objects.delete_whole(ids)
        if changed:
            record(actor, "discard", _jobs(changed), now=now)
    return Done("Discarded", changed, left)


def _many(
    change: Change,
    rows: JobQuerySet,
    actor: Actor,
    *,
    then: Change | None = None,
    among: JobQuerySet | None = None,
    note: str = "",
) -> Done:
    """`among`: the only ones that may be changed."""
    with dialect.atomic():
        now, changes = dialect.now(), [change, then] if then else [change]
        left = _left(rows, changes[-1].allowed)
        changed = sum(each.apply(rows if among is None else among, now) for each in changes)
        return _recorded(change, changed, left, actor, now, note)


def _left(rows: JobQuerySet, allowed: Sequence[JobState]) -> dict[str, int]:
    """How many rows an operation will not touch, by state."""
    others = rows.exclude(state__in=allowed).order_by().values("state").annotate(number=Count("id"))
    return {row["state"]: row["number"] for row in others}


def _recorded(
    change: Change, changed: int, left: dict[str, int], actor: Actor, now: datetime, note: str = ""
) -> Done:
    if changed:
        record(actor, change.action, _jobs(changed), now=now, note=note)
        dialect.notify()
    return Done(change.said, changed, left)
