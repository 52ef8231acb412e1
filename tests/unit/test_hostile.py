"""Commands that keep their runner from its work, or hide from it: they harm nobody else."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.outcome import Kind
from tests.support import wait_until
from tests.unit.builders import work
from tests.unit.runners import Runner
from tests.unit.test_shell import PYTHON, pid_in

TRACED = """
import ctypes, os, signal, sys, time
ctypes.CDLL(None).ptrace(0, 0, 0, 0)
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner(slots=4)
    yield runner
    runner.close()


def test_a_command_that_asks_to_be_traced_is_ended_by_its_time_and_ends_nobody_else(
    runner: Runner,
) -> None:
    neighbour = work("sleep 300", ahead=True)
    runner.give(neighbour)
    runner.wait_for_start(neighbour)
    found = runner.run(work(argv=[PYTHON, "-ISc", TRACED], timeout=0.5))
    # It is stopped until it is killed, and hears no SIGTERM.
    assert (found.kind, found.signal) == (Kind.TIMED_OUT, signal.SIGKILL)
    runner.tell("cancel", neighbour.lease)
    assert runner.outcome(neighbour).kind is Kind.CANCELLED


# Of a process whose main thread has ended the system tells as of one that is dead.
HIDDEN = """
import ctypes, os, sys, threading, time
if sys.argv[2:] and os.fork():
    os._exit(0)
if sys.argv[2:]:
    os.setsid()
    for fd in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), fd)
threading.Thread(target=time.sleep, args=(300,)).start()
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
ctypes.CDLL(None).pthread_exit(None)
"""


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_command_whose_main_thread_has_ended_is_not_left_by_a_runner_without_a_ledger(
    tmp_path: Path,
) -> None:
    runner, file = Runner(slots=2), tmp_path / "pid"
    runner.give(work(argv=["setsid", "-f", PYTHON, "-ISc", HIDDEN, str(file)]), work("sleep 300"))
    pid = pid_in(file)
    runner.close()
    assert not is_there(pid)


def test_what_a_command_left_is_ended_while_others_run_though_its_main_thread_has_ended(
    runner: Runner, tmp_path: Path
) -> None:
    neighbour, file = work("sleep 300"), tmp_path / "pid"
    runner.give(neighbour)
    found = runner.run(work(argv=[PYTHON, "-ISc", HIDDEN, str(file), "escape"]))
    assert found.kind is Kind.SUCCEEDED
    pid = pid_in(file)
    wait_until(lambda: not is_there(pid), timeout=3, message=f"{pid} outlived its job")
    runner.tell("cancel", neighbour.lease)
    assert runner.outcome(neighbour).kind is Kind.CANCELLED
