import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import clock, dialect
from jobs.exceptions import WorkerRefused
from jobs.worker import supervisor as rooms
from jobs.worker.supervisor import Plan, Supervisor, _share
from tests.support import wait_until


@given(slots=st.integers(1, 4096), runners=st.integers(1, 64))
def test_slots_are_shared_out_evenly_and_completely(slots: int, runners: int) -> None:
    shares = _share(slots, runners)
    assert sum(shares) == slots
    assert max(shares) - min(shares) <= 1


@given(slots=st.integers(1, 4096), runners=st.integers(1, 64))
def test_no_runner_is_without_a_slot(slots: int, runners: int) -> None:
    shares = _share(slots, runners)
    assert len(shares) == min(slots, runners) and min(shares) >= 1


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """One whose only task runner is a process that does nothing."""
    reading, lock = os.pipe()
    supervisor = Supervisor(Plan(slots=1), lambda name: None, lock, "/nowhere", "name")
    with subprocess.Popen(["sleep", "60"]) as runner:
        supervisor.task_runners[0] = runner.pid
        yield supervisor
        runner.kill()
    for fd in (reading, lock, supervisor.page.fd):
        os.close(fd)


def how_it_is(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


@pytest.mark.parametrize(
    "why, timeout", [("timed_out", 0.0), ("interrupted", None), ("cancelled", 60.0)]
)
def test_a_runner_is_killed_for_what_it_is_at(
    supervisor: Supervisor, why: str, timeout: float | None
) -> None:
    supervisor.page.cells(0).begin(3, clock.monotonic() - 1, timeout)
    supervisor._kill_task(0, 3, why)
    assert supervisor.killed == {0: why}
    _pid, status = os.waitpid(supervisor.task_runners[0], 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


@pytest.mark.parametrize("meanwhile", ["it has ended", "another has begun", "time was given"])
def test_a_runner_that_has_gone_on_meanwhile_is_spared(
    supervisor: Supervisor, meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = supervisor.page.cells(0)
    cells.begin(3, clock.monotonic() - 1, 0.5)

    def pause(seconds: float, **_: Any) -> None:
        if meanwhile == "it has ended":
            cells.end()
        else:
            cells.begin(4 if meanwhile == "another has begun" else 3, clock.monotonic(), 60.0)

    monkeypatch.setattr("jobs.worker.supervisor.clock.pause", pause)
    supervisor._kill_task(0, 3, "timed_out")
    assert supervisor.killed == {}
    pid = supervisor.task_runners[0]
    wait_until(lambda: how_it_is(pid) == "S", message="it stays stopped")


def test_a_ledger_that_does_not_answer_is_killed_and_told_of_once(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor.ledger, supervisor.leave_by = supervisor.task_runners[0], clock.monotonic() - 1
    for _ in range(5):
        supervisor._end_the_silent()
    assert [record.getMessage() for record in caplog.records] == [
        "the ledger process does not answer and is killed"
    ]
    _, status = os.waitpid(supervisor.ledger, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_a_sqlite_without_returning_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "is_in_memory", lambda: False)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(WorkerRefused, match=r"SQLite 3\.34\.1 is too old"):
        rooms.run(Plan(slots=1), lambda name: None)
