"""Which running tasks have to be ended. Inside a task a process can watch nothing, so we do."""

from __future__ import annotations

import math

from .. import clock, conf, dialect
from .crew import Crew, kill_if
from .page import Page


class Overdue:
    """Kills task runners for the sake of what they run, and remembers why."""

    def __init__(self, crew: Crew, page: Page) -> None:
        self.crew, self.page = crew, page
        self.margin = conf.get().FENCE_MARGIN_SECONDS
        self.killed: dict[int, str] = {}
        """Numbers of those we have killed, and why."""

        self.tasks_end: float | None = None
        """When the grace of running tasks is over."""

    def next_moment(self) -> float:
        """When a running task has to be ended, as far as is known. Who was killed and does not die, in a
        call that the kernel does not interrupt, is not waited for.
        """
        cells = [self.page.cells(i) for i in self.crew.task_runners if i not in self.killed]
        moments = [each.kill_at for each in cells]
        if any(each.since for each in cells):
            moments += [self._fence_at()] + ([] if self.tasks_end is None else [self.tasks_end])
        return min(moments, default=math.inf)

    def end(self) -> None:
        """Kill those whose time is over, or whose lease or grace is."""
        now = clock.monotonic()
        over = now >= self._fence_at() or (self.tasks_end is not None and now >= self.tasks_end)
        for index in list(self.crew.task_runners):
            cells = self.page.cells(index)
            if cells.kill_at <= now:
                self.kill(index, cells.begun, "timed_out")
            elif over and cells.since:
                self.kill(index, cells.begun, "interrupted")

    def kill(self, index: int, number: int, why: str) -> None:
        """Kill a runner for what it runs, unless that has ended meanwhile, or been given more time."""
        pid, cells = self.crew.task_runners.get(index), self.page.cells(index)
        if pid is None or index in self.killed:
            return

        def is_at_it() -> bool:
            late = why != "timed_out" or cells.kill_at <= clock.monotonic()
            return late and cells.begun == number and cells.since is not None

        if kill_if(pid, is_at_it):
            self.killed[index] = why

    def why(self, index: int) -> str:
        """Why we killed a runner that has died; "" where we did not. Asked once."""
        return self.killed.pop(index, "")

    def _fence_at(self) -> float:
        """When the lease of tasks that nobody renews is over, less a margin.

        Where the lock is the lease it is ours as long as we live: who suspends a whole worker, or its
        machine, takes nobody's jobs away. A ledger that is silent while we are not is killed, see `hung`.
        """
        return math.inf if dialect.workers_share_a_host() else self.page.lease_ends - self.margin
