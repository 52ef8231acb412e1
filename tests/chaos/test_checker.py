"""The checker finds what it is there to find: each invariant against a history that breaks it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import client, mutants, report
from tests.chaos.checker import INVARIANTS, Verdict, check, digest, printed
from tests.chaos.history import (
    Attempt,
    Call,
    Effect,
    Event,
    Fault,
    History,
    Job,
    Planned,
    Step,
    Usage,
    Worker,
    ahead,
    unmoved,
)

pytestmark = pytest.mark.one_database


def job(key: str = "a", state: str = "completed", **fields: Any) -> Job:
    values = {
        "attempts": 0, "max_retries": 3, "runs": 1, "losses": 0, "interruptions": 0, "has_lease": False,
        "due_at": 1.0, "created_at": 1.0, "backoff_base": 2.0,
    }  # fmt: skip
    return Job(key, state, **{**values, **fields})


def attempt(number: int = 1, outcome: str = "succeeded", at: float = 3.0, **fields: Any) -> Attempt:
    values = {
        "key": "a", "exit_code": 0 if outcome == "succeeded" else None, "signal": None,
        "started_at": 2.0 if number == 1 else at - 1, "finished_at": at, "worker": "w1",
    }  # fmt: skip
    return Attempt(number=number, outcome=outcome, **{**values, **fields})


def effect(what: str, number: int = 1, at: float = 2.0, **fields: Any) -> Effect:
    values = {"key": "a", "lease": f"lease {number}", "worker": "w1", "pid": 100 + number}
    return Effect(what=what, attempt=number, at=at, **{**values, **fields})


def fault(*may: str, name: str = "kill-worker", began: float = 2.5, **fields: Any) -> Fault:
    values = {"number": "F1", "target": "w1", "ended": began + 1, "landed": True}
    return Fault(name=name, began=began, may=may, **{**values, **fields})


CALM = History(
    database="sqlite",
    seed=1,
    planned=(Planned("a", 0.0),),
    calls=(Call("enqueue", "a", 1.0, "ok"),),
    effects=(effect("start"), effect("end", at=3.0)),
    jobs=(job(),),
    attempts=(attempt(),),
    workers=(Worker(1, "w1", 4.0, 5.0, "stopped"),),
    healed=4.0,
    drained=5.0,
)

LOST_ONCE = replace(
    CALM,
    faults=(fault("loses"),),
    jobs=(job(runs=2, losses=1),),
    attempts=(attempt(1, "lost"), attempt(2, at=5.0)),
    effects=(effect("start"), effect("start", 2, 4.0), effect("end", 2, 5.0)),
)


ALIVE = Worker(2, "w2", 30.0, 31.0, "stopped")
THREE = ("a", "b", "c")
REPEATED_THRICE = replace(
    CALM,
    notes={"slots": 1},
    planned=tuple(Planned(key, 0.0) for key in THREE),
    calls=tuple(Call("enqueue", key, 1.0, "ok") for key in THREE),
    faults=(fault("loses"),),
    jobs=tuple(job(key, runs=2, losses=1) for key in THREE),
    attempts=tuple(a for key in THREE for a in (attempt(1, "lost", key=key), attempt(2, at=5.0, key=key))),
    effects=tuple(
        e
        for key in THREE
        for e in (
            effect("start", key=key),
            effect("start", 2, 4.0, key=key, worker=f"of {key}"),
            effect("end", 2, 5.0, key=key, worker=f"of {key}"),
        )
    ),
)  # fmt: skip
ENDED_LONG_BEFORE = replace(
    LOST_ONCE,
    faults=(fault("loses", began=30.0),),
    attempts=(attempt(1, "lost", 31.0), attempt(2, at=33.0)),
    effects=(*CALM.effects, effect("start", 2, 32.0), effect("end", 2, 33.0)),
)


# The other of two had waited for 28 seconds, and came second.
OUT_OF_LINE = (
    effect("start", at=29.0),
    effect("end", at=30.0),
    effect("start", at=31.0, key="b"),
    effect("end", at=32.0, key="b"),
)


# The second job was due at 7, and the database was back at 6.
STOOD_STILL = replace(
    CALM,
    calls=tuple(Call("enqueue", key, 1.0, "ok") for key in ("a", "b")),
    planned=(Planned("a", 0.0), Planned("b", 0.0)),
    jobs=(job(), job("b", created_at=7.0)),
    attempts=(attempt(), attempt(key="b", at=23.0)),
    faults=(fault("away", name="restart-server", target="", began=5.0, ended=6.0),),
    effects=(*CALM.effects, effect("start", key="b", at=22.0), effect("end", key="b", at=23.0)),
)


def found(history: History) -> set[str]:
    return {name.partition(" ")[0] for name in check(history).violations}


@pytest.mark.parametrize("history", [CALM, LOST_ONCE], ids=["calm", "one loss"])
def test_a_history_in_which_all_is_well_has_no_violation(history: History) -> None:
    assert check(history).violations == {}
    assert check(history).word == "held"


STRUCK = replace(
    CALM,
    calls=(*CALM.calls, Call("cancel", "a", 3.5, "ok", "processing")),
    events=(Event("cancel", "a", "processing", "processing", 3.6),),
)


def test_a_cancellation_may_cross_a_report_that_is_on_its_way() -> None:
    assert check(STRUCK).violations == {}
    late = replace(STRUCK, events=(replace(STRUCK.events[0], at=5.0),))
    assert found(late) == {"I11"}
    stored_later = (job(finished_at=5.1),)
    assert check(replace(late, jobs=stored_later)).violations == {}
    held_up = Fault("pause-ledger", "F8", "w1", 3.5, 6.0, True, ("stands",))
    assert check(replace(late, faults=(held_up,), drained=7.0)).violations == {}


def test_a_series_that_a_person_began_has_its_own_backoff_though_its_first_run_left_no_trace() -> (
    None
):
    history = replace(
        CALM,
        jobs=(job(state="dead", runs=4, attempts=2, max_retries=1, losses=1),),
        planned=(Planned("a", 0.0, kind="doomed", codes=(4,), max_retries=1),),
        attempts=(
            attempt(1, "failed", exit_code=4, at=3.0),
            attempt(2, "lost", exit_code=None, at=4.5),
            attempt(3, "failed", exit_code=4, at=5.0),
            attempt(4, "failed", exit_code=4, at=7.1),
        ),
        events=(Event("retry", "a", "dead", "pending", 4.0),),
        effects=(effect("start"), effect("start", 3, 4.9), effect("start", 4, 7.05)),
    )
    assert "I14" not in found(history)
    assert "I14" in found(replace(history, events=()))


def test_a_unique_key_is_asked_for_when_the_database_is_there_to_be_asked() -> None:
    """A job is made, then waits for the write lock, and is stored after the one before it has ended."""
    jobs = (
        job(unique="k", finished_at=9.0),
        job("b", unique="k", created_at=3.0, finished_at=12.0),
    )
    waited = replace(CALM, jobs=jobs, drained=20.0)
    assert "I18" in found(waited)
    away = Fault("long-writer", "F55", "", 2.9, 8.9, True, ("away",))
    assert "I18" not in found(replace(waited, faults=(away,)))
    over_before = replace(away, ended=5.0)
    assert "I18" in found(replace(waited, faults=(over_before,)))


def test_a_backoff_counts_from_the_report_and_what_was_due_before_the_clock_was_set_stays_due() -> (
    None
):
    failed_once = replace(
        CALM,
        jobs=(job(runs=2, attempts=1),),
        planned=(Planned("a", 0.0, codes=(3, 0)),),
        attempts=(attempt(1, "failed", exit_code=3), attempt(2, at=8.0)),
        effects=(effect("start"), effect("start", 2, 7.0), effect("end", 2, 8.0)),
    )
    assert "I14" not in found(replace(failed_once, clock=(Step(3.4, -10_800.0),)))
    assert "I14" in found(replace(failed_once, clock=(Step(4.5, -10_800.0),)))
    assert "I14" not in found(replace(failed_once, clock=(Step(6.0, -10_800.0),)))


@pytest.mark.parametrize(("database", "found_by"), [("sqlite", set()), ("postgresql", {"I10"})])
def test_one_that_stands_still_keeps_others_from_rescuing_where_there_is_one_writer(
    database: str, found_by: set[str]
) -> None:
    late = replace(
        LOST_ONCE,
        database=database,
        faults=(
            fault("loses"),
            fault("stands", name="pause-long", target="w2", began=2.6, ended=14.0),
        ),
        attempts=(attempt(1, "lost", at=14.5), attempt(2, at=16.0)),
        effects=(effect("start"), effect("start", 2, 15.0), effect("end", 2, 16.0)),
    )
    assert found(late) & {"I10"} == found_by


BAD: dict[str, tuple[str, History]] = {
    "an acknowledged job is not there": ("I1", replace(CALM, jobs=(), attempts=(), effects=())),
    "an acknowledged job is there twice": ("I1", replace(CALM, jobs=(job(), job()))),
    "a job with fewer retries than were asked for": (
        "I1b",
        replace(CALM, jobs=(job(max_retries=0),)),
    ),
    "a job that nobody asked for": ("I2", replace(CALM, jobs=(job(), job("ghost")))),
    "a refused job is stored": ("I3", replace(CALM, calls=(Call("enqueue", "a", 1.0, "fail"),))),
    "a job in doubt is stored twice": (
        "I3",
        replace(CALM, calls=(Call("enqueue", "a", 1.0, "info"),), jobs=(job(), job())),
    ),
    "a job is still processing": (
        "I4",
        replace(CALM, jobs=(job(state="processing", has_lease=True),)),
    ),
    "a job is still waiting": ("I4", replace(CALM, jobs=(job(state="pending"),))),
    "the queue did not drain": ("I4", replace(CALM, drained=None)),
    "a completed job that never reached its end": ("I5", replace(CALM, effects=(effect("start"),))),
    "a completed job without a success": (
        "I5",
        replace(CALM, attempts=(attempt(outcome="failed", exit_code=1),)),
    ),
    "a success of a job that is dead": ("I5", replace(CALM, jobs=(job(state="dead", attempts=4),))),
    "another exit code than the job's own": ("I5", replace(CALM, attempts=(attempt(exit_code=7),))),
    "another result than a task gave back": (
        "I5b",
        replace(CALM, planned=(Planned("a", 0.0, task=True, returns=1),), jobs=(job(result=2),)),
    ),
    "another exception than a task raised": (
        "I5b",
        replace(
            CALM,
            planned=(Planned("a", 0.0, codes=(3,), max_retries=0, task=True),),
            jobs=(job(state="dead", attempts=1, max_retries=0),),
            attempts=(attempt(outcome="failed", error="KeyError: 'x'"),),
        ),
    ),
    "a job cancelled that nobody wanted stopped": (
        "I5c",
        replace(
            CALM, jobs=(job(state="cancelled"),), attempts=(attempt(1, "cancelled", signal=15),)
        ),
    ),
    "a job cancelled before it ran, which nobody wanted stopped": (
        "I5c",
        replace(CALM, jobs=(job(state="cancelled", runs=0),), attempts=(), effects=()),
    ),
    "a sound command that could not be started": (
        "I5c",
        replace(
            CALM,
            jobs=(job(state="dead", attempts=4, runs=4),),
            attempts=tuple(attempt(n, "not_started", 3.0 + 20 * n) for n in range(1, 5)),
            effects=(),
        ),
    ),
    "a quick command that took too long": (
        "I5c",
        replace(
            CALM,
            jobs=(job(runs=2, attempts=1),),
            attempts=(attempt(1, "timed_out"), attempt(2, at=9.0)),
        ),
    ),
    "a command that was given more than its time": (
        "I5c",
        replace(CALM, planned=(Planned("a", 0.0, "hangs", seconds=60, timeout=1),)),
    ),
    "a command that was ended long after its time": (
        "I5c",
        replace(
            CALM,
            planned=(Planned("a", 0.0, "hangs", seconds=60, timeout=1, max_retries=0),),
            jobs=(job(state="dead", attempts=1, max_retries=0),),
            attempts=(attempt(1, "timed_out", 9.0),),
        ),
    ),
    "a command that failed and left no code": (
        "I5c",
        replace(
            CALM,
            jobs=(job(runs=2, attempts=1),),
            attempts=(attempt(1, "failed", exit_code=None), attempt(2, at=9.0)),
        ),
    ),
    "two outcomes of one attempt": ("I6", replace(CALM, attempts=(attempt(), attempt()))),
    "one attempt under two leases": (
        "I6",
        replace(CALM, effects=(*CALM.effects, effect("start", at=2.5, lease="another"))),
    ),
    "one attempt that was started twice under its lease": (
        "I6",
        replace(CALM, effects=(*CALM.effects, effect("start", at=3.5), effect("end", at=4.0))),
    ),
    "an outcome of a lease that another had followed": (
        "I6b",
        replace(LOST_ONCE, attempts=(attempt(1, "interrupted", 4.5), attempt(2, at=5.0))),
    ),
    "a number higher than the runs that are counted": (
        "I7",
        replace(LOST_ONCE, jobs=(job(runs=1, losses=1),)),
    ),
    "a run without a row that no death explains": (
        "I7",
        replace(LOST_ONCE, faults=(), attempts=(attempt(2, at=5.0),)),
    ),
    "a run without a row, long after the death of a part of its worker": (
        "I7",
        replace(
            LOST_ONCE,
            faults=(fault("loses", began=-20.0),),
            jobs=(job(runs=2),),
            attempts=(attempt(2, at=5.0),),
        ),
    ),
    "a run without a row, its worker having died long after its end": (
        "I7",
        replace(ENDED_LONG_BEFORE, jobs=(job(runs=2),), attempts=(attempt(2, at=33.0),)),
    ),
    "a claim without a trace, before anybody died": (
        "I7",
        replace(
            LOST_ONCE,
            faults=(fault("loses", began=30.0),),
            jobs=(job(runs=2),),
            attempts=(attempt(2, at=5.0),),
            effects=LOST_ONCE.effects[1:],
        ),
    ),
    "a dead job with retries left": ("I7b", replace(CALM, jobs=(job(state="dead", attempts=1),))),
    "a job that went on after its last retry": ("I7b", replace(CALM, jobs=(job(attempts=4),))),
    "two runs at once with nobody to blame": (
        "I8",
        replace(CALM, effects=(*CALM.effects, effect("overlap", 2, 2.5))),
    ),
    "two runs at once after a fault that does not explain it": (
        "I8",
        replace(LOST_ONCE, effects=(*LOST_ONCE.effects, effect("overlap", 2, 4.0))),
    ),
    "two runs at once after another worker's fault": (
        "I8",
        replace(
            LOST_ONCE,
            faults=(fault("loses"), fault("overlaps", target="w2")),
            effects=(*LOST_ONCE.effects, effect("overlap", 2, 4.0)),
        ),
    ),
    "two runs at once soon after a standstill began": (
        "I8",
        replace(
            LOST_ONCE,
            faults=(fault("loses", "overlaps", "stands"),),
            effects=(*LOST_ONCE.effects, effect("overlap", 2, 4.0)),
        ),
    ),
    "a run that began before the end of the one before it": (
        "I8",
        replace(LOST_ONCE, effects=(*LOST_ONCE.effects, effect("end", at=9.0))),
    ),
    "two runs at once long after a standstill": (
        "I8",
        replace(
            LOST_ONCE,
            faults=(fault("loses", "overlaps", "stands"),),
            effects=(*LOST_ONCE.effects, effect("overlap", 2, 9.0)),
        ),
    ),
    "two runs at once of which the first began long after the fault": (
        "I8",
        replace(
            LOST_ONCE,
            faults=(fault("loses"), fault("overlaps", began=-20.0)),
            effects=(*LOST_ONCE.effects, effect("overlap", 2, 4.0)),
        ),
    ),
    "a worker given up while it was heard": (
        "I8b",
        replace(CALM, workers=(Worker(1, "w1", 4.0, 5.0, "its heartbeat stopped"),)),
    ),
    "a loss without a death": ("I9", replace(LOST_ONCE, faults=())),
    "a loss before the death": ("I9", replace(LOST_ONCE, faults=(fault("loses", began=3.5),))),
    "a loss long after the death": (
        "I9",
        replace(LOST_ONCE, attempts=(attempt(1, "lost", 40.0), attempt(2, at=42.0))),
    ),
    "a loss by an outage that was shorter than the lease": (
        "I9",
        replace(
            LOST_ONCE,
            faults=(fault("loses", "away", name="restart-server", target="", ended=6.0),),
        ),
    ),
    "a loss by a fault that did not land": (
        "I9",
        replace(LOST_ONCE, faults=(fault("loses", landed=False),)),
    ),
    "an interruption that nobody caused": (
        "I9",
        replace(
            LOST_ONCE,
            faults=(),
            jobs=(job(runs=2, interruptions=1),),
            attempts=(attempt(1, "interrupted"), attempt(2, at=5.0)),
        ),
    ),
    "a signal that nobody sent": (
        "I9",
        replace(CALM, attempts=(attempt(1, "failed", signal=9),), jobs=(job(attempts=1),)),
    ),
    "more runs repeated by a death than its worker had at once": ("I9b", REPEATED_THRICE),
    "a run repeated by a death long after its end": ("I9b", ENDED_LONG_BEFORE),
    "a run repeated by a power loss long after its end": (
        "I9b",
        replace(
            ENDED_LONG_BEFORE,
            faults=(fault("loses", "away", name="power-loss", began=30.0, target=""),),
        ),
    ),
    "a rescue that came too late": (
        "I10",
        replace(LOST_ONCE, attempts=(attempt(1, "lost", 20.0), attempt(2, at=22.0))),
    ),
    "a claim that had not begun and stayed with a dead worker": (
        "I10b",
        replace(
            LOST_ONCE,
            jobs=(job(runs=2),),
            attempts=(attempt(2, at=22.0),),
            effects=(effect("start", 2, 21.0), effect("end", 2, 22.0)),
            workers=(Worker(1, "w1", 2.4, 20.0, "none of its processes is left"), ALIVE),
        ),
    ),
    "a rescue that came too late beside two faults at once, which last no longer for that": (
        "I10",
        replace(
            LOST_ONCE,
            faults=(
                fault("loses"),
                fault("stands", name="pause-long", target="w2", began=3.0, ended=13.0),
                fault("away", name="long-writer", target="", began=3.0, ended=13.0),
            ),
            attempts=(attempt(1, "lost", 38.0), attempt(2, at=40.0)),
            effects=(effect("start"), effect("start", 2, 39.0), effect("end", 2, 40.0)),
        ),
    ),
    "a dead worker that is never given up": (
        "I10b",
        replace(LOST_ONCE, workers=(Worker(1, "w1", 2.4, None), ALIVE), drained=29.0),
    ),
    "a failure that is not counted": (
        "I11",
        replace(
            CALM,
            jobs=(job(runs=2),),
            attempts=(attempt(1, "failed", exit_code=3), attempt(2, at=9.0)),
        ),
    ),
    "a final state left without an event": (
        "I11",
        replace(CALM, attempts=(attempt(), attempt(2, "lost", 5.0)), jobs=(job(runs=2, losses=1),)),
    ),
    "a state that its history does not give": (
        "I11",
        replace(CALM, jobs=(job(state="dead", attempts=4),)),
    ),
    "a start before its time": (
        "I13",
        replace(CALM, planned=(Planned("a", 0.0, "later", delay=5.0),)),
    ),
    "a retry before its backoff was over": (
        "I14",
        replace(
            CALM,
            jobs=(job(runs=2, attempts=1),),
            planned=(Planned("a", 0.0, codes=(3, 0)),),
            attempts=(attempt(1, "failed", exit_code=3), attempt(2, at=5.0)),
            effects=(effect("start"), effect("start", 2, 4.0), effect("end", 2, 5.0)),
        ),
    ),
    "a retry before its backoff was over by a clock that was set": (
        "I14",
        replace(
            CALM,
            jobs=(job(runs=2, attempts=1),),
            planned=(Planned("a", 0.0, codes=(3, 0)),),
            attempts=(attempt(1, "failed", exit_code=3), attempt(2, at=8.0)),
            effects=(effect("start"), effect("start", 2, 7.0), effect("end", 2, 8.0)),
            clock=(Step(4.0, -10_800.0),),
        ),
    ),
    "one slot took the second in line first": (
        "I15",
        replace(CALM, slots=1, jobs=(job(), job("b", priority=9)), effects=OUT_OF_LINE),
    ),
    "a descriptor that is lost each time": (
        "I16b",
        replace(
            CALM, base=(Usage("w1", "ledger", 10, 50),), usage=(Usage("w1", "ledger", 30, 50),)
        ),
    ),
    "memory that grows": (
        "I16b",
        replace(
            CALM, base=(Usage("w1", "ledger", 10, 50),), usage=(Usage("w1", "ledger", 10, 99),)
        ),
    ),
    "connections that nobody needs": ("I16b", replace(CALM, connections=(9, 8))),
    "two jobs of one unique key": (
        "I18",
        replace(
            CALM,
            jobs=(
                job(unique="k", finished_at=9.0),
                job("b", unique="k", created_at=3.0, finished_at=9.0),
            ),
        ),
    ),
    "more jobs at once than a worker has slots": (
        "I18b",
        replace(
            CALM,
            notes={"slots": 1},
            effects=(
                *CALM.effects,
                effect("start", key="b", at=2.5),
                effect("end", key="b", at=3.5),
            ),
        ),
    ),
    "a process that was left": ("I16", replace(CALM, residue=("process 1: sleep 60",))),
    "a damaged index": ("I17", replace(CALM, damage=("row missing from index",))),
    "an attempt of a job that is gone": (
        "I17",
        replace(CALM, attempts=(attempt(), attempt(key="b"))),
    ),
    "an action without its event": (
        "I19",
        replace(CALM, calls=(*CALM.calls, Call("cancel", "a", 2.0, "ok"))),
    ),
    "an event that nobody caused": (
        "I19",
        replace(CALM, events=(Event("retry", "a", "dead", "pending", 9.0),)),
    ),
    "a job that went on though somebody wanted it stopped": (
        "I19b",
        replace(
            CALM,
            events=(Event("cancel", "a", "processing", "processing", 3.0),),
            jobs=(job(state="cancelled"),),
            attempts=(attempt(1, "cancelled", 30.0),),
            effects=(effect("start"),),
        ),
    ),
    "a secret in a log": ("I20", replace(CALM, leaks=("SECRET_KEY in a log",))),
    "a queue that stood still after the last fault": (
        "I21",
        replace(CALM, open_at_heal=1, effects=(effect("start", at=50.0), effect("end", at=51.0))),
    ),
    "a queue that stood still in between": ("I21c", STOOD_STILL),
    "a retry that was due for long": (
        "I21d",
        replace(
            CALM,
            jobs=(job(runs=2, attempts=1),),
            planned=(Planned("a", 0.0, codes=(3, 0)),),
            attempts=(attempt(1, "failed", exit_code=3), attempt(2, at=60.0)),
            effects=(effect("start"), effect("start", 2, 59.0), effect("end", 2, 60.0)),
        ),
    ),
    "others stood still beside failures that came first": (
        "I21b",
        replace(
            CALM,
            faults=(
                fault("others-flow", name="failures-first", began=10.0, ended=20.0, target=""),
            ),
            calls=(*CALM.calls, Call("enqueue", "b", 12.0, "info")),
            effects=(*CALM.effects, effect("start", key="more0-x", at=12.0)),
        ),
    ),
    "others stood still beside a fault": (
        "I21b",
        replace(
            CALM,
            faults=(fault("others-flow", began=10.0, ended=20.0),),
            calls=(*CALM.calls, Call("enqueue", "b", 12.0, "info")),
        ),
    ),
    "output that is not what was printed": (
        "I22",
        replace(
            CALM,
            planned=(Planned("a", 0.0, "prints", prints=9),),
            attempts=(attempt(stdout_bytes=9, output=digest(b"something")),),
        ),
    ),
    "a traceback": ("I23", replace(CALM, complaints=("Traceback",))),
}


@pytest.mark.parametrize("name", ["power-loss", "read-only-disk"])
@pytest.mark.parametrize(("began", "left"), [(5.3, []), (4.9, ["I16"]), (10.1, ["I16"])])
def test_a_lock_file_may_be_back_after_the_end_of_a_file_system_soon_after_its_removal(
    name: str, began: float, left: list[str]
) -> None:
    """The worker's row was closed at 5.0."""
    lost = fault("loses", name=name, began=began, target="")
    verdict = check(replace(CALM, faults=(lost,), residue=("lock file /x/w1-1.lock of w1",)))
    assert [key.partition(" ")[0] for key in verdict.violations] == left


@pytest.mark.parametrize(("called", "still"), [((), False), ((12.0,), True)])
def test_all_may_stand_still_while_a_stopped_writer_keeps_the_client_waiting_too(
    called: tuple[float, ...], still: bool
) -> None:
    """What was due at 7.0 began at 22.0."""
    stop = fault("stands", name="pause-long", target="w2", began=8.0, ended=21.0)
    calls = (Call("enqueue", "c", at, "fail") for at in (*called, 21.5))
    stood = replace(STOOD_STILL, faults=(stop,), calls=(*STOOD_STILL.calls, *calls))
    assert ("I21c" in found(stood)) is still
    assert "I21c" in found(replace(stood, database="postgresql"))


@pytest.mark.parametrize(("away_from", "repeats"), [(8.5, False), (9.5, True)])
def test_a_death_may_repeat_what_a_slow_turn_had_not_stored_when_the_database_went(
    away_from: float, repeats: bool
) -> None:
    """The run had ended at 3.0: its outcome is reported within a second, by a statement of five at most."""
    away = fault("away", name="restart-server", target="", began=away_from, ended=29.0)
    history = replace(ENDED_LONG_BEFORE, faults=(*ENDED_LONG_BEFORE.faults, away))
    assert ("I9b" in found(history)) is repeats


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_found(name: str) -> None:
    number, history = BAD[name]
    assert number in found(history)


def test_no_invariant_is_without_a_history_that_breaks_it() -> None:
    assert {name.partition(" ")[0] for name in INVARIANTS} == {number for number, _ in BAD.values()}


EXCUSED: dict[str, History] = {
    "a queue that stood still while the database was away": replace(
        STOOD_STILL, faults=(replace(STOOD_STILL.faults[0], ended=15.0),)
    ),
    "a loss by an outage that outlasted the lease": replace(
        LOST_ONCE,
        faults=(fault("loses", "away", name="outage-long", target="", ended=7.0),),
        attempts=(attempt(1, "lost", 7.5), attempt(2, at=9.0)),
        effects=(effect("start"), effect("start", 2, 8.0), effect("end", 2, 9.0)),
    ),
    "two runs at once after a fault that explains it": replace(
        LOST_ONCE,
        faults=(fault("loses", "overlaps"),),
        effects=(*LOST_ONCE.effects, effect("overlap", 2, 4.0)),
    ),
    "a run that meets one which has said its end and has not ended": replace(
        LOST_ONCE,
        faults=(fault("loses", "overlaps"),),
        effects=(*LOST_ONCE.effects, effect("end", 1, 3.999), effect("overlap", 2, 4.0)),
    ),
    "two runs at once while a standstill lasts": replace(
        LOST_ONCE,
        faults=(fault("loses", "overlaps", "stands"),),
        effects=(*LOST_ONCE.effects, effect("overlap", 2, 7.0)),
    ),
    "three runs repeated by the death of a worker with two slots": replace(
        REPEATED_THRICE, notes={"slots": 2}
    ),
    "a run repeated that had ended just before a death": replace(
        LOST_ONCE,
        faults=(fault("loses", began=3.5),),
        attempts=(attempt(1, "lost", 4.0), attempt(2, at=6.0)),
        effects=(*CALM.effects, effect("start", 2, 5.0), effect("end", 2, 6.0)),
    ),
    "a late rescue, the database having been away": replace(
        LOST_ONCE,
        faults=(fault("loses"), fault("away", name="outage", began=3.0, ended=18.0, target="")),
        attempts=(attempt(1, "lost", 20.0), attempt(2, at=22.0)),
        effects=(effect("start"), effect("start", 2, 21.0), effect("end", 2, 22.0)),
    ),
    "a dead worker given up late, the database having been away": replace(
        LOST_ONCE,
        faults=(fault("loses"), fault("away", name="outage", began=3.0, ended=18.0, target="")),
        attempts=(attempt(1, "lost", 20.0), attempt(2, at=22.0)),
        effects=(effect("start"), effect("start", 2, 21.0), effect("end", 2, 22.0)),
        workers=(Worker(1, "w1", 2.4, 20.0, "none of its processes is left"), ALIVE),
    ),
    "a worker given up long after another death of a part of it": replace(
        LOST_ONCE,
        workers=(
            Worker(1, "w1", 2.4, 3.0, "its ledger process died"),
            Worker(2, "w1", 30.0, 36.0, "its heartbeat stopped"),
        ),
    ),
    "a number that a death used up": replace(
        LOST_ONCE, jobs=(job(runs=2),), attempts=(attempt(2, at=5.0),)
    ),
    "an answer in doubt of a job that was stored": replace(
        CALM, calls=(Call("enqueue", "a", 1.0, "info"),)
    ),
    "a second life by a person's retry": replace(
        CALM,
        planned=(Planned("a", 0.0, codes=(3, 0), max_retries=0),),
        jobs=(job(runs=2, max_retries=0),),
        calls=(*CALM.calls, Call("retry", "a", 3.5, "ok")),
        events=(Event("retry", "a", "dead", "pending", 3.5),),
        attempts=(attempt(1, "failed", exit_code=3), attempt(2, at=5.0)),
        effects=(effect("start"), effect("start", 2, 4.0), effect("end", 2, 5.0)),
    ),
    "a start three hours early, by a clock that was set ahead": replace(
        CALM,
        planned=(Planned("a", 0.0, "later", delay=5.0),),
        clock=(Step(1.5, 10_800.0),),
    ),
    "a task that was to kill its process": replace(
        CALM,
        planned=(Planned("a", 0.0, codes=(9, 0), task=True, how="dies"),),
        jobs=(job(runs=2, attempts=1),),
        attempts=(attempt(1, "failed", signal=9), attempt(2, at=6.0)),
        effects=(effect("start"), effect("start", 2, 5.5), effect("end", 2, 6.0)),
    ),
    "a signal of a fault that did not land": replace(
        CALM,
        faults=(fault("fails", name="out-of-memory-task", landed=False),),
        attempts=(attempt(1, "failed", signal=10), attempt(2, at=6.0)),
        jobs=(job(runs=2, attempts=1),),
        effects=(effect("start"), effect("start", 2, 5.5), effect("end", 2, 6.0)),
    ),
    "one slot and one who came late": replace(
        CALM,
        slots=1,
        planned=(Planned("a", 0.0), Planned("b", 0.0, priority=9)),
        calls=(*CALM.calls, Call("enqueue", "b", 1.0, "ok")),
        jobs=(job(), job("b", priority=9, created_at=28.0)),
        attempts=(attempt(), attempt(key="b")),
        effects=OUT_OF_LINE,
    ),
    "two jobs of one unique key, one after the other": replace(
        CALM,
        planned=(Planned("a", 0.0, unique="k"), Planned("b", 0.0, unique="k")),
        calls=(*CALM.calls, Call("enqueue", "b", 1.0, "ok")),
        jobs=(
            job(unique="k", finished_at=3.0),
            job("b", unique="k", created_at=3.1, finished_at=9.0),
        ),
        attempts=(attempt(), attempt(key="b")),
        effects=(*CALM.effects, effect("start", key="b"), effect("end", key="b")),
    ),
    "a ledger with a socket for each task runner": replace(
        CALM,
        base=(Usage("w1", "ledger", 10, 50),),
        usage=(Usage("w1", "ledger", 20, 50, task_runners=4),),
        connections=(8, 8),
    ),
    "output as it was printed": replace(
        CALM,
        planned=(Planned("a", 0.0, "prints", prints=900),),
        attempts=(attempt(stdout_bytes=900, output=digest(printed("a", 900))),),
    ),
}


@pytest.mark.parametrize("name", EXCUSED)
def test_what_the_promises_allow_is_no_violation(name: str) -> None:
    assert check(EXCUSED[name]).violations == {}


def test_a_run_whose_fault_never_landed_is_invalid_and_not_green() -> None:
    verdict = check(replace(CALM, asked=("kill-worker",), faults=(fault("loses", landed=False),)))
    assert verdict.word == "invalid"
    assert verdict.invalid == ["kill-worker was tried 1 times and never landed"]


@pytest.mark.parametrize(
    "history",
    [
        replace(CALM, calls=(Call("enqueue", "a", 1.0, "info"),)),
        replace(CALM, effects=(), attempts=(), jobs=(job(state="cancelled", runs=0),)),
        replace(CALM, planned=(Planned("a", 0.0, codes=(1, 0)),)),
        replace(CALM, faults=(fault("loses", "must-lose"),)),
    ],
    ids=["nothing acknowledged", "nothing ran", "nothing failed", "nothing lost"],
)
def test_a_run_in_which_little_happened_is_invalid(history: History) -> None:
    assert check(history).invalid


def test_a_run_of_many_faults_in_which_nothing_became_of_them_is_invalid() -> None:
    kinds = tuple(f"kind {number}" for number in range(10))
    landed = tuple(fault("loses", name=name) for name in kinds)
    quiet = replace(CALM, asked=kinds, faults=landed)
    assert check(quiet).invalid == [
        "of many kinds of faults none cost an attempt",
        "no job failed and succeeded then",
        "no job died",
    ]
    busy = replace(
        quiet,
        jobs=(job(runs=3, attempts=1, losses=1), job("b", state="dead")),
        attempts=(attempt(1, "lost"), attempt(2, "failed", 4.0), attempt(3, at=5.0)),
    )
    assert check(busy).invalid == []


OVERTAKEN = replace(
    LOST_ONCE,
    database="postgresql",
    asked=tuple(f"kind {number}" for number in range(10)),
    planned=(Planned("a", 0.0), Planned("b", 0.0, codes=(3, 0))),
    faults=(
        *(fault("loses", name=f"kind {number}") for number in range(9)),
        fault("loses", "stands", "overlaps", name="kind 9", ended=11.5),
    ),
    jobs=(job(runs=2, losses=1), job("b", runs=2, attempts=1), job("c", state="dead")),
    attempts=(
        attempt(1, "lost", 9.0),
        attempt(2, at=12.0),
        attempt(1, "failed", key="b"),
        attempt(2, key="b"),
    ),
    effects=(effect("start"), effect("end", at=3.0), effect("start", 2, 11.0), effect("end", 2, 12.0)),
)  # fmt: skip


def test_a_run_in_which_nobody_who_stood_still_too_long_was_overtaken_is_invalid() -> None:
    assert check(OVERTAKEN).invalid == []
    without_a_row = replace(
        OVERTAKEN, attempts=(*OVERTAKEN.attempts[1:], attempt(1, "lost", key="d"))
    )
    assert check(without_a_row).invalid == []
    said = ["workers stood still for longer than a lease, and no outcome of theirs came too late"]
    reported = (attempt(1, at=12.0), *OVERTAKEN.attempts[1:], attempt(1, "lost", key="d"))
    assert check(replace(OVERTAKEN, attempts=reported)).invalid == said
    ended_before = (effect("start", at=1.0), effect("end", at=2.0), *OVERTAKEN.effects[2:])
    assert check(replace(OVERTAKEN, effects=ended_before)).invalid == said
    last = OVERTAKEN.faults[-1]
    for other in (replace(last, ended=4.0), replace(last, may=("loses", "stands"))):
        faults = (*OVERTAKEN.faults[:-1], other)
        assert check(replace(OVERTAKEN, effects=ended_before, faults=faults)).invalid == []
    # Its lock file tells of a worker there, however long it stands.
    assert check(replace(OVERTAKEN, effects=ended_before, database="sqlite")).invalid == []


def test_a_violation_is_told_even_where_the_run_is_invalid() -> None:
    assert check(replace(CALM, asked=("kill-worker",), drained=None)).word == "violated"


@pytest.mark.parametrize(
    ("unbroken", "code", "told"),
    [({}, 0, "broken it is found"), ({"I8 x": ["twice"]}, 1, "does not hold unbroken: I8: twice")],
    ids=["a find", "a false alarm"],
)
def test_a_broken_build_is_found_only_where_the_unbroken_one_holds(
    unbroken: dict[str, list[str]],
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def judged(name: str, seed: int, directory: Path, mutant: str = "no-fence") -> Verdict:
        return Verdict({"I8 x": ["twice"]} if mutant else unbroken, [], {})

    monkeypatch.setattr(mutants, "judged", judged)
    monkeypatch.setattr("sys.argv", ["mutants", "no-fence"])
    assert mutants.main() == code
    assert told in capsys.readouterr().out


def test_the_page_shows_what_was_recorded() -> None:
    recorded = json.loads(report.RECORDED.read_text())
    assert report.table(recorded) in report.PAGE.read_text()
    assert report.soaks(recorded) in report.PAGE.read_text()
    assert {run["verdict"] for run in recorded} == {"held"}


def recorded_run(faults: dict[str, int], **changed: object) -> dict[str, Any]:
    counts = {"acknowledged": 90, "lost": 0, "twice_without_cause": 0, "longest_rescue": 2.5}
    run = {"database": "sqlite", "seed": 7, "seconds": 1800.0, "rate": 12.0, "commit": "abc1234"}
    return run | {"faults": faults, "counts": counts} | changed


def test_a_soak_is_a_row_of_its_own_and_counted_with_each_of_its_faults() -> None:
    pair = "kill-worker+clock-forward"
    soak = recorded_run({"kill-worker": 12, "clock-forward": 3, pair: 2}, soak=True)
    row = "| SQLite | 30 | 7 | abc1234 | 12 | 90 | 0 | 0 | 2.5 s | 15 of 2 kinds, 4 of them in pairs |\n"
    assert report.soaks([soak]) == report.SOAKS_HEAD + row
    assert report.table([soak]) == report.HEAD
    alone = recorded_run({"kill-worker": 4})
    row = "| kill-worker (F1) | SQLite | abc1234 | 4 | 12 | 90 | 0 | 0 | 2.5 s |\n"
    assert report.table([alone, soak]) == report.HEAD + row
    elsewhere = recorded_run({"kill-worker": 4}, database="postgresql")
    assert "| 4 | - | 90 |" in report.table([elsewhere, soak])
    assert report.soaks([]) == report.NO_SOAK


def test_a_time_of_a_clock_that_was_set_is_told_as_one_that_was_not() -> None:
    clock = (Step(100.0, 10_800.0), Step(120.0, 0.0))
    for moment in (50.0, 99.0, 101.0, 119.0, 121.0):
        assert unmoved(clock, moment + ahead(clock, moment)) == moment
    set_back_first = (Step(1_240.0, -10_800.0), Step(1_244.0, 0.0))
    assert unmoved(set_back_first, 1_240.1 - 10_800.0) == pytest.approx(1_240.1)
    reckoned_back = 99.0 + 10_800.0  # from a reading after the step
    assert unmoved(clock, reckoned_back) == 99.0


def test_a_history_survives_its_file(tmp_path: Path) -> None:
    LOST_ONCE.write(tmp_path / "history.json")
    assert History.read(tmp_path / "history.json") == LOST_ONCE


def test_an_invocation_without_an_answer_is_in_doubt(tmp_path: Path) -> None:
    log = client.Log(tmp_path / "client.log")
    log.write("invoke", "enqueue", "a")
    log.write("ok", "enqueue", "a", "True")
    log.write("invoke", "enqueue", "b")
    log.write("invoke", "enqueue", "b")
    log.write("fail", "enqueue", "b", "no")
    log.write("invoke", "enqueue", "c")
    answers = [(call.key, call.answer) for call in client.calls(tmp_path / "client.log")]
    assert answers == [("a", "ok"), ("b", "info"), ("b", "fail"), ("c", "info")]
