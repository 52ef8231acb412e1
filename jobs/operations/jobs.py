from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from django.db import IntegrityError
from django.db.models import Case, Count, Exists, F, Min, OuterRef, Q, QuerySet, Value, When

from .. import dialect, validation
from ..exceptions import AmbiguousId, DuplicateKey, JobNotFound, QueueCTLError, WrongState
from ..models import Job, Queue
from ..models.job import JobQuerySet
from ..states import TIMED, WAITING, JobState
from .actor import Actor
from .enqueue import Enqueued, copy
from .events import record
from .policy import must, must_place

NOT_PROCESSING = tuple(state for state in JobState if state is not JobState.PROCESSING)
_BATCH, _TRIES = 500, 10


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


# Finding


def find(text: str, *, by_prefix: bool = True) -> Job:
    """The job people call this: the exact id, else the one id that begins with it.

    Raises JobNotFound with the closest ids, AmbiguousId with up to five.
    """
    if text != validation.storable(text):
        raise JobNotFound(text)  # PostgreSQL would not even be asked: it refuses such text
    job = Job.objects.filter(key=text).first()
    if job is not None:
        return job
    matches = list(Job.objects.by_prefix(text)[:6]) if by_prefix and text else []
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise AmbiguousId(text, [match.key for match in matches[:5]])
    near = Job.objects.by_prefix(text[:2]) if text else Job.objects.none()
    raise JobNotFound(text, get_close_matches(text, near.values_list("key", flat=True)[:1000], n=3))


# One job


def retry(job: Job, actor: Actor) -> Job:
    """Bring a dead job back: pending now, its failures counted anew; attempt numbers go on.

    Raises WrongState unless it is dead, DuplicateKey if an active job took its unique_key.
    """
    must(actor, "operate_job", "retry", f"job {job.key}")
    try:
        return _one(RETRY, job, actor)
    except IntegrityError:
        raise DuplicateKey(None if actor.lacks("view_input") else job.unique_key) from None


def run_now(job: Job, actor: Actor) -> Job:
    """Let a scheduled or failed job run at the next turn instead of at its time."""
    must(actor, "operate_job", "run now", f"job {job.key}")
    return _one(RUN_NOW, job, actor)


def cancel(job: Job, actor: Actor) -> Job:
    """Stop a job: one that waits is cancelled at once; one that runs is asked, then killed.

    The job returned says which: cancelled, or processing with `cancel_requested_at`.
    Raises WrongState for a final one.
    """
    must(actor, "operate_job", "cancel", f"job {job.key}")
    return _one(CANCEL, job, actor, or_else=ASK_TO_CANCEL)


def move(job: Job, queue: str, actor: Actor) -> Job:
    """Put a waiting job into another queue, at its place in line.

    Where that changes the user its command runs as, or its rights, it takes what submitting a command takes.
    Raises WrongState, InvalidField, NotPermitted.
    """
    must(actor, "operate_job", "move", f"job {job.key}")
    change = _to_queue(queue)
    _must_place(job, queue, actor)
    with dialect.atomic():
        _must_place(_locked(job), queue, actor)  # somebody may have moved it since it was read
        return _one(change, job, actor, note=f"to queue {queue}")


def _must_place(job: Job, queue: str, actor: Actor) -> None:
    if job.task is None:  # a task runs as the worker's user wherever it is
        must_place(actor, queue, job.queue, "move", f"job {job.key}")


def set_priority(job: Job, priority: int, actor: Actor) -> Job:
    """Change the priority of a waiting job. Raises WrongState, InvalidField."""
    must(actor, "operate_job", "set priority", f"job {job.key}")
    return _one(_to_priority(priority), job, actor, note=f"to priority {priority}")


def run_again(job: Job, actor: Actor) -> Enqueued:
    """Enqueue a copy of any job, with an id of its own; the job itself stays as it is."""
    return copy(job, actor)


def discard(job: Job, actor: Actor, *, only: Sequence[JobState] = NOT_PROCESSING) -> None:
    """Delete a job with its attempts and output. Raises WrongState while it is processing."""
    must(actor, "delete_job", "discard", f"job {job.key}")
    with dialect.atomic():
        now, locked = dialect.now(), _locked(job)
        if locked.state not in only:
            raise WrongState(job.key, locked.state, only)
        Job.objects.delete_whole([locked.id])
        record(actor, "discard", f"job {job.key}", now=now, before=locked.state)


# Many jobs: one transaction, one Event, an honest count


def retry_many(rows: JobQuerySet, actor: Actor) -> Done:
    """Bring back those that are dead. One whose unique_key an active job has taken stays dead.

    Of those that share a unique_key the first is brought back, and takes it.
    """
    must(actor, "operate_job", "retry", "jobs")
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
    change, commands = _to_queue(queue), rows.filter(task__isnull=True)
    places = set(commands.order_by().values_list("queue", flat=True).distinct())
    for own in sorted(places):
        must_place(actor, queue, own, "move", "jobs")
    # Not what somebody else moves elsewhere meanwhile.
    rows = rows.filter(Q(task__isnull=False) | Q(queue__in=places))
    return _many(change, rows, actor, note=f"to queue {queue}")


def set_priority_many(rows: JobQuerySet, priority: int, actor: Actor) -> Done:
    must(actor, "operate_job", "set priority", "jobs")
    return _many(_to_priority(priority), rows, actor, note=f"to priority {priority}")


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


# How


def _to_queue(queue: str) -> Change:
    name = validation.queue(queue)

    def values(now: datetime) -> dict[str, Any]:
        Queue.objects.ensure([name], now)
        return {"queue": name}

    return Change("move", "Moved", WAITING, values)


def _to_priority(priority: int) -> Change:
    checked = validation.CHECKS["priority"](priority)
    return Change("set priority", "Changed", WAITING, lambda now: {"priority": checked})


def _one(
    change: Change, job: Job, actor: Actor, *, or_else: Change | None = None, note: str = ""
) -> Job:
    """Lock the row, change it if its state allows that, and leave the Event: one transaction."""
    changes = [change, or_else] if or_else else [change]
    with dialect.atomic():
        now, before = dialect.now(), _locked(job)
        if not any(each.apply(Job.objects.filter(id=job.id), now) for each in changes):
            allowed = [state for each in changes for state in each.allowed]
            message = change.refusal.format(before.key, before.state)
            raise WrongState(before.key, before.state, allowed, message)
        after = Job.objects.get(id=job.id)
        record(
            actor,
            change.action,
            f"job {job.key}",
            now=now,
            before=before.state,
            after=after.state,
            note=note,
        )
        dialect.notify()
    return after


def _many(
    change: Change, rows: JobQuerySet, actor: Actor, *, then: Change | None = None, note: str = ""
) -> Done:
    with dialect.atomic():
        now, changes = dialect.now(), [change, then] if then else [change]
        left = _left(rows, changes[-1].allowed)
        changed = sum(each.apply(rows, now) for each in changes)
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


def _locked(job: Job) -> Job:
    locked = Job.objects.select_for_update().filter(id=job.id).first()
    if locked is None:
        raise JobNotFound(job.key)
    return locked
