"""A crew whose members are processes that do nothing."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.worker.crew import Crew
from jobs.worker.page import Page
from tests.support import wait_until


@contextmanager
def idle_crew() -> Iterator[tuple[Crew, Page]]:
    """One command runner, one task runner and a ledger."""
    crew, page = Crew(), Page.new()
    sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    crew.ledger, crew.runners = sleepers[0].pid, [sleepers[1].pid]
    crew.task_runners[0] = sleepers[2].pid
    for sleeper in sleepers:
        wait_until(
            lambda pid=sleeper.pid: how_it_is(pid) == "S", timeout=10, message="it does not sleep"
        )
    yield crew, page
    for sleeper in sleepers:
        sleeper.kill()
        sleeper.wait()
    os.close(page.fd)


def how_it_is(pid: int) -> str:
    """Its state as /proc tells it: S sleeps, T is stopped, Z is dead."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def how_it_ended(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
