"""Builds that are broken on purpose: each must make the checker speak, or it is blind there.

    python -m tests.chaos.mutants [NAME...]

The same run with nothing broken has to hold first: what speaks there too has found nothing.

A mutant is put in place inside the programs of a run, by CHAOS_MUTANT. Some of the defences cover
for each other, and one alone missing changes nothing that can be seen; there the mutant lacks
both, and says so.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.chaos.checker import Verdict

Pairs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Mutant:
    breaks: Callable[[], None]
    found_by: tuple[str, ...]
    """Invariants of which one must speak."""

    database: str
    faults: tuple[str, ...] = ()
    mix: Pairs = ()
    env: Pairs = ()
    seconds: float = 10
    rate: float = 6
    workers: int = 2
    slots: int = 4
    """What brings its weakness to light."""


MUTANTS: dict[str, Mutant] = {}


def mutant(found_by: str, database: str, **conditions: Any) -> Callable[[Callable[[], None]], None]:
    def register(breaks: Callable[[], None]) -> None:
        name = breaks.__name__.replace("_", "-")
        MUTANTS[name] = Mutant(breaks, tuple(found_by.split()), database, **conditions)

    return register


@mutant(
    "I6 I8 I11",
    "postgresql",
    mix=(("quick", 20), ("steady", 3)),
    rate=40,
    seconds=8,
    env=(("CHAOS_FAILPOINT", "after_release_commit:raise@2+"),),
    slots=2,
)
def no_lease_check() -> None:
    """A report or release counts for whoever holds the job now.

    Seen where a turn committed without knowing: what it released, another has claimed by the time
    it is released again. Elsewhere the unique number of an attempt stands in its way.
    """
    from jobs import dialect
    from jobs.ledger import claiming, writing
    from jobs.models import Job

    inner = dialect.update_rows

    def update_rows(model: Any, *, columns: Any, guard: Any, rows: Any) -> set[int]:
        if model is Job and "lease" in guard:
            at = 1 + len(columns) + list(guard).index("lease")
            rows = [(*row[:at], *row[at + 1 :]) for row in rows]
            guard = [name for name in guard if name != "lease"]
        return inner(model, columns=columns, guard=guard, rows=rows)

    for room in (claiming, writing):
        _replace(room, "dialect", update_rows=update_rows)


@mutant("I6 I8 I9 I11", "postgresql", mix=(("quick", 1),), rate=60, seconds=6, workers=3)
def no_state_check() -> None:
    """A claim takes what it has read, whatever it is by now: it neither locks nor looks again.

    Without the look alone the lock would do, and without the lock alone the look.
    """
    from jobs import dialect
    from jobs.ledger import claiming

    def pending(*which: Any, lock: bool = False, **wanted: Any) -> Any:
        return dialect.pending(*which, **wanted)

    def take(jobs: Any, ids: Any, *, now: Any, **written: Any) -> int:
        jobs.objects.filter(id__in=ids).update(state="processing", updated_at=now, **written)
        return len(ids)

    _replace(claiming, "dialect", pending=pending, take=take)


@mutant("I6 I8 I9 I11", "postgresql", mix=(("quick", 1),), rate=60, seconds=6, workers=4)
def no_second_look_at_once() -> None:
    """Who claims by one statement neither locks what it reads nor looks again at what it writes.

    Without either alone the other would do.
    """
    from jobs.dialect import at_once

    whole = at_once.on_server

    def on_server(*which: Any) -> str:
        text = whole(*which)
        for part in (" FOR UPDATE SKIP LOCKED", " AND t.state = 'pending'"):
            assert part in text
            text = text.replace(part, "")
        return text

    at_once.on_server = on_server  # type: ignore[assignment]


@mutant("I21b", "postgresql", faults=("locked-rows",), mix=(("flaky", 2), ("short", 4)), rate=8)
def no_skip_locked() -> None:
    """Who reads rows to claim waits for those that another holds."""
    from jobs import dialect
    from jobs.ledger import claiming
    from jobs.models.job import CLAIM_ORDER, JobQuerySet

    def pending(jobs: Any, columns: Any, queue: str, limit: int, **wanted: Any) -> Any:
        if wanted.pop("lock", False):
            rows = jobs.objects.pending().filter(queue=queue).order_by(*CLAIM_ORDER)
            list(rows.select_for_update()[:limit])
        return dialect.pending(jobs, columns, queue, limit, **wanted)

    _replace(claiming, "dialect", pending=pending)
    JobQuerySet.locked = lambda self: self.select_for_update()  # type: ignore[method-assign]


@mutant("I8 I16", "sqlite", faults=("kill-runner",), mix=(("blocks", 1),), rate=2)
def no_supervisor() -> None:
    """Nobody kills what a dead runner left running."""
    from jobs.worker.crew import Crew

    Crew.kill_leftovers = lambda self: None  # type: ignore[method-assign]


@mutant("I8b", "postgresql", faults=("back-after-judgement",), mix=(("steady", 1),), rate=3)
def no_second_look_in_rescue() -> None:
    """A rescuer does not look at the heartbeat again, under the lock of the row."""
    from jobs import ledger

    inner = ledger.rescue

    def rescue(worker_id: int, *, last_heard: Any, **rest: Any) -> int:
        return inner(worker_id, last_heard=None, **rest)

    ledger.rescue = rescue


@mutant("I8", "postgresql", faults=("cut-off",), mix=(("endless", 1),), rate=1, slots=8)
def no_fence() -> None:
    """A runner that hears of no renewed lease goes on."""
    from jobs.worker.runner import Runner

    Runner._fence = lambda self, now: None  # type: ignore[method-assign]


@mutant(
    "I4", "sqlite", faults=("stop-by-signal",), mix=(("short", 60), ("blocks", 3)), rate=30, slots=2
)
def never_released() -> None:
    """What was claimed ahead and came back unstarted is never released."""
    from jobs import ledger

    ledger.release = lambda works, **_: 0
    ledger.release_unknown = lambda worker_id, **_: 0


@mutant("I13 I14", "sqlite", mix=(("later", 1), ("flaky", 1)))
def promote_ignores_due_at() -> None:
    from jobs.models.job import JobQuerySet

    JobQuerySet.due = lambda self, state, now: (  # type: ignore[method-assign]
        self.filter(state=state).order_by("due_at")
    )


@mutant(
    "I6 I9",
    "sqlite",
    mix=(("plain", 1),),
    env=(("CHAOS_FAILPOINT", "before_turn_commit:raise@5+"),),
)
def outcomes_dropped_after_a_failed_turn() -> None:
    from jobs.worker.ledger_process import LedgerProcess

    inner = LedgerProcess.back_off

    def back_off(self: LedgerProcess, error: Exception) -> None:
        self.hands.ended.clear()
        inner(self, error)

    LedgerProcess.back_off = back_off  # type: ignore[method-assign]


@mutant("I8b", "postgresql", faults=("clock-forward",), mix=(("steady", 1),), rate=3, seconds=6)
def clock_unwatched() -> None:
    """A rescuer sees neither that the database's clock was set nor that others show new heartbeats."""
    from jobs.worker.maintenance import Heartbeats, Maintenance

    Heartbeats.unchanged = lambda self, workers, now: {}  # type: ignore[method-assign]
    Maintenance._believes_silence = lambda self, now, began: True  # type: ignore[method-assign]


@mutant("I23", "postgresql", faults=("deaf-listener",), mix=(("quick", 1),))
def no_polling() -> None:
    """A worker that hears nothing never looks for itself, but for its heartbeats."""
    from jobs.worker.turns import Turns

    inner = Turns.sees_work
    Turns.sees_work = (  # type: ignore[method-assign]
        lambda self, now: self.hinted and inner(self, now)
    )


@mutant("I1", "sqlite", faults=("power-loss",), mix=(("quick", 1),))
def synchronous_normal() -> None:
    """A commit is not on the disk when it has returned."""
    from django.db.backends.signals import connection_created

    connection_created.connect(_be_hasty, weak=False)


def _be_hasty(connection: Any, **_: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous=NORMAL")


def _replace(module: Any, name: str, **functions: Any) -> None:
    from tests.chaos.failpoints import Substitute

    setattr(module, name, Substitute(getattr(module, name), **functions))


# Running them


TRIES = 5
"""Seeds that a mutant gets: how faults and jobs fall together is the machine's, not the seed's."""


def hunt_often(name: str, seed: int, directory: Path) -> tuple[bool, str]:
    """Whether the checker finds a mutant in one of a few runs, and what it said last."""
    verdict = None
    for each, place in _tries(seed, directory):
        verdict = judged(name, each, place)
        if {key.partition(" ")[0] for key in verdict.violations} & set(MUTANTS[name].found_by):
            return True, f"{_said(verdict)} (seed {each})"
    assert verdict is not None
    return False, _said(verdict)


def holds_unbroken(name: str, seed: int, directory: Path) -> tuple[bool, str]:
    """Whether the build itself holds in the run a mutant is hunted in, and what was said last.

    One in which a fault found no victim says nothing, and another is made.
    """
    verdict = None
    for each, place in _tries(seed, directory):
        verdict = judged(name, each, place, mutant="")
        if verdict.word != "invalid":
            break
    assert verdict is not None
    return verdict.word == "held", _said(verdict)


def _tries(seed: int, directory: Path) -> Iterator[tuple[int, Path]]:
    for each in range(seed, seed + TRIES):
        place = directory / str(each)
        place.mkdir(parents=True)
        yield each, place


def judged(name: str, seed: int, directory: Path, mutant: str | None = None) -> "Verdict":
    """What the checker makes of a run under that mutant's conditions; `mutant`: another, or "" for none."""
    from tests.chaos import run
    from tests.chaos.checker import check
    from tests.chaos.place import place

    m = MUTANTS[name]
    plan = run.Plan(
        m.database, seed, m.seconds, m.faults, m.rate, m.workers, m.slots,
        mutant=name if mutant is None else mutant, mix=m.mix, env=m.env, drained_within=30,
    )  # fmt: skip
    with place(m.database, plan.needs) as there:
        history = run.run(plan, there, directory)
    history.write(directory / "history.json")
    return check(history)


def _said(verdict: "Verdict") -> str:
    spoke = [f"{key.partition(' ')[0]}: {said[0]}" for key, said in verdict.violations.items()]
    return "; ".join(spoke) or " ".join(verdict.invalid) or "nothing"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where logs and histories stay")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in MUTANTS]:
        parser.error(f"unknown {unknown}; known: {', '.join(MUTANTS)}")
    blind = 0
    for name in asked.names or MUTANTS:
        with _directory(asked.keep, name) as directory:
            holds, said = holds_unbroken(name, asked.seed, Path(directory) / "unbroken")
            word = "holds unbroken" if holds else "does not hold unbroken"
            if holds:
                found, told = hunt_often(name, asked.seed, Path(directory))
                word, said = f"{word}; broken it is {'' if found else 'not '}found", told
        blind += not (holds and found)
        sys.stdout.write(f"{name}: {word}: {said[:400]}\n")
        sys.stdout.flush()
    return 1 if blind else 0


def _directory(keep: Path | None, name: str) -> Any:
    if keep is None:
        return TemporaryDirectory(prefix="queuectl-mutant-")
    (keep / name).mkdir(parents=True)
    return nullcontext(keep / name)


if __name__ == "__main__":
    # As the module the programs of a run import, so that there is one MUTANTS.
    from tests.chaos.mutants import main as run_them

    sys.exit(run_them())
