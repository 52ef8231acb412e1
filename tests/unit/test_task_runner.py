"""What a task does to the process that it runs in is no trouble for the tasks after it."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobs.outcome import Kind
from jobs.worker import wire
from tests.unit.task_runners import TaskRunner, task_work


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("task-runner") / "stderr"


@pytest.fixture(scope="module")
def runner(said: Path) -> Iterator[TaskRunner]:
    runner = TaskRunner(said)
    yield runner
    assert runner.close() == 0


def test_a_child_that_a_task_forks_ends_with_its_function_and_runs_nothing_else(
    runner: TaskRunner, said: Path, tmp_path: Path
) -> None:
    ways = {"returns": 0, "exits": 3, "raises": 1, "says": 1}
    forks = [task_work("fork", how) for how in ways]
    *found, neighbour = runner.run(*forks, task_work("add_line", str(tmp_path / "lines")))
    assert [(each.kind, each.result) for each in found] == [
        (Kind.SUCCEEDED, code) for code in ways.values()
    ]
    assert neighbour.kind is Kind.SUCCEEDED
    assert (tmp_path / "lines").read_text() == "one more\n"
    told = said.read_text()
    assert told.count("ValueError: in the child") == told.count("last words") == 1


def test_a_connection_that_cannot_be_closed_is_gone_before_the_next_task(
    runner: TaskRunner, said: Path
) -> None:
    works = [task_work("break_connection", "raises"), task_work("whether_connected")]
    broken, after = runner.run(*works)
    assert (broken.kind, after.kind, after.result) == (Kind.SUCCEEDED, Kind.SUCCEEDED, False)
    assert "OSError: this cannot be closed" in said.read_text()


def test_an_outcome_is_told_before_connections_are_closed(tmp_path: Path) -> None:
    """For that may last, or end the process."""
    runner = TaskRunner(tmp_path / "stderr")
    [found] = runner.run(task_work("break_connection", "dies"))
    assert found.kind is Kind.SUCCEEDED
    assert runner.close() == 9


def test_once_the_lease_is_over_no_task_begins(tmp_path: Path) -> None:
    """Whoever was stopped for so long has been given up, and others may have run what waits here."""
    runner, lines = TaskRunner(tmp_path / "stderr"), tmp_path / "lines"
    waiting = [task_work("add_line", str(lines)) for _ in range(2)]
    runner.page.lease_ends = time.monotonic() - 0.1
    returned = [lease for leases in runner.answers(wire.RETURNED, waiting) for lease in leases]
    assert returned == [work.lease for work in waiting]
    assert not lines.exists()
    runner.page.lease_ends = time.monotonic() + 60
    [found] = runner.run(task_work("add_line", str(lines)))
    assert found.kind is Kind.SUCCEEDED
    assert runner.close() == 0


def test_a_supervisor_that_hears_no_bell_for_long_costs_no_task(tmp_path: Path) -> None:
    """It is rung for each task with a short timeout, and may be stopped."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    runner = TaskRunner(tmp_path / "stderr", bell=writing)
    [found] = runner.run(task_work("whether_connected")._replace(timeout=0.9))
    assert found.kind is Kind.SUCCEEDED
    assert runner.close() == 0
    for fd in (reading, writing):
        os.close(fd)
