"""Settings of a site whose workers neither adopt nor look for what commands leave behind."""

from django.apps import AppConfig
from settings import *  # noqa: F403
from settings import INSTALLED_APPS as WATCHED

INSTALLED_APPS = [*WATCHED, "benchmarks.unwatched.Unwatched"]


class Unwatched(AppConfig):
    name = "benchmarks"
    label = "unwatched"

    def ready(self) -> None:
        from jobs.execution import processes
        from jobs.worker.crew import Crew
        from jobs.worker.sweep import Sweep

        processes.become_subreaper = lambda: None
        Sweep.expect = lambda self, now: None  # type: ignore[method-assign]
        Crew.kill_leftovers = lambda self: None  # type: ignore[method-assign]
