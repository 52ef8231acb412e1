"""Task runners are killed for what they run, and only for that."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from jobs import clock
from jobs.worker.overdue import Overdue
from tests.support import wait_until
from tests.unit.crews import how_it_ended, how_it_is, idle_crew


@pytest.fixture
def overdue() -> Iterator[Overdue]:
    with idle_crew() as (crew, page):
        yield Overdue(crew, page)


@pytest.mark.parametrize(
    "why, timeout", [("timed_out", 0.0), ("interrupted", None), ("cancelled", 60.0)]
)
def test_a_runner_is_killed_for_what_it_is_at(
    overdue: Overdue, why: str, timeout: float | None
) -> None:
    overdue.page.cells(0).begin(3, clock.monotonic() - 1, timeout)
    overdue.kill(0, 3, why)
    assert overdue.why(0) == why
    assert how_it_ended(overdue.crew.task_runners[0]) == -signal.SIGKILL


@pytest.mark.parametrize("meanwhile", ["it has ended", "another has begun", "time was given"])
def test_a_runner_that_has_gone_on_meanwhile_is_spared(
    overdue: Overdue, meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = overdue.page.cells(0)
    cells.begin(3, clock.monotonic() - 1, 0.5)

    def pause(seconds: float, **_: Any) -> None:
        if meanwhile == "it has ended":
            cells.end()
        else:
            cells.begin(4 if meanwhile == "another has begun" else 3, clock.monotonic(), 60.0)

    monkeypatch.setattr("jobs.worker.crew.clock.pause", pause)
    overdue.kill(0, 3, "timed_out")
    assert overdue.why(0) == ""
    pid = overdue.crew.task_runners[0]
    wait_until(lambda: how_it_is(pid) == "S", message="it stays stopped")


def test_when_the_grace_is_over_what_runs_is_interrupted(overdue: Overdue) -> None:
    now = clock.monotonic()
    overdue.page.cells(0).begin(1, now, None)
    overdue.tasks_end = now + 60
    overdue.end()
    assert overdue.killed == {} and overdue.next_moment() == now + 60
    overdue.tasks_end = now
    overdue.end()
    assert overdue.killed == {0: "interrupted"}
