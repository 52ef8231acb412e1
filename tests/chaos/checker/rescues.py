"""What the dead held moves on in time, and nobody is taken for dead who lives."""

from collections.abc import Iterator

from tests.chaos.checker.reckoning import CLOCKS_DIFFER, time_away
from tests.chaos.checker.registry import invariant
from tests.chaos.history import Attempt, Fault, History


@invariant("I8b")
def a_worker_given_up_as_silent_was_silent_for_a_lease(h: History) -> Iterator[str]:
    for w in h.workers:
        if "heartbeat stopped" in w.end and w.stopped_at is not None:
            silent = w.stopped_at - w.heartbeat_at
            if silent < h.bounds.lease:
                yield f"{w.name} was given up {silent:.2f} s after its last heartbeat"


@invariant("I10")
def jobs_of_a_dead_worker_move_on_in_time(h: History) -> Iterator[str]:
    for delay, fault, attempt in rescues_of(h):
        # Where the clock was set silence is believed a lease later.
        was_set = any(fault.began <= step.at <= attempt.finished_at for step in h.clock)
        if delay > h.bounds.rescued_within + was_set * h.bounds.lease:
            yield (
                f"{attempt.key} #{attempt.number} was lost with {fault.target} by {fault.name} "
                f"and stayed with it for {delay:.1f} s"
            )


GIVEN_UP = ("none of its processes is left", "its heartbeat stopped", "its ledger process died")
"""Ends of a worker, or of a life of its ledger, that another has found dead."""


@invariant("I10b")
def a_dead_worker_is_given_up_in_time(h: History) -> Iterator[str]:
    """Its row is closed once it holds nothing, not even a claim that had not begun and left no trace."""
    for w in h.workers:
        if w.stopped_at is None:
            silent = (h.drained or w.heartbeat_at) - w.heartbeat_at
            if silent > h.bounds.rescued_within:
                yield f"{w.name} was silent for {silent:.1f} s when all was over, and not given up"
            continue
        if w.end not in GIVEN_UP:
            continue
        # One that is dead beats no more.
        own = [
            f
            for f in h.faults
            if f.reaches(w.name)
            and "loses" in f.may
            and f.began <= w.stopped_at
            and f.ended >= w.heartbeat_at - CLOCKS_DIFFER
        ]
        last = max(own, key=lambda f: f.began, default=None)
        if last is None or not last.target:
            continue
        delay = w.stopped_at - last.began - time_away(h, last, w.name, w.stopped_at)
        was_set = any(last.began <= step.at <= w.stopped_at for step in h.clock)
        if delay > h.bounds.rescued_within + was_set * h.bounds.lease:
            yield f"{w.name} died by {last.name} and was given up {delay:.1f} s later"


def rescues_of(h: History) -> Iterator[tuple[float, Fault, Attempt]]:
    """How long each lost attempt stayed with its dead worker, less what the database was away."""
    deaths = [f for f in h.faults if f.landed and "loses" in f.may and f.target]
    for a in h.attempts:
        if a.outcome != "lost":
            continue
        own = [f for f in deaths if f.target == a.worker and f.began <= a.finished_at]
        own = [f for f in own if a.started_at is None or f.ended >= a.started_at]
        if own:
            last = max(own, key=lambda f: f.began)
            yield a.finished_at - last.began - time_away(h, last, a.worker, a.finished_at), last, a
