"""What became of each run, and of each job, is what it did."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

from tests.chaos.checker.reckoning import (
    CLOCKS_DIFFER,
    FINAL,
    deaths_of,
    lateness,
    outcome_due,
    reported_by,
    starts_of,
    strikes_within,
)
from tests.chaos.checker.registry import invariant
from tests.chaos.history import Attempt, Effect, Event, History, Job, by_key


@invariant("I5")
def a_completed_job_ran_to_its_end(h: History) -> Iterator[str]:
    ends = {(e.key, e.attempt) for e in h.effects if e.what == "end"}
    planned = {p.key: p for p in h.planned}
    attempts = by_key(h.attempts)
    for job in h.jobs:
        won = [a for a in attempts.get(job.key, ()) if a.outcome == "succeeded"]
        if job.state == "completed" and (len(won) != 1 or (job.key, won[0].number) not in ends):
            yield f"{job.key} is completed by {len(won)} attempts, none of which reached its end"
        if job.state != "completed" and won:
            yield f"{job.key} is {job.state} though #{won[0].number} succeeded"
    for a in h.attempts:
        if a.exit_code is None or a.key not in planned or a.outcome not in ("succeeded", "failed"):
            continue
        if a.exit_code != planned[a.key].code(a.number):
            yield f"{a.key} #{a.number} has exit code {a.exit_code}, not its own"


@invariant("I5b")
def a_task_gave_back_or_raised_what_was_its_own(h: History) -> Iterator[str]:
    planned = {p.key: p for p in h.planned if p.task}
    for job in h.jobs:
        plan = planned.get(job.key)
        if plan and job.state == "completed" and job.result != plan.returns:
            yield f"{job.key} gave back {plan.returns}, and {job.result} is stored"
    for a in h.attempts:
        plan = planned.get(a.key)
        if plan is None or a.exit_code is not None or a.signal is not None:
            continue
        if a.outcome == "failed" and f"PlannedError: code {plan.code(a.number)}" not in a.error:
            yield f"{a.key} #{a.number} failed of {a.error!r}, which is not its own"


ENDS_WITHIN = 3.0
"""Seconds from SIGKILL to what is told of it."""


@invariant("I5c")
def an_outcome_is_one_that_the_job_may_have(h: History) -> Iterator[str]:
    """None of the jobs cannot be started, few are too slow for their time, and few are cancelled."""
    planned = {p.key: p for p in h.planned}
    unwanted = {e.key for e in h.events if e.action == "cancel"}
    for job in h.jobs:
        if job.state == "cancelled" and job.key not in unwanted:
            yield f"{job.key} is cancelled, and nobody had asked for that"
    for a in h.attempts:
        if (plan := planned.get(a.key)) is None:
            continue
        is_slow = plan.seconds > plan.timeout
        if a.outcome == "not_started":
            yield f"{a.key} #{a.number} could not start: {a.error}"
        if a.outcome == ("succeeded" if is_slow else "timed_out"):
            yield f"{a.key} #{a.number} {a.outcome}, where {plan.seconds:g} s of {plan.timeout:g} are its own"
        if a.outcome == "timed_out" and a.started_at is not None:
            late = lateness(h, a.started_at + plan.timeout, a.finished_at, a.worker)
            if late > h.bounds.kill + ENDS_WITHIN:
                yield f"{a.key} #{a.number} was ended {late:.1f} s after its time was up"
        if a.outcome == "failed" and not plan.task and a.exit_code is None and a.signal is None:
            yield f"{a.key} #{a.number} failed, without an exit code or a signal"
        if a.outcome == "cancelled" and a.key not in unwanted:
            yield f"{a.key} #{a.number} was cancelled, and nobody had asked for that"


@invariant("I6")
def an_attempt_has_one_lease_and_one_outcome(h: History) -> Iterator[str]:
    rows = Counter((a.key, a.number) for a in h.attempts)
    yield from (f"{key} #{n} has {count} outcomes" for (key, n), count in rows.items() if count > 1)
    leases: dict[tuple[str, int], set[str]] = {}
    for e in starts_of(h):
        leases.setdefault((e.key, e.attempt), set()).add(e.lease)
    for (key, number), found in leases.items():
        if len(found) > 1:
            yield f"{key} #{number} was run under {len(found)} leases"
    for (key, number), count in Counter((e.key, e.attempt) for e in starts_of(h)).items():
        if count > 1:
            yield f"{key} #{number} was started {count} times"


@invariant("I6b")
def no_outcome_of_a_lease_that_another_followed(h: History) -> Iterator[str]:
    starts = by_key(starts_of(h))
    for a in h.attempts:
        for later in starts.get(a.key, ()):
            if later.attempt > a.number and later.at < a.finished_at - CLOCKS_DIFFER:
                yield (
                    f"{a.key} #{a.number} {a.outcome} at {a.finished_at:.2f}, "
                    f"after #{later.attempt} had started at {later.at:.2f}"
                )


@invariant("I7")
def attempts_are_numbered_without_a_gap_that_no_death_explains(h: History) -> Iterator[str]:
    rows, starts, deaths = by_key(h.attempts), by_key(starts_of(h)), deaths_of(h)
    for job in h.jobs:
        written = {a.number: a for a in rows.get(job.key, ())}
        started = {e.attempt: e for e in starts.get(job.key, ())}
        highest = max([*written, *started], default=0)
        if job.runs < highest:
            yield f"{job.key} counts {job.runs} runs, and #{highest} was seen"
        for number in sorted(set(range(1, job.runs + 1)) - set(written)):
            start = started.get(number)
            since, until = _with_its_worker(h, job, number, started, written)
            if not any(
                strikes_within(death, since, until)
                and (start is None or death.reaches(start.worker))
                for death in deaths
            ):
                yield f"{job.key} #{number} has no row, and nobody died holding it"


def _with_its_worker(
    h: History, job: Job, number: int, started: dict[int, Effect], written: dict[int, Attempt]
) -> tuple[float, float]:
    """From when until when a run without a row can have been with a worker: the next came after it."""
    since, until = job.created_at, float("inf") if job.finished_at is None else job.finished_at
    if before := started.get(number - 1):
        since = before.at
    if start := started.get(number):
        own = (job.key, number, start.lease)
        ends = [e.at for e in h.effects if e.what == "end" and (e.key, e.attempt, e.lease) == own]
        since, until = start.at, outcome_due(h, start, ends[0]) if ends else float("inf")
    later = [e.at for n, e in started.items() if n > number]
    later += [a.finished_at for n, a in written.items() if n > number]
    return since, min([until, *later])


@invariant("I7b")
def a_dead_job_has_reached_a_limit(h: History) -> Iterator[str]:
    for job in h.jobs:
        over = (
            job.attempts > job.max_retries
            or job.losses >= h.bounds.max_lost
            or job.interruptions > h.bounds.max_interrupts
        )
        if (job.state == "dead") != over and job.state != "cancelled":
            yield (
                f"{job.key} is {job.state} after {job.attempts} of {job.max_retries} failures, "
                f"{job.losses} losses and {job.interruptions} interruptions"
            )


@invariant("I11")
def every_row_is_what_its_attempts_and_events_make_of_it(h: History) -> Iterator[str]:
    attempts, events = by_key(h.attempts), by_key(h.events)
    for job in h.jobs:
        told: list[tuple[float, str, bool]] = [
            (a.finished_at, a.outcome, False) for a in attempts.get(job.key, ())
        ]
        told += [
            (
                e.at,
                f"{e.action} {e.after}",
                _may_cross_a_report(h, e, job, attempts.get(job.key, ())),
            )
            for e in events.get(job.key, ())
        ]
        life = _Life(job, h)
        for _, word, on_its_way in sorted(told):
            if said := life.hear(word, on_its_way=on_its_way):
                yield f"{job.key}: {said}"
        yield from (f"{job.key} {said}" for said in life.differences())


class _Life:
    """A job's row as its history gives it, by rules of its own and not by those under test."""

    def __init__(self, job: Job, h: History) -> None:
        self.job, self.bounds = job, h.bounds
        self.state, self.asked = "pending", False
        self.failures = self.losses = self.interruptions = 0

    def hear(self, word: str, *, on_its_way: bool) -> str:
        before = self.state
        if word.startswith("retry"):
            self.state, self.asked = "pending", False
            self.failures = self.losses = self.interruptions = 0
            return "" if before == "dead" else f"was retried while {before}"
        if word.startswith("cancel"):
            self.asked = True
            self.state = "cancelled" if word.endswith("cancelled") else before
            return "" if before not in FINAL or on_its_way else f"was cancelled while {before}"
        self._end(word)
        return "" if before not in FINAL else f"left {before} without an event, for {word}"

    def _end(self, outcome: str) -> None:
        if outcome in ("succeeded", "cancelled"):
            self.state = {"succeeded": "completed"}.get(outcome, outcome)
            return
        self.losses += outcome == "lost"
        self.interruptions += outcome == "interrupted"
        self.failures += outcome in ("failed", "timed_out", "not_started")
        over = {
            "lost": self.losses >= self.bounds.max_lost,
            "interrupted": self.interruptions > self.bounds.max_interrupts,
        }.get(outcome, self.failures > self.job.max_retries)
        self.state = "dead" if over else "cancelled" if self.asked else "pending"

    def differences(self) -> Iterator[str]:
        pairs = [
            ("state", self.state, self.job.state if self.job.state in FINAL else "pending"),
            ("failures", self.failures, self.job.attempts),
            ("losses", self.losses, self.job.losses),
            ("interruptions", self.interruptions, self.job.interruptions),
        ]
        for name, expected, found in pairs:
            # Asked to stop before it ran at all, a job is cancelled and leaves no attempt.
            if expected != found and not (name == "state" and found == "cancelled" and self.asked):
                yield f"has {name} {found}, and its history gives {expected}"


def _may_cross_a_report(h: History, event: Event, job: Job, attempts: Iterable[Attempt]) -> bool:
    """Whether somebody saw the job processing while its outcome was on its way to the database.

    A job's time is that of the turn in which its last outcome was stored, however long it waited for that.
    """
    stored = job.finished_at or 0.0
    return event.after == "processing" and any(
        a.finished_at <= event.at <= max(stored, reported_by(h, a)) for a in attempts
    )


@invariant("I22")
def output_is_kept_byte_for_byte(h: History) -> Iterator[str]:
    planned = {p.key: p for p in h.planned}
    for a in h.attempts:
        plan = planned.get(a.key)
        if plan is None or not plan.prints or a.outcome != "succeeded":
            continue
        if (a.stdout_bytes, a.output) != (plan.prints, digest(printed(plan.key, plan.prints))):
            yield f"{a.key} #{a.number} printed {plan.prints} bytes, others are stored"


def printed(key: str, size: int) -> bytes:
    """The bytes a job prints: its own, and hard to store."""
    unit = key.encode() + bytes(range(256))
    return (unit * (size // len(unit) + 1))[:size]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
