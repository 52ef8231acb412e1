"""Short runs with real workers: the part of the catalogue that no other test covers.

Runs bring their own server and their own files, so each is of one database whatever the suite's.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos import nemesis, run, workload
from tests.chaos.__main__ import _names
from tests.chaos.checker import check
from tests.chaos.faults import CATALOGUE
from tests.chaos.mutants import MUTANTS, TRIES, hunt_often
from tests.chaos.place import place
from tests.chaos.run import Plan

ON_POSTGRESQL = os.environ.get("DATABASE_URL", "").startswith("postgres")

AT_A_COMMIT = tuple(
    f"failpoint {place}:kill9"
    for place in (
        "before_turn_commit",
        "after_turn_commit",
        "after_heartbeat",
        "after_rescue_commit",
    )
)
DEATHS = (
    "kill-worker", "kill-runner", "kill-task-runner", "kill-ledger", "kill-client", "stop-by-signal",
)  # fmt: skip
# Two thousand jobs, nearly all over at once, of which each worker always has some in hand.
MANY = {
    **{"quick": 44, "task-quick": 40, "plain": 4, "task-plain": 4, "long": 1, "task-long": 1},
    **{"flaky": 2, "task-flaky": 2, "doomed": 1, "task-doomed": 1},
}
AWAY = ("restart-server", "lost-commit-reply", "lost-enqueue-reply", "kill-worker", "clock-forward")

if ON_POSTGRESQL:
    PLANS = {
        "away": Plan("postgresql", 11, 5, AWAY),
        "deaths": Plan("postgresql", 12, 20, DEATHS, rate=100, workers=4, mix=(*MANY.items(),)),
        "commits": Plan("postgresql", 15, 5, AT_A_COMMIT),
    }
    SEEN = ["no-state-check"]
else:
    PLANS = {
        "deaths": Plan("sqlite", 13, 20, DEATHS, rate=100, workers=4, mix=(*MANY.items(),)),
        "commits": Plan("sqlite", 14, 5, AT_A_COMMIT),
        "disk": Plan("sqlite", 16, 5, ("kill-writer", "disk-full")),
    }
    SEEN = ["promote-ignores-due-at", "outcomes-dropped-after-a-failed-turn"]


@pytest.mark.parametrize("name", PLANS)
def test_every_promise_holds_under(name: str, tmp_path: Path) -> None:
    # A run whose faults did not land says nothing, and another is made; one that says no is the end.
    for seed in range(PLANS[name].seed, PLANS[name].seed + 100 * TRIES, 100):
        possible = tuple(f for f in PLANS[name].faults if f not in run.left_out(PLANS[name].faults))
        plan, directory = replace(PLANS[name], seed=seed, faults=possible), tmp_path / str(seed)
        directory.mkdir()
        with place(plan.database, plan.needs) as there:
            verdict = check(run.run(plan, there, directory))
        if verdict.word != "invalid":
            break
    assert verdict.word == "held", f"seed {plan.seed}: {verdict}"
    assert verdict.counts["acknowledged"] > plan.rate * plan.seconds * 0.8, verdict
    assert verdict.counts["lost"] == 0


@pytest.mark.parametrize("name", SEEN)
def test_a_broken_build_is_found(name: str, tmp_path: Path) -> None:
    found, said = hunt_often(name, 1, tmp_path)
    assert found, said


if not ON_POSTGRESQL:

    def test_a_seed_gives_the_same_jobs_and_the_same_faults() -> None:
        def drawn(seed: int) -> tuple[object, object]:
            return workload.planned(seed, 50, 9), nemesis.schedule(seed, 30, DEATHS, 2)

        assert drawn(1) == drawn(1)
        assert drawn(1) != drawn(2)

    def test_every_fault_that_is_asked_for_is_tried_however_short_the_time() -> None:
        strikes = nemesis.schedule(1, 0.1, tuple(CATALOGUE), 2)
        assert {strike.name for strike in strikes} == set(CATALOGUE)

    def test_what_needs_a_run_of_its_own_is_among_the_rare_alone() -> None:
        names = {d: set(_names("rare", d)) for d in ("sqlite", "postgresql")}
        assert names["sqlite"] == {"old-reader", "file-replaced"}
        assert names["postgresql"] == {"outage-of-minutes", "back-after-judgement"}
        for database, rare in names.items():
            assert not rare & set(_names("all,common,pairs,failpoints", database))

    def test_a_fault_that_takes_minutes_strikes_once_and_jobs_go_on_meanwhile() -> None:
        strikes = nemesis.schedule(1, 20, ("old-reader",), 2)
        assert len(strikes) == 1 and nemesis.length(strikes) > 300

    def test_a_fault_without_a_victim_makes_the_run_invalid(tmp_path: Path) -> None:
        plan = replace(PLANS["deaths"], seconds=1, faults=("kill-client",), rate=0)
        with place(plan.database) as there:
            history = run.run(plan, there, tmp_path)
        assert check(history).word == "invalid"

    def test_there_are_thirteen_broken_builds() -> None:
        assert len(MUTANTS) == 13
