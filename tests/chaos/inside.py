"""What runs inside the programs of a run: names for processes, failpoints and mutants."""

import ctypes
import os
from collections.abc import Callable
from typing import Any

from django.apps import AppConfig

_PR_SET_NAME = 15


class Inside(AppConfig):
    name = "tests.chaos.inside"
    label = "chaos"

    def ready(self) -> None:
        from tests.chaos import failpoints, mutants

        name_the_parts()
        if wanted := os.environ.get("CHAOS_FAILPOINT"):
            failpoints.arm(failpoints.parsed(wanted))
        if name := os.environ.get("CHAOS_MUTANT"):
            mutants.MUTANTS[name].breaks()


def name_the_parts() -> None:
    """Let /proc tell the ledger from a runner, whatever connections each has."""
    from jobs.worker import runner, turns

    runner.main = _named("queuectl-runner", runner.main)
    turns.main = _named("queuectl-ledger", turns.main)


def _named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
        return function(*args)

    return call
