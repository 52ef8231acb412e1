"""What runs inside the programs of a run: names for processes, failpoints and mutants."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import AppConfig

_PR_SET_NAME = 15
TASK_RUNNER, BUSY_TASK_RUNNER = "queuectl-tasks", "queuectl-busy"
lease = ""
"""Of the task that runs in this process."""


class Inside(AppConfig):
    name = "tests.chaos.inside"
    label = "chaos"

    def ready(self) -> None:
        from tests.chaos import failpoints, mutants

        name_the_parts()
        tell_tasks_their_lease()
        if wanted := os.environ.get("CHAOS_FAILPOINT"):
            failpoints.arm(failpoints.parsed(wanted))
        if name := os.environ.get("CHAOS_MUTANT"):
            mutants.MUTANTS[name].breaks()


def name_the_parts() -> None:
    """Let /proc tell the ledger from a runner, whatever connections each has."""
    from jobs.worker import ledger_process, runner, task_runner

    runner.main = _named("queuectl-runner", runner.main)
    ledger_process.main = _named("queuectl-ledger", ledger_process.main)
    task_runner.main = _named(TASK_RUNNER, task_runner.main)


def tell_tasks_their_lease() -> None:
    """A command finds it in its environment; a task is told no such thing, and here has to know."""
    from jobs.execution import tasks

    inner = tasks.run

    def run(work: Any, *args: Any) -> Any:
        global lease
        lease = work.lease
        with called(BUSY_TASK_RUNNER, then=TASK_RUNNER):
            return inner(work, *args)

    tasks.run = run


def _named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        call_this(name)
        return function(*args)

    return call


def call_this(name: str) -> None:
    """Name this process, at most 15 letters, for /proc."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


@contextmanager
def called(name: str, *, then: str) -> Iterator[None]:
    call_this(name)
    try:
        yield
    finally:
        call_this(then)
