from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from difflib import get_close_matches

from django.db import IntegrityError

from .. import dialect
from ..exceptions import AmbiguousId, DuplicateKey, JobNotFound, WrongState
from ..models import Attempt, Job, Output
from ..states import TIMED, WAITING, JobState
from .actor import Actor
from .events import record

NOT_PROCESSING = tuple(state for state in JobState if state is not JobState.PROCESSING)
_BATCH = 500


def find(text: str, *, by_prefix: bool = True) -> Job:
    """The job people call this: the exact id, else the one id that begins with it.

    Raises JobNotFound with the closest ids, AmbiguousId with up to five.
    """
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


def retry(job: Job, actor: Actor) -> Job:
    """Bring a dead job back: pending now, its failures counted anew; attempt numbers go on.

    Raises WrongState unless it is dead, DuplicateKey if an active job took its unique_key.
    """
    actor.must("operate_job")
    message = f"Job '{job.key}' is not in Dead Letter Queue"
    try:
        return _change(job, actor, "retry", (JobState.DEAD,), _revive, message)
    except IntegrityError:
        raise DuplicateKey(job.unique_key or "") from None


def run_now(job: Job, actor: Actor) -> Job:
    """Let a scheduled or failed job run at the next turn instead of at its time."""
    actor.must("operate_job")
    return _change(job, actor, "run now", TIMED, _hurry)


def cancel(job: Job, actor: Actor) -> Job:
    """Stop a job: one that waits is cancelled at once; one that runs is asked, then killed.

    The job returned says which: cancelled, or processing with `cancel_requested_at`.
    Raises WrongState for a final one.
    """
    actor.must("operate_job")
    return _change(job, actor, "cancel", (*WAITING, JobState.PROCESSING), _cancel)


def discard(job: Job, actor: Actor, *, only: Sequence[JobState] = NOT_PROCESSING) -> None:
    """Delete a job with its attempts and output. Raises WrongState while it is processing."""
    actor.must("delete_job")
    with dialect.atomic():
        now = dialect.now()
        locked = _locked(job, only)
        _delete([locked.id])
        record(actor, "discard", f"job {job.key}", now=now, before=locked.state)


def retry_all_dead(actor: Actor) -> tuple[int, int]:
    """Bring every dead job back, in one transaction with one Event: how many, and how many stayed.

    Those stay whose unique_key an active job has taken meanwhile, or shares with another dead one.
    """
    actor.must("operate_job")
    with dialect.atomic():
        now = dialect.now()
        dead = Job.objects.dead()
        done = dead.filter(unique_key__isnull=True).update(
            state=JobState.PENDING, due_at=now, attempts=0, losses=0, interruptions=0, last_error="",
            started_at=None, finished_at=None, cancel_requested_at=None, updated_at=now,
        )  # fmt: skip
        left = 0
        for job in dead.filter(unique_key__isnull=False).order_by("id"):
            try:
                with dialect.atomic():
                    _revive(job, now)
                    job.save()
                done += 1
            except IntegrityError:
                left += 1
        if done:
            record(actor, "retry", f"{done} dead jobs", now=now, before="dead", after="pending")
            dialect.notify()
    return done, left


def discard_all_dead(actor: Actor) -> int:
    """Delete every dead job, in one transaction with one Event; returns how many."""
    actor.must("delete_job")
    done = 0
    with dialect.atomic():
        now = dialect.now()
        while ids := list(Job.objects.dead().order_by("id").values_list("id", flat=True)[:_BATCH]):
            _delete(ids)
            done += len(ids)
        if done:
            record(actor, "discard", f"{done} dead jobs", now=now, before="dead")
    return done


def _delete(ids: Sequence[int]) -> None:
    """Not QuerySet.delete(): it would load every attempt and chunk of output first."""
    Output.objects.filter(job_id__in=ids)._raw_delete(using=dialect.alias())
    Attempt.objects.filter(job_id__in=ids)._raw_delete(using=dialect.alias())
    Job.objects.filter(id__in=ids)._raw_delete(using=dialect.alias())


def _change(
    job: Job,
    actor: Actor,
    action: str,
    allowed: Sequence[JobState],
    change: Callable[[Job, datetime], None],
    message: str = "",
) -> Job:
    """Lock the row, check its state, change it, and leave the Event: one transaction."""
    with dialect.atomic():
        now = dialect.now()
        locked = _locked(job, allowed, message)
        before = locked.state
        change(locked, now)
        locked.updated_at = now
        locked.save()
        record(actor, action, f"job {job.key}", now=now, before=before, after=locked.state)
        dialect.notify()
    return locked


def _locked(job: Job, allowed: Sequence[JobState], message: str = "") -> Job:
    locked = Job.objects.select_for_update().filter(id=job.id).first()
    if locked is None:
        raise JobNotFound(job.key)
    if locked.state not in allowed:
        raise WrongState(job.key, locked.state, allowed, message)
    return locked


def _revive(job: Job, now: datetime) -> None:
    job.state = JobState.PENDING
    job.due_at = now
    job.attempts = job.losses = job.interruptions = 0
    job.last_error = ""
    job.started_at = job.finished_at = job.cancel_requested_at = None


def _hurry(job: Job, now: datetime) -> None:
    job.due_at = now


def _cancel(job: Job, now: datetime) -> None:
    if job.state == JobState.PROCESSING:
        job.cancel_requested_at = job.cancel_requested_at or now
    else:
        job.state, job.finished_at = JobState.CANCELLED, now
