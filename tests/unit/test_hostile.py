"""Commands that keep their runner from its work, or hide from it: they harm nobody else."""

import signal
from collections.abc import Iterator

import pytest

from jobs.outcome import Kind
from tests.unit.builders import work
from tests.unit.runners import Runner
from tests.unit.test_shell import PYTHON

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
