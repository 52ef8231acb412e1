"""Nothing runs twice, is lost or is interrupted without a cause."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from tests.chaos.checker.reckoning import (
    CLOCKS_DIFFER,
    STARTS_LATE,
    UPTIME_TICK,
    deaths_of,
    explains,
    outcome_due,
    starts_of,
    strikes_within,
)
from tests.chaos.checker.registry import invariant
from tests.chaos.history import Attempt, Effect, Fault, History, by_key


@invariant("I8")
def two_runs_at_once_only_where_their_worker_could_not_act(h: History) -> Iterator[str]:
    for e in overlaps_of(h):
        ends = [x for x in h.effects if x.what == "end" and x.at < e.at - ENDS_LATE]
        over = {(x.key, x.attempt) for x in ends}
        earlier = [s for s in starts_of(h) if s.key == e.key and s.at < e.at]
        earlier = [s for s in earlier if (s.key, s.attempt) not in over]
        if not any(_excuses_overlap(h, f, earlier, e.at) for f in h.faults):
            yield f"{e.key} #{e.attempt} ran while an earlier run lived, at {e.at:.2f}"


@invariant("I9")
def nothing_runs_twice_without_a_cause(h: History) -> Iterator[str]:
    deaths = deaths_of(h)
    for a in h.attempts:
        if a.outcome == "lost" and not any(explains(h, d, a) for d in deaths):
            yield f"{a.key} #{a.number} was lost, and nothing of {a.worker} had died"
        if a.outcome == "interrupted" and not any(
            explains(h, f, a) for f in h.faults if {"interrupts", "loses"} & set(f.may)
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
            if end is not None and outcome_due(h, e, end) < death.began:
                yield (
                    f"{e.key} #{e.attempt} ended {death.began - end:.1f} s before {death.name} "
                    f"of {e.worker}, and ran again"
                )
        if slots and death.target and cut_short > 2 * slots:
            yield f"{death.name} of {death.target} repeated {cut_short} runs, with {slots} slots"


def overlaps_of(h: History) -> list[Effect]:
    """Runs that met an earlier one, or that began before it said its end."""
    met = [e for e in h.effects if e.what == "overlap"]
    known = {(e.key, e.attempt) for e in met}
    ends = {(e.key, e.attempt, e.lease): e.at for e in h.effects if e.what == "end"}
    for runs in by_key(starts_of(h)).values():
        for before, after in pairwise(sorted(runs, key=lambda e: e.attempt)):
            end = ends.get((before.key, before.attempt, before.lease), 0.0)
            if end > after.at + 2 * UPTIME_TICK and (after.key, after.attempt) not in known:
                met.append(replace(after, what="overlap"))
    return met


ENDS_LATE = 0.1
"""A run lives a moment longer than it says, and beside other load a longer one."""


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


def _dies(h: History, attempt: Attempt) -> bool:
    """Whether it was to kill itself."""
    plans = (p for p in h.planned if p.key == attempt.key)
    return any(p.how == "dies" and p.code(attempt.number) == attempt.signal for p in plans)


def _may_have_hit(h: History, fault: Fault, attempt: Attempt) -> bool:
    """A fault that did not land, such as a signal that came before there was a handler, may have killed."""
    return explains(h, replace(fault, landed=True), attempt)


def _repeated(h: History) -> list[tuple[Fault, list[Effect]]]:
    """The runs that each death of a worker, or of a part of it, or of the database has repeated."""
    deaths = [f for f in h.faults if f.landed and "loses" in f.may]
    outcomes = {(a.key, a.number): a for a in h.attempts}
    runs = {(e.key, e.attempt): e for e in starts_of(h)}
    found: list[tuple[Fault, list[Effect]]] = [(death, []) for death in deaths]
    for (key, number), e in runs.items():
        a, again = outcomes.get((key, number)), runs.get((key, number + 1))
        if again is None or (a is not None and a.outcome not in ("lost", "interrupted")):
            continue
        until = again.at if a is None else a.finished_at
        own = [
            (death, repeated)
            for death, repeated in found
            if death.reaches(e.worker) and strikes_within(death, e.at, until)
        ]
        if own:
            max(own, key=lambda each: each[0].began)[1].append(e)
    return found
