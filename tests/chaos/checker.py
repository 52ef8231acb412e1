"""The invariants, each a pure function over a history that yields what contradicts it.

A number is that of the invariant. A run in which what was planned did not happen proves
nothing: it is invalid, whatever the invariants say.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from tests.chaos.history import Attempt, Effect, Event, Fault, History, Job, Usage, by_key

Invariant = Callable[[History], Iterator[str]]
INVARIANTS: dict[str, Invariant] = {}

CLOCKS_DIFFER = 0.1
"""Seconds: times of rows were converted from another clock, effects are written a moment late."""

FINAL = ("completed", "dead", "cancelled")
FIRST_CLAIM_WITHIN = 35.0
MANY_KINDS = 10
"""Of faults: in a run with so many all must happen that may happen to a job."""


@dataclass(frozen=True)
class Verdict:
    violations: dict[str, list[str]]
    invalid: list[str]
    """Why this run proves nothing."""

    counts: dict[str, int | float]

    @property
    def word(self) -> str:
        return "violated" if self.violations else "invalid" if self.invalid else "held"


def check(history: History) -> Verdict:
    found = {name: list(invariant(history)) for name, invariant in INVARIANTS.items()}
    return Verdict(
        violations={name: said for name, said in found.items() if said},
        invalid=list(vacuous(history)),
        counts=counts(history),
    )


def invariant(number: str) -> Callable[[Invariant], Invariant]:
    def register(function: Invariant) -> Invariant:
        INVARIANTS[f"{number} {function.__name__.replace('_', ' ')}"] = function
        return function

    return register


# Nothing lost, nothing made up


@invariant("I1")
def what_was_acknowledged_is_stored_once(h: History) -> Iterator[str]:
    stored = Counter(job.key for job in h.jobs)
    for key in sorted({c.key for c in h.calls if c.op == "enqueue" and c.answer == "ok"}):
        if stored[key] != 1:
            yield f"{key} was acknowledged and is stored {stored[key]} times"


@invariant("I1b")
def a_row_holds_what_was_asked_for(h: History) -> Iterator[str]:
    """By which others are judged: what would be wrong in it would be so there."""
    planned = {p.key: p for p in h.planned}
    for job in h.jobs:
        if plan := planned.get(job.key):
            asked = (plan.max_retries, plan.priority, plan.unique)
            stored = (job.max_retries, job.priority, job.unique)
            if asked != stored:
                yield f"{job.key} has retries, priority and unique key {stored}, not {asked}"


@invariant("I2")
def what_is_stored_was_asked_for(h: History) -> Iterator[str]:
    asked = {call.key for call in h.calls if call.op == "enqueue"}
    yield from (
        f"{job.key} is stored, and nobody asked for it" for job in h.jobs if job.key not in asked
    )


@invariant("I3")
def an_answer_in_doubt_left_at_most_one_job_and_a_refusal_none(h: History) -> Iterator[str]:
    stored = Counter(job.key for job in h.jobs)
    for key, calls in by_key([c for c in h.calls if c.op == "enqueue"]).items():
        answers = {call.answer for call in calls}
        if stored[key] > (0 if answers == {"fail"} else 1):
            yield f"{key} was answered {sorted(answers)} and is stored {stored[key]} times"


@invariant("I4")
def every_job_has_ended(h: History) -> Iterator[str]:
    if h.drained is None:
        yield "the queue was not empty in time"
    for job in h.jobs:
        if job.state not in FINAL or job.has_lease:
            lease = ", with a lease" if job.has_lease else ""
            yield f"{job.key} is still {job.state}{lease}"


# Outcomes


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
            late = _late(h, a.started_at + plan.timeout, a.finished_at, a.worker)
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
    for e in _starts(h):
        leases.setdefault((e.key, e.attempt), set()).add(e.lease)
    for (key, number), found in leases.items():
        if len(found) > 1:
            yield f"{key} #{number} was run under {len(found)} leases"
    for (key, number), count in Counter((e.key, e.attempt) for e in _starts(h)).items():
        if count > 1:
            yield f"{key} #{number} was started {count} times"


@invariant("I6b")
def no_outcome_of_a_lease_that_another_followed(h: History) -> Iterator[str]:
    starts = by_key(_starts(h))
    for a in h.attempts:
        for later in starts.get(a.key, ()):
            if later.attempt > a.number and later.at < a.finished_at - CLOCKS_DIFFER:
                yield (
                    f"{a.key} #{a.number} {a.outcome} at {a.finished_at:.2f}, "
                    f"after #{later.attempt} had started at {later.at:.2f}"
                )


@invariant("I7")
def attempts_are_numbered_without_a_gap_that_no_death_explains(h: History) -> Iterator[str]:
    rows, starts, deaths = by_key(h.attempts), by_key(_starts(h)), _deaths(h)
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
                _strikes_within(death, since, until)
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
        since, until = start.at, _outcome_due(h, start, ends[0]) if ends else float("inf")
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


# Twice


@invariant("I8")
def two_runs_at_once_only_where_their_worker_could_not_act(h: History) -> Iterator[str]:
    for e in _overlaps(h):
        ends = [x for x in h.effects if x.what == "end" and x.at < e.at - ENDS_LATE]
        over = {(x.key, x.attempt) for x in ends}
        earlier = [s for s in _starts(h) if s.key == e.key and s.at < e.at]
        earlier = [s for s in earlier if (s.key, s.attempt) not in over]
        if not any(_excuses_overlap(h, f, earlier, e.at) for f in h.faults):
            yield f"{e.key} #{e.attempt} ran while an earlier run lived, at {e.at:.2f}"


@invariant("I8b")
def a_worker_given_up_as_silent_was_silent_for_a_lease(h: History) -> Iterator[str]:
    for w in h.workers:
        if "heartbeat stopped" in w.end and w.stopped_at is not None:
            silent = w.stopped_at - w.heartbeat_at
            if silent < h.bounds.lease:
                yield f"{w.name} was given up {silent:.2f} s after its last heartbeat"


@invariant("I9")
def nothing_runs_twice_without_a_cause(h: History) -> Iterator[str]:
    deaths = _deaths(h)
    for a in h.attempts:
        if a.outcome == "lost" and not any(_explains(h, d, a) for d in deaths):
            yield f"{a.key} #{a.number} was lost, and nothing of {a.worker} had died"
        if a.outcome == "interrupted" and not any(
            _explains(h, f, a) for f in h.faults if {"interrupts", "loses"} & set(f.may)
        ):
            yield f"{a.key} #{a.number} was interrupted, and nobody had disturbed {a.worker}"
        if (
            a.outcome == "failed"
            and a.signal is not None
            and not _dies(h, a)
            and not any(_may_have_hit(h, f, a) for f in h.faults if "fails" in f.may)
        ):
            yield f"{a.key} #{a.number} ended by signal {a.signal}, and nobody had sent it"


@invariant("I9b")
def a_death_repeats_only_what_ran_or_was_not_yet_reported(h: History) -> Iterator[str]:
    """Of runs that did not reach their end before it at most twice the slots of a worker: what was claimed
    ahead may have begun meanwhile. Of the others those that had ended since the last turn committed.
    """
    ends = {(e.key, e.attempt, e.lease): e.at for e in h.effects if e.what == "end"}
    slots = int(h.notes.get("slots", h.slots))
    for death, repeated in _repeated(h):
        cut_short = 0
        for e in repeated:
            end = ends.get((e.key, e.attempt, e.lease))
            cut_short += end is None or end > death.ended
            if end is not None and _outcome_due(h, e, end) < death.began:
                yield (
                    f"{e.key} #{e.attempt} ended {death.began - end:.1f} s before {death.name} "
                    f"of {e.worker}, and ran again"
                )
        if slots and death.target and cut_short > 2 * slots:
            yield f"{death.name} of {death.target} repeated {cut_short} runs, with {slots} slots"


@invariant("I10")
def jobs_of_a_dead_worker_move_on_in_time(h: History) -> Iterator[str]:
    for delay, fault, attempt in _rescues(h):
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
        delay = w.stopped_at - last.began - _away(h, last, w.name, w.stopped_at)
        was_set = any(last.began <= step.at <= w.stopped_at for step in h.clock)
        if delay > h.bounds.rescued_within + was_set * h.bounds.lease:
            yield f"{w.name} died by {last.name} and was given up {delay:.1f} s later"


# Order and keys

UPTIME_TICK = 0.01
"""Seconds: a shell reads its start from /proc/uptime, where the last part is cut off."""

SEEN_WITHIN = 2.0
"""Seconds after which a worker that looks every second has seen a job that may run."""


@invariant("I15")
def with_one_slot_the_first_in_line_starts_first(h: History) -> Iterator[str]:
    """Where one slot is all there is, and no fault is near."""
    if h.slots != 1:
        return
    first = {e.key: e.at for e in reversed(_starts(h)) if e.attempt == 1}
    # A retry moves the place in line that a job had for its first run.
    jobs = {job.key: job for job in h.jobs if job.runs == 1 and job.key in first}
    rank = {key: (-job.priority, job.due_at, job.id) for key, job in jobs.items()}
    for key, at in ((key, first[key]) for key in jobs if not _is_disturbed(h, first[key])):
        for other, job in jobs.items():
            seen = max(job.created_at, job.due_at) + SEEN_WITHIN
            if seen < at < first[other] - UPTIME_TICK and rank[other] < rank[key]:
                yield f"{key} started {first[other] - at:.2f} s before {other}, whose turn it was"


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
                and _stored_by(h, other) < end - UNIQUE_DIFFERS
            ):
                yield f"{other.key} was taken while {job.key} had the key {job.unique!r}"


@invariant("I18b")
def a_worker_runs_no_more_at_once_than_it_has_slots(h: History) -> Iterator[str]:
    """Of runs that reached their end, by which each says itself how long it ran."""
    slots = int(h.notes.get("slots", h.slots))
    ends = {(e.key, e.attempt, e.lease): e.at for e in h.effects if e.what == "end"}
    changes: dict[str, list[tuple[float, int]]] = {}
    for e in _starts(h):
        if (end := ends.get((e.key, e.attempt, e.lease))) is not None and slots:
            begun = min(e.at + UPTIME_TICK, end)
            changes.setdefault(e.worker, []).extend([(begun, 1), (end, -1)])
    for worker, moments in changes.items():
        running = list(accumulate(change for _, change in sorted(moments)))
        if max(running) > slots:
            yield f"{worker} ran {max(running)} jobs at once, with {slots} slots"


UNIQUE_DIFFERS = 0.5
"""Seconds between the moment a job is said to be made at, and the look for others with its key."""


def _stored_by(h: History, job: Job) -> float:
    """When a job was stored at the latest: it is made before it waits for a database that is away."""
    return max(
        [job.created_at]
        + [
            f.ended
            for f in h.faults
            if f.landed and "away" in f.may and f.began - CLOCKS_DIFFER <= job.created_at <= f.ended
        ]
    )


# The state machine


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


@invariant("I13")
def nothing_starts_before_it_is_due(h: History) -> Iterator[str]:
    planned, calls = {p.key: p for p in h.planned}, by_key(h.calls)
    for e in _starts(h):
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
    starts = {(e.key, e.attempt): e for e in reversed(_starts(h))}
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
            late = [step.at for step in h.clock if a.finished_at < step.at < _reported_by(h, a)]
            wait = max(_by_database(h, since, again.at) for since in (a.finished_at, *late))
            due = job.backoff_base**failures
            if wait < due - CLOCKS_DIFFER:
                yield f"{job.key} #{again.attempt} came {wait:.2f} s after a failure, not {due:g} s"


# What is left


@invariant("I16")
def nothing_is_left_behind(h: History) -> Iterator[str]:
    yield from (left for left in h.residue if not _is_back(h, left))


JOURNAL_SECONDS = 5.0


def _is_back(h: History, left: str) -> bool:
    """A lock file that had been removed: the file system lost its power before it had written that down."""
    gone = [
        w.stopped_at
        for w in h.workers
        if left.startswith("lock file") and left.endswith(f" of {w.name}")
    ]
    losses = [f.began for f in h.faults if f.name == "power-loss" and f.landed]
    return any(
        0 <= loss - at <= JOURNAL_SECONDS for at in gone if at is not None for loss in losses
    )


FDS_MORE, MEMORY_MORE = 6, 40
"""Descriptors and MB that a process may hold more of than when it was new: caches, and what it has
imported since."""


@invariant("I16b")
def a_worker_holds_no_more_than_when_it_was_new(h: History) -> Iterator[str]:
    new: dict[str, Usage] = {}
    for usage in h.base:
        kept = new.setdefault(usage.part, usage)
        new[usage.part] = usage if usage.fds > kept.fds else kept
    # A task runner is made when it is needed, of the same supervisor as a command runner.
    if "runner" in new:
        new.setdefault("tasks", new["runner"])
    for usage in h.usage:
        if (base := new.get(usage.part)) is None:
            continue
        of_tasks = usage.task_runners if usage.part in ("supervisor", "ledger") else 0
        if usage.fds > base.fds + of_tasks + FDS_MORE:
            yield f"the {usage.part} of {usage.worker} has {usage.fds} descriptors, new {base.fds}"
        if usage.rss > base.rss + MEMORY_MORE:
            yield f"the {usage.part} of {usage.worker} has {usage.rss} MB, new {base.rss}"
    there, may = h.connections
    if there > may:
        yield f"{there} connections, where {may} are all that may be"


@invariant("I17")
def the_database_is_whole(h: History) -> Iterator[str]:
    yield from h.damage
    keys = {job.key for job in h.jobs}
    yield from (
        f"an attempt of {a.key}, which is not there" for a in h.attempts if a.key not in keys
    )


@invariant("I19")
def what_a_person_did_has_one_event(h: History) -> Iterator[str]:
    events = Counter((e.action, e.key) for e in h.events)
    calls = Counter((c.op, c.key, c.answer) for c in h.calls if c.op != "enqueue")
    for action, key in sorted({*events, *((op, key) for op, key, _ in calls)}):
        sure, doubt = calls[action, key, "ok"], calls[action, key, "info"]
        if not sure <= events[action, key] <= sure + doubt:
            yield f"{action} {key}: {sure} done, {doubt} in doubt, {events[action, key]} events"


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
        if (late := _late(h, e.at, at, worker)) > h.bounds.rescued_within:
            yield f"{e.key} went on for {late:.1f} s after somebody wanted it stopped"


@invariant("I20")
def no_secret_is_told(h: History) -> Iterator[str]:
    yield from h.leaks


@invariant("I21")
def work_goes_on_soon_after_the_last_fault(h: History) -> Iterator[str]:
    after = [e.at - h.healed for e in _starts(h) if e.at >= h.healed]
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
        late = _late(h, max(before, min(due)), after)
        if late > STANDS_STILL:
            yield f"no job began for {late:.1f} s until {after:.1f}, though {len(due)} were due"


@invariant("I21d")
def what_is_due_begins_in_time(h: History) -> Iterator[str]:
    """However many are before it: a run has far fewer jobs than its workers can do."""
    for (key, number), (since, at) in _waits(h).items():
        if at - since > FIRST_CLAIM_WITHIN and (late := _late(h, since, at)) > FIRST_CLAIM_WITHIN:
            yield f"{key} #{number} began {late:.1f} s after it was due"


def _waits(h: History) -> dict[tuple[str, int], tuple[float, float]]:
    """Since when each run could have begun, and when it did; of jobs that nobody but time moved.

    First runs and those after a failure. A queue of its own has workers for a while only.
    """
    planned = {p.key: p for p in h.planned if p.queue == "default"}
    touched = {e.key for e in h.events}
    jobs = {job.key: job for job in h.jobs if job.key in planned and job.key not in touched}
    begun = {(e.key, e.attempt): e.at for e in reversed(_starts(h)) if e.key in jobs}
    found = {
        (key, 1): (_stored_by(h, job) + planned[key].delay, begun[key, 1])
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
            others = [e for e in _starts(h) if e.worker != f.target and not e.key.startswith(EXTRA)]
            began = [e for e in others if f.began + 1.5 < e.at < f.ended]
            if came and not began:
                yield f"nothing started while {f.name} lasted {f.ended - f.began:.1f} s"


@invariant("I22")
def output_is_kept_byte_for_byte(h: History) -> Iterator[str]:
    planned = {p.key: p for p in h.planned}
    for a in h.attempts:
        plan = planned.get(a.key)
        if plan is None or not plan.prints or a.outcome != "succeeded":
            continue
        if (a.stdout_bytes, a.output) != (plan.prints, digest(printed(plan.key, plan.prints))):
            yield f"{a.key} #{a.number} printed {plan.prints} bytes, others are stored"


@invariant("I23")
def no_worker_complains_or_ends_by_itself(h: History) -> Iterator[str]:
    yield from h.complaints


# Whether a run proves anything


def vacuous(h: History) -> Iterator[str]:
    landed = Counter(f.name for f in h.faults if f.landed)
    for name in h.asked:
        if not landed[name]:
            tried = sum(f.name == name for f in h.faults)
            yield f"{name} was tried {tried} times and never landed"
    if not any(c.answer == "ok" for c in h.calls):
        yield "no job was acknowledged"
    if not any(e.what == "end" for e in h.effects):
        yield "no job ran to its end"
    if any(len(p.codes) > 1 for p in h.planned) and not any(
        a.outcome == "failed" for a in h.attempts
    ):
        yield "no job failed though some were to"
    mortal = [f for f in h.faults if f.landed and "loses" in f.may and "must-lose" in f.may]
    if mortal and not any(a.outcome in ("lost", "interrupted") for a in h.attempts):
        yield "workers died, and none of them held a job"
    if len(h.asked) >= MANY_KINDS:
        too_long = _stood_too_long(h)
        if too_long and not any(_was_overtaken(h, f) for f in too_long):
            yield "workers stood still for longer than a lease, and no outcome of theirs came too late"
        failed = {a.key for a in h.attempts if a.outcome == "failed"}
        succeeded = {a.key for a in h.attempts if a.outcome == "succeeded"}
        if not any(a.outcome == "lost" for a in h.attempts):
            yield "of many kinds of faults none cost an attempt"
        if not failed & succeeded:
            yield "no job failed and succeeded then"
        if not any(job.state == "dead" for job in h.jobs):
            yield "no job died"


def _stood_too_long(h: History) -> list[Fault]:
    """Standstills of a whole worker, whose commands go on, after which nobody waits for their outcomes.

    On SQLite its lock file tells that it lives, however long it stands.
    """
    if h.database != "postgresql":
        return []
    whole = [f for f in h.faults if f.landed and {"stands", "loses", "overlaps"} <= set(f.may)]
    return [f for f in whole if f.ended - f.began > h.bounds.lease]


def _was_overtaken(h: History, fault: Fault) -> bool:
    """Whether a run ended while its worker stood still, and what came of it was not taken afterwards."""
    outcomes = {(a.key, a.number): a.outcome for a in h.attempts}
    return any(
        e.what == "end"
        and e.worker == fault.target
        and fault.began < e.at < fault.ended
        and outcomes.get((e.key, e.attempt), "lost") == "lost"
        for e in h.effects
    )


def counts(h: History) -> dict[str, int | float]:
    """What the table of a report is made of."""
    acknowledged = {c.key for c in h.calls if c.op == "enqueue" and c.answer == "ok"}
    stored = {job.key for job in h.jobs}
    overlaps = _overlaps(h)
    return {
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - stored) + sum(job.state not in FINAL for job in h.jobs),
        "starts": len(_starts(h)),
        "twice_without_cause": len(list(nothing_runs_twice_without_a_cause(h)))
        + len(list(two_runs_at_once_only_where_their_worker_could_not_act(h)))
        + len(list(an_attempt_has_one_lease_and_one_outcome(h))),
        "overlaps_explained": len(overlaps)
        - len(list(two_runs_at_once_only_where_their_worker_could_not_act(h))),
        "attempts_lost": sum(a.outcome == "lost" for a in h.attempts),
        "attempts_interrupted": sum(a.outcome == "interrupted" for a in h.attempts),
        "attempts_failed": sum(a.outcome == "failed" for a in h.attempts),
        "dead": sum(job.state == "dead" for job in h.jobs),
        "longest_rescue": round(max((delay for delay, _, _ in _rescues(h)), default=0.0), 2),
    }


# How


def _starts(h: History) -> list[Effect]:
    return [e for e in h.effects if e.what == "start"]


def _overlaps(h: History) -> list[Effect]:
    """Runs that met an earlier one, or that began before it said its end."""
    met = [e for e in h.effects if e.what == "overlap"]
    known = {(e.key, e.attempt) for e in met}
    ends = {(e.key, e.attempt, e.lease): e.at for e in h.effects if e.what == "end"}
    for runs in by_key(_starts(h)).values():
        for before, after in pairwise(sorted(runs, key=lambda e: e.attempt)):
            end = ends.get((before.key, before.attempt, before.lease), 0.0)
            if end > after.at + 2 * UPTIME_TICK and (after.key, after.attempt) not in known:
                met.append(replace(after, what="overlap"))
    return met


def _dies(h: History, attempt: Attempt) -> bool:
    """Whether it was to kill itself."""
    plans = (p for p in h.planned if p.key == attempt.key)
    return any(p.how == "dies" and p.code(attempt.number) == attempt.signal for p in plans)


def _is_disturbed(h: History, at: float) -> bool:
    return any(
        f.landed and f.began - 1 <= at <= f.ended + h.bounds.rescued_within for f in h.faults
    )


def _by_database(h: History, since: float, until: float) -> float:
    """The most seconds after a moment that the database's clock showed before another.

    It may have been set between; what was due once stays due when it is set back.
    """
    ends = [(until, h.ahead(until))]
    ends += [(s.at, h.ahead(s.at - 1e-6)) for s in h.clock if since < s.at <= until]
    return max(end + ahead for end, ahead in ends) - since - h.ahead(since)


REPORTED_WITHIN = 1.0
ENDS_LATE = 0.1
"""A run lives a moment longer than it says, and beside other load a longer one."""


def _reported_by(h: History, a: Attempt) -> float:
    """When the outcome of an attempt was stored at the latest: it waits while nobody can store it."""
    return _stored_at_latest(h, a.worker, a.finished_at)


def _stored_at_latest(h: History, worker: str, ended: float) -> float:
    latest = ended + REPORTED_WITHIN
    for f in sorted(h.faults, key=lambda f: f.began):
        held_up = "away" in f.may or ("stands" in f.may and f.reaches(worker))
        if f.landed and held_up and f.began <= latest and f.ended >= ended:
            latest = max(latest, f.ended + REPORTED_WITHIN)
    return latest


TURN_SECONDS = 5.0
"""What a statement of a turn may take."""


def _outcome_due(h: History, start: Effect, end: float) -> float:
    """When the outcome of a run that ended then was surely stored, had its worker lived."""
    return _stored_at_latest(h, start.worker, end) + TURN_SECONDS


STARTS_LATE = 3.0
"""Seconds after which a command that was spawned has said that it started."""


def _strikes_within(fault: Fault, since: float, until: float) -> bool:
    return fault.began - CLOCKS_DIFFER <= until and since <= fault.ended + STARTS_LATE


def _may_cross_a_report(h: History, event: Event, job: Job, attempts: Iterable[Attempt]) -> bool:
    """Whether somebody saw the job processing while its outcome was on its way to the database.

    A job's time is that of the turn in which its last outcome was stored, however long it waited for that.
    """
    stored = job.finished_at or 0.0
    return event.after == "processing" and any(
        a.finished_at <= event.at <= max(stored, _reported_by(h, a)) for a in attempts
    )


def _deaths(h: History) -> list[Fault]:
    """Faults that may lose attempts."""
    return [f for f in h.faults if f.landed and "loses" in f.may]


def _explains(h: History, fault: Fault, attempt: Attempt) -> bool:
    """Whether an attempt ended soon enough after a fault of its worker to have ended by it."""
    if fault.ended - fault.began < _least(h, fault, attempt.outcome):
        return False
    since = attempt.finished_at - fault.began
    lasted = (
        fault.ended
        - fault.began
        + h.bounds.rescued_within
        + _away(h, fault, attempt.worker, attempt.finished_at)
    )
    return fault.reaches(attempt.worker) and -CLOCKS_DIFFER <= since <= lasted


def _least(h: History, fault: Fault, outcome: str) -> float:
    """How long the database has to be away before that costs anybody an attempt."""
    if "away" not in fault.may or fault.target or fault.name == "power-loss":
        return 0.0
    lease, first = h.bounds.lease, 2 * h.bounds.heartbeat
    if outcome == "lost":
        return lease - h.bounds.heartbeat
    # After it whoever asked in vain waits to ask again.
    return lease - h.bounds.margin - h.bounds.kill - first


def _repeated(h: History) -> list[tuple[Fault, list[Effect]]]:
    """The runs that each death of a worker, or of a part of it, or of the database has repeated."""
    deaths = [f for f in h.faults if f.landed and "loses" in f.may]
    outcomes = {(a.key, a.number): a for a in h.attempts}
    runs = {(e.key, e.attempt): e for e in _starts(h)}
    found: list[tuple[Fault, list[Effect]]] = [(death, []) for death in deaths]
    for (key, number), e in runs.items():
        a, again = outcomes.get((key, number)), runs.get((key, number + 1))
        if again is None or (a is not None and a.outcome not in ("lost", "interrupted")):
            continue
        until = again.at if a is None else a.finished_at
        own = [
            (death, repeated)
            for death, repeated in found
            if death.reaches(e.worker) and _strikes_within(death, e.at, until)
        ]
        if own:
            max(own, key=lambda each: each[0].began)[1].append(e)
    return found


def _may_have_hit(h: History, fault: Fault, attempt: Attempt) -> bool:
    """A fault that did not land, such as a signal that came before there was a handler, may have killed."""
    return _explains(h, replace(fault, landed=True), attempt)


def _is_away_during(h: History, fault: Fault) -> bool:
    """Whether meanwhile no worker had a database."""
    away = [f for f in h.faults if f.landed and "away" in f.may]
    return any(f.began < fault.ended and fault.began < f.ended for f in away)


def _excuses_overlap(h: History, fault: Fault, earlier: list[Effect], at: float) -> bool:
    """Whether an earlier run was with a worker when that could not act.

    One that is dead can never end what it left. One that stood still can as soon as it goes on, and
    nobody takes its jobs before its lease is over.
    """
    left = any(fault.reaches(e.worker) and e.at <= fault.ended + STARTS_LATE for e in earlier)
    since, until = fault.began - CLOCKS_DIFFER, float("inf")
    if "stands" in fault.may:
        since += h.bounds.lease - h.bounds.heartbeat
        until = fault.ended + h.bounds.lease
    return left and "overlaps" in fault.may and since <= at <= until


def _rescues(h: History) -> Iterator[tuple[float, Fault, Attempt]]:
    """How long each lost attempt stayed with its dead worker, less what the database was away."""
    deaths = [f for f in h.faults if f.landed and "loses" in f.may and f.target]
    for a in h.attempts:
        if a.outcome != "lost":
            continue
        own = [f for f in deaths if f.target == a.worker and f.began <= a.finished_at]
        own = [f for f in own if a.started_at is None or f.ended >= a.started_at]
        if own:
            last = max(own, key=lambda f: f.began)
            yield a.finished_at - last.began - _away(h, last, a.worker, a.finished_at), last, a


def _away(h: History, death: Fault, worker: str, until: float) -> float:
    """Seconds since that death in which no bound held: while the database was away, and while those
    that had asked for it in vain, ever less often, waited to ask again.
    """
    # With SQLite's write lock one that stands still keeps all from writing.
    one_writer = h.database == "sqlite"
    spans = [
        (f.began, f.ended + (min(30.0, (f.ended - f.began) / 2) if "away" in f.may else 0.0))
        for f in h.faults
        if f != death
        and f.landed
        and ("away" in f.may or ("stands" in f.may and (one_writer or f.target == worker)))
    ]
    return _within(spans, death.began, until)


def _within(spans: Iterable[tuple[float, float]], began: float, ended: float) -> float:
    """How many seconds between two moments fall into at least one of these spans."""
    covered, at = 0.0, began
    for begin, end in sorted(spans):
        begin, end = max(begin, at), min(end, ended)
        if end > begin:
            covered, at = covered + end - begin, end
    return covered


def _late(h: History, due: float, at: float, worker: str = "") -> float:
    """Seconds from one moment to another in which the database was there, and that worker could act."""
    spans = [
        (f.began, f.ended)
        for f in h.faults
        if f.landed and ("away" in f.may or (worker and "stands" in f.may and f.reaches(worker)))
    ]
    return at - due - _within(spans, due, at)


def printed(key: str, size: int) -> bytes:
    """The bytes a job prints: its own, and hard to store."""
    unit = key.encode() + bytes(range(256))
    return (unit * (size // len(unit) + 1))[:size]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
