"""The decision: what becomes of a job after an attempt. Pure; it saves nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from . import backoff
from .outcome import Kind, Obstacle, Outcome
from .states import JobState
from .work import Work

ON_REQUEST = "cancelled on request"
RETURN_DELAY = {Obstacle.SHORT: timedelta(seconds=1), Obstacle.UNKNOWN_TASK: timedelta(seconds=30)}
"""How long a job waits that could not start through no fault of its own."""

UNKNOWN_FOR = timedelta(days=1)
"""A task that no worker has known for so long is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often a job may be lost with its worker, or interrupted, in one series."""

    max_lost: int
    max_interrupts: int

    @property
    def wary_losses(self) -> int:
        """A job that was lost this often has one loss left, and had more."""
        return max(1, self.max_lost - 1)


class Transition(NamedTuple):
    """Where a job goes and what its row says then. Made by the functions below only."""

    state: JobState
    reason: str
    attempts: int
    losses: int
    interruptions: int
    last_error: str
    due_at: datetime | None = None
    """None: keeps its place in line."""

    finished_at: datetime | None = None
    ran: bool = True
    """False: the claim is given back, no attempt is written."""

    put_off_since: datetime | None = None
    """Since when the job could not be started through no fault of its own."""

    number_used: bool = False
    """Whether the next run has a new number all the same: this one may have begun."""

    @property
    def is_as_it_came(self) -> bool:
        """A claim that goes back unstarted leaves what its row says of the last run."""
        return self.state is JobState.PENDING and not self.ran


def after(work: Work, outcome: Outcome, now: datetime, limits: Limits) -> Transition:
    """Decide. A job whose cancellation was asked for never goes on to another run."""
    transition = _after(work, outcome, now, limits)
    if not work.cancel_requested or transition.finished_at is not None:
        return transition
    return transition._replace(
        state=JobState.CANCELLED, reason=ON_REQUEST, due_at=None, finished_at=now
    )


def released(work: Work, now: datetime, *, in_doubt: bool = False) -> Transition:
    """A claim that never started goes back as it came, at no cost, unless it was cancelled.

    `in_doubt`: whoever held it died, perhaps a moment after starting it. Then its number is used
    up, so that no two runs ever take themselves for the same attempt.
    """
    if work.cancel_requested:
        return cancelled(work, now)
    back = _again(work, "released before it started", ran=False)
    return back._replace(number_used=in_doubt, put_off_since=work.put_off_since)


def cancelled(work: Work, now: datetime) -> Transition:
    """A claimed job that must not run any more ends instead; no attempt is written."""
    return _ended(work, JobState.CANCELLED, ON_REQUEST, now, "", ran=False)


def _after(work: Work, outcome: Outcome, now: datetime, limits: Limits) -> Transition:
    error = outcome.error
    match outcome.kind:
        case Kind.SUCCEEDED:
            return _ended(work, JobState.COMPLETED, "succeeded", now, "")
        case Kind.CANCELLED:
            return _ended(work, JobState.CANCELLED, ON_REQUEST, now, error)
        case Kind.INTERRUPTED if work.interruptions >= limits.max_interrupts:
            error = f"Interrupted {work.interruptions + 1} times, more often than a job may be"
            return _ended(work, JobState.DEAD, "interrupted too often", now, error, interruptions=1)
        case Kind.INTERRUPTED:
            return _again(work, "interrupted", error, interruptions=1)
        case Kind.LOST if work.losses + 1 >= limits.max_lost:
            error = f"Lost {work.losses + 1} times with its worker; it may be what kills it"
            return _ended(work, JobState.DEAD, "lost too often", now, error, losses=1)
        case Kind.LOST:
            return _again(work, "lost", error, losses=1)
        case Kind.NOT_STARTED if outcome.obstacle:
            return _put_off(work, outcome.obstacle, error, now)
        case _ if work.attempts >= work.max_retries:
            return _ended(work, JobState.DEAD, "no retries left", now, error, attempts=1)
        case _:
            jitter = work.backoff_jitter * backoff.drawn(work.lease)
            wait = backoff.delay(work.attempts + 1, base=work.backoff_base, jitter=jitter)
            return _later(work, JobState.FAILED, "failed", now + wait, error, attempts=1)


def _put_off(work: Work, obstacle: Obstacle, error: str, now: datetime) -> Transition:
    since = work.put_off_since or now
    if obstacle is Obstacle.UNKNOWN_TASK and now - since >= UNKNOWN_FOR:
        return _ended(work, JobState.DEAD, "a task that no worker knows", now, error, ran=False)
    later = _later(
        work, JobState.SCHEDULED, obstacle, now + RETURN_DELAY[obstacle], error, ran=False
    )
    return later._replace(put_off_since=since)


def _again(
    work: Work, reason: str, error: str = "", *, ran: bool = True, **more: int
) -> Transition:
    """Back to pending, at its old place in line."""
    return _to(work, JobState.PENDING, reason, error, None, None, ran, **more)


def _later(
    work: Work,
    state: JobState,
    reason: str,
    due_at: datetime,
    error: str,
    *,
    ran: bool = True,
    **more: int,
) -> Transition:
    """To a state that ends at `due_at`."""
    return _to(work, state, reason, error, due_at, None, ran, **more)


def _ended(
    work: Work,
    state: JobState,
    reason: str,
    finished_at: datetime,
    error: str,
    *,
    ran: bool = True,
    **more: int,
) -> Transition:
    """To a final state, which always has its time."""
    return _to(work, state, reason, error, None, finished_at, ran, **more)


def _to(
    work: Work,
    state: JobState,
    reason: str,
    error: str,
    due_at: datetime | None,
    finished_at: datetime | None,
    ran: bool,
    *,
    attempts: int = 0,
    losses: int = 0,
    interruptions: int = 0,
) -> Transition:
    return Transition(
        state=state,
        reason=reason,
        attempts=work.attempts + attempts,
        losses=work.losses + losses,
        interruptions=work.interruptions + interruptions,
        last_error=error,
        due_at=due_at,
        finished_at=finished_at,
        ran=ran,
    )
