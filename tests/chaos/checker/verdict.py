"""What a history comes to: what contradicts it, whether it proves anything, and its figures."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chaos.checker.outcomes import an_attempt_has_one_lease_and_one_outcome
from tests.chaos.checker.reckoning import FINAL, starts_of
from tests.chaos.checker.registry import INVARIANTS
from tests.chaos.checker.rescues import rescues_of
from tests.chaos.checker.twice import (
    nothing_runs_twice_without_a_cause,
    overlaps_of,
    two_runs_at_once_only_where_their_worker_could_not_act,
)
from tests.chaos.history import Fault, History

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
    overlaps = overlaps_of(h)
    return {
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - stored) + sum(job.state not in FINAL for job in h.jobs),
        "starts": len(starts_of(h)),
        "twice_without_cause": len(list(nothing_runs_twice_without_a_cause(h)))
        + len(list(two_runs_at_once_only_where_their_worker_could_not_act(h)))
        + len(list(an_attempt_has_one_lease_and_one_outcome(h))),
        "overlaps_explained": len(overlaps)
        - len(list(two_runs_at_once_only_where_their_worker_could_not_act(h))),
        "attempts_lost": sum(a.outcome == "lost" for a in h.attempts),
        "attempts_interrupted": sum(a.outcome == "interrupted" for a in h.attempts),
        "attempts_failed": sum(a.outcome == "failed" for a in h.attempts),
        "dead": sum(job.state == "dead" for job in h.jobs),
        "longest_rescue": round(max((delay for delay, _, _ in rescues_of(h)), default=0.0), 2),
    }
