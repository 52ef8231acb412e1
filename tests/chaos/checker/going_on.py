"""Nobody waits for long, for work or for its end."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.checker.reckoning import CLOCKS_DIFFER, lateness, starts_of, stored_by
from tests.chaos.checker.registry import invariant
from tests.chaos.history import Fault, History, by_key

FIRST_CLAIM_WITHIN = 35.0


@invariant("I21")
def work_goes_on_soon_after_the_last_fault(h: History) -> Iterator[str]:
    after = [e.at - h.healed for e in starts_of(h) if e.at >= h.healed]
    if h.open_at_heal and min(after, default=0.0) > FIRST_CLAIM_WITHIN:
        yield f"the first job after the last fault started {min(after):.1f} s after it"


STANDS_STILL = 10.0
"""Seconds in which no worker begins anything though something is due, and nothing is in its way."""


@invariant("I21c")
def somebody_begins_what_is_due(h: History) -> Iterator[str]:
    waits = _waits(h)
    begun = sorted(at for _, at in waits.values())
    for before, after in pairwise(begun):
        if after - before <= STANDS_STILL:
            continue
        due = [since for since, at in waits.values() if since < after <= at]
        late = lateness(h, max(before, min(due)), after)
        if late > STANDS_STILL:
            yield f"no job began for {late:.1f} s until {after:.1f}, though {len(due)} were due"


@invariant("I21d")
def what_is_due_begins_in_time(h: History) -> Iterator[str]:
    """However many are before it: a run has far fewer jobs than its workers can do."""
    for (key, number), (since, at) in _waits(h).items():
        if (
            at - since > FIRST_CLAIM_WITHIN
            and (late := lateness(h, since, at)) > FIRST_CLAIM_WITHIN
        ):
            yield f"{key} #{number} began {late:.1f} s after it was due"


def _waits(h: History) -> dict[tuple[str, int], tuple[float, float]]:
    """Since when each run could have begun, and when it did; of jobs that nobody but time moved.

    First runs and those after a failure. A queue of its own has workers for a while only.
    """
    planned = {p.key: p for p in h.planned if p.queue == "default"}
    touched = {e.key for e in h.events}
    jobs = {job.key: job for job in h.jobs if job.key in planned and job.key not in touched}
    begun = {(e.key, e.attempt): e.at for e in reversed(starts_of(h)) if e.key in jobs}
    found = {
        (key, 1): (stored_by(h, job) + planned[key].delay, begun[key, 1])
        for key, job in jobs.items()
        if (key, 1) in begun
    }
    failures: Counter[str] = Counter()
    for a in sorted(h.attempts, key=lambda a: a.number):
        if a.key in jobs and a.outcome in ("failed", "timed_out"):
            failures[a.key] += 1
            due = a.finished_at + jobs[a.key].backoff_base ** failures[a.key]
            if (a.key, a.number + 1) in begun:
                found[a.key, a.number + 1] = (due, begun[a.key, a.number + 1])
    return found


EXTRA = "more"
"""How the keys of jobs begin that a fault has brought along."""


@invariant("I21b")
def others_go_on_beside_a_fault_that_is_not_theirs(h: History) -> Iterator[str]:
    for f in h.faults:
        if f.landed and "others-flow" in f.may and not _is_away_during(h, f):
            own = [c for c in h.calls if c.op == "enqueue" and not c.key.startswith(EXTRA)]
            came = [c for c in own if f.began < c.began < f.ended - 2]
            others = [
                e for e in starts_of(h) if e.worker != f.target and not e.key.startswith(EXTRA)
            ]
            began = [e for e in others if f.began + 1.5 < e.at < f.ended]
            if came and not began:
                yield f"nothing started while {f.name} lasted {f.ended - f.began:.1f} s"


def _is_away_during(h: History, fault: Fault) -> bool:
    """Whether meanwhile no worker had a database."""
    away = [f for f in h.faults if f.landed and "away" in f.may]
    return any(f.began < fault.ended and fault.began < f.ended for f in away)


@invariant("I19b")
def what_somebody_wants_stopped_stops(h: History) -> Iterator[str]:
    attempts, jobs = by_key(h.attempts), {job.key: job for job in h.jobs}
    for e in h.events:
        if e.action != "cancel" or e.after != "processing" or e.key not in jobs:
            continue
        over = [(a.finished_at, a.worker) for a in attempts.get(e.key, ())]
        if (at := jobs[e.key].finished_at) is not None:
            over.append((at, ""))
        at, worker = min(
            (each for each in over if each[0] >= e.at - CLOCKS_DIFFER), default=(e.at, "")
        )
        if (late := lateness(h, e.at, at, worker)) > h.bounds.rescued_within:
            yield f"{e.key} went on for {late:.1f} s after somebody wanted it stopped"
