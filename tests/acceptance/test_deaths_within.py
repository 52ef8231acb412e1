"""A process of a worker dies at one place inside: its job is not lost, and has one outcome.

A job of its own for each place; `tests/chaos` has the same deaths among many jobs at once.
"""

import os
import signal
from collections import Counter

import pytest

from tests.acceptance.site import Site, signal_all
from tests.support import wait_until

AGAIN, ONCE = ["lost", "succeeded"], ["succeeded"]

# The first turn of this worker claims, and writes nothing down; the second reports.
PLACES = {
    "boot:kill9": ONCE,
    "before_turn_commit:kill9@1": ONCE,
    "after_turn_commit:kill9@1": AGAIN,
    "before_turn_commit:kill9@2": AGAIN,
    "after_turn_commit:kill9@2": ONCE,
    "before_start:kill9": AGAIN,
    "after_start:kill9": AGAIN,
    "after_exit:kill9": AGAIN,
    "in_report:kill9": AGAIN,
    "after_release:kill9": ONCE,
    "in_promote:kill9": ONCE,
    "before_heartbeat:kill9": AGAIN,
    "after_heartbeat:kill9": AGAIN,
}


def arm(site: Site, failpoint: str) -> None:
    site.env |= {
        "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
        "CHAOS_MARKERS": str(site.directory),
        "CHAOS_FAILPOINT": failpoint,
    }


def wait_for_death(site: Site, failpoint: str) -> None:
    marker = site.directory / failpoint.replace(":", "-")
    wait_until(marker.exists, timeout=20, message=site.describe)


def assert_one_outcome(site: Site, key: str, outcomes: list[str]) -> None:
    site.wait_for("completed", key, timeout=30)
    assert site.outcomes(key) == outcomes, site.describe()
    assert [attempt.number for attempt in site.attempts(key)] == [*range(1, len(outcomes) + 1)]
    assert site.job(key).losses == outcomes.count("lost")
    runs = Counter((effect.what, effect.attempt) for effect in site.effects(key=key))
    assert runs["end", len(outcomes)] == 1, "what is recorded as succeeded did not end"
    assert set(runs.values()) == {1} and not site.effects("overlap"), site.effects()


@pytest.mark.parametrize("failpoint", PLACES)
def test_a_death_at_one_place_loses_no_job(quick: Site, failpoint: str) -> None:
    # Longer than a heartbeat is apart from the next, or the turns that report may be others.
    seconds = 1.5 if "heartbeat" in failpoint else 0.1
    delay = {"delay": 1} if "promote" in failpoint else {}
    quick.enqueue(quick.effect("a", seconds, **delay))
    arm(quick, failpoint)
    worker = quick.spawn_worker("--count", "1")
    wait_for_death(quick, failpoint)
    assert_one_outcome(quick, "a", PLACES[failpoint])
    assert worker.stop() == 0, worker.log


@pytest.mark.parametrize("failpoint", ["before_rescue_commit:kill9", "after_rescue_commit:kill9"])
def test_a_rescuer_that_dies_loses_no_job(quick: Site, failpoint: str) -> None:
    quick.enqueue(quick.effect("a", 30, 0.1))
    dead = quick.start_worker()
    quick.wait_for_start("a")
    signal_all([*dead.all_parts(), *quick.commands()], signal.SIGKILL)
    arm(quick, failpoint)
    worker = quick.spawn_worker("--count", "1")
    wait_for_death(quick, failpoint)
    assert_one_outcome(quick, "a", AGAIN)
    assert worker.stop() == 0, worker.log


@pytest.mark.parametrize(
    ("failpoint", "outcomes"),
    [("in_report:kill9", AGAIN), ("after_report_commit:kill9", ONCE)],
    ids=["before", "after"],
)
def test_fifty_outcomes_run_again_if_their_report_was_not_committed_and_else_not(
    quick: Site, failpoint: str, outcomes: list[str]
) -> None:
    keys, log, gate = (
        [f"job{n}" for n in range(50)],
        quick.directory / "log",
        quick.directory / "gate",
    )
    os.mkfifo(gate)
    # They wait for the gate, and find none when they run again.
    command = (
        f"echo start $QUEUECTL_JOB_ID >>{log}; [ ! -e {gate} ] || read x <{gate}; echo end >>{log}"
    )
    quick.enqueue(*({"id": key, "command": command} for key in keys))
    arm(quick, failpoint)
    worker = quick.start_worker("--count", "50")
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == 50, timeout=20)
    ledger = worker.ledger()
    ledger.suspend()  # so that all end before it hears of any
    opened = os.open(gate, os.O_WRONLY)
    gate.unlink()
    os.close(opened)
    wait_until(lambda: not quick.commands(), message=quick.describe)
    ledger.resume()
    wait_for_death(quick, failpoint)
    quick.wait_for("completed", timeout=30)
    assert [quick.outcomes(key) for key in keys] == [outcomes] * 50
    assert log.read_text().splitlines().count("end") == 50 * len(outcomes)
    assert worker.stop() == 0, worker.log
