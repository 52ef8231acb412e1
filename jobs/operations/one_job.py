"""What people do to one job: its row is locked, changed if its state allows that, and an Event left."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import IntegrityError

from .. import dialect
from ..exceptions import DuplicateKey, JobNotFound, WrongState
from ..models import Job
from ..states import JobState
from .actor import Actor
from .changes import (
    ASK_TO_CANCEL,
    CANCEL,
    NOT_PROCESSING,
    RETRY,
    RUN_NOW,
    Change,
    to_priority,
    to_queue,
)
from .enqueue import copy
from .events import record
from .policy import must, must_have_room, must_place
from .storing import Enqueued


def retry(job: Job, actor: Actor) -> Job:
    """Bring a dead job back: pending now, its failures counted anew; attempt numbers go on.

    Raises WrongState unless it is dead, DuplicateKey if an active job took its unique_key, QuotaReached.
    """
    must(actor, "operate_job", "retry", f"job {job.key}")
    if job.state == JobState.DEAD and job.enqueued_by == actor.name:
        must_have_room(actor, 1, "retry", f"job {job.key}")
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
    change = to_queue(queue)
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
    return _one(to_priority(priority), job, actor, note=f"to priority {priority}")


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


def _locked(job: Job) -> Job:
    locked = Job.objects.select_for_update().filter(id=job.id).first()
    if locked is None:
        raise JobNotFound(job.key)
    return locked
