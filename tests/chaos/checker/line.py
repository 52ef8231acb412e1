"""Whose turn it is, and when: order, keys, slots, times."""

from collections.abc import Iterator
from itertools import accumulate

from tests.chaos.checker.reckoning import (
    CLOCKS_DIFFER,
    UPTIME_TICK,
    reported_by,
    starts_of,
    stored_by,
)
from tests.chaos.checker.registry import invariant
from tests.chaos.history import History, by_key

SEEN_WITHIN = 2.0
"""Seconds after which a worker that looks every second has seen a job that may run."""


@invariant("I15")
def with_one_slot_the_first_in_line_starts_first(h: History) -> Iterator[str]:
    """Where one slot is all there is, and no fault is near."""
    if h.slots != 1:
        return
    first = {e.key: e.at for e in reversed(starts_of(h)) if e.attempt == 1}
    # A retry moves the place in line that a job had for its first run.
    jobs = {job.key: job for job in h.jobs if job.runs == 1 and job.key in first}
    rank = {key: (-job.priority, job.due_at, job.id) for key, job in jobs.items()}
    for key, at in ((key, first[key]) for key in jobs if not _is_disturbed(h, first[key])):
        for other, job in jobs.items():
            seen = max(job.created_at, job.due_at) + SEEN_WITHIN
            if seen < at < first[other] - UPTIME_TICK and rank[other] < rank[key]:
                yield f"{key} started {first[other] - at:.2f} s before {other}, whose turn it was"


def _is_disturbed(h: History, at: float) -> bool:
    return any(
        f.landed and f.began - 1 <= at <= f.ended + h.bounds.rescued_within for f in h.faults
    )


@invariant("I18")
def a_unique_key_has_one_job_at_a_time(h: History) -> Iterator[str]:
    again = {event.key for event in h.events if event.action == "retry"}
    jobs = [job for job in h.jobs if job.unique and job.key not in again]
    for job in jobs:
        for other in jobs:
            both = job.unique == other.unique and job.key != other.key
            end = float("inf") if job.finished_at is None else job.finished_at
            if (
                both
                and job.created_at <= other.created_at
                and stored_by(h, other) < end - UNIQUE_DIFFERS
            ):
                yield f"{other.key} was taken while {job.key} had the key {job.unique!r}"


UNIQUE_DIFFERS = 0.5
"""Seconds between the moment a job is said to be made at, and the look for others with its key."""


@invariant("I18b")
def a_worker_runs_no_more_at_once_than_it_has_slots(h: History) -> Iterator[str]:
    """Of runs that reached their end, by which each says itself how long it ran."""
    slots = int(h.notes.get("slots", h.slots))
    ends = {(e.key, e.attempt, e.lease): e.at for e in h.effects if e.what == "end"}
    changes: dict[str, list[tuple[float, int]]] = {}
    for e in starts_of(h):
        if (end := ends.get((e.key, e.attempt, e.lease))) is not None and slots:
            begun = min(e.at + UPTIME_TICK, end)
            changes.setdefault(e.worker, []).extend([(begun, 1), (end, -1)])
    for worker, moments in changes.items():
        running = list(accumulate(change for _, change in sorted(moments)))
        if max(running) > slots:
            yield f"{worker} ran {max(running)} jobs at once, with {slots} slots"


@invariant("I13")
def nothing_starts_before_it_is_due(h: History) -> Iterator[str]:
    planned, calls = {p.key: p for p in h.planned}, by_key(h.calls)
    for e in starts_of(h):
        plan = planned.get(e.key)
        if plan is None or not plan.delay or e.attempt > 1:
            continue
        asked = min(c.began for c in calls[e.key]) if e.key in calls else 0.0
        waited = _by_database(h, asked, e.at)
        if plan.task and h.database == "postgresql":
            # A task is told a time of day, by the clock of who enqueues it.
            waited += h.ahead(asked)
        if waited < plan.delay - CLOCKS_DIFFER:
            yield f"{e.key} was to wait {plan.delay:g} s and started after {waited:.2f} s"


@invariant("I14")
def a_retry_waits_for_its_backoff(h: History) -> Iterator[str]:
    starts = {(e.key, e.attempt): e for e in reversed(starts_of(h))}
    attempts, events = by_key(h.attempts), by_key(h.events)
    for job in h.jobs:
        failures, before = 0, job.created_at
        asked = events.get(job.key, ())
        for a in sorted(attempts.get(job.key, ()), key=lambda a: a.number):
            if any(e.action == "retry" and before <= e.at < a.finished_at for e in asked):
                failures = 0
            before = a.finished_at
            failures += a.outcome in ("failed", "timed_out")
            again = starts.get((job.key, a.number + 1))
            if a.outcome not in ("failed", "timed_out") or again is None:
                continue
            if any(a.finished_at <= e.at <= again.at for e in asked):
                continue
            # It counts from the report, which the clock may have been set before.
            reported = reported_by(h, a)
            late = [step.at for step in h.clock if a.finished_at < step.at < reported]
            wait = max(_by_database(h, since, again.at) for since in (a.finished_at, *late))
            due = job.backoff_base**failures
            if wait < due - CLOCKS_DIFFER:
                yield f"{job.key} #{again.attempt} came {wait:.2f} s after a failure, not {due:g} s"


def _by_database(h: History, since: float, until: float) -> float:
    """The most seconds after a moment that the database's clock showed before another.

    It may have been set between; what was due once stays due when it is set back.
    """
    ends = [(until, h.ahead(until))]
    ends += [(s.at, h.ahead(s.at - 1e-6)) for s in h.clock if since < s.at <= until]
    return max(end + ahead for end, ahead in ends) - since - h.ahead(since)
