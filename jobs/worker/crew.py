"""The processes of a worker, by their pids; whatever else is a child of ours was left to us."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from .. import clock
from ..execution import processes

LEFTOVER_SECONDS = 1.0


class Crew:
    """Who is alive."""

    def __init__(self) -> None:
        self.others = set(processes.strays((), processes.processes()))
        """Children from before this process was a worker's: none of our business."""

        self.ledger = 0
        self.runners: list[int] = []
        """Command runners by their number; 0 where one has died."""

        self.task_runners: dict[int, int] = {}
        """By their number; made when the ledger wants one."""

        self.lock_path = ""
        """Of the life that they are of: with their pids what marks the processes that their tasks start."""

    def known(self) -> set[int]:
        return {self.ledger, *self.runners, *self.task_runners.values(), *self.others}

    def kill_leftovers(self) -> None:
        """SIGKILL what dead members left to us, and whatever comes of it, until nothing is left.

        What a task left in the background is spared while its runner lives, whose session it is in or
        whose mark it has. So is what is in our own session, which all members have left: a thread of the
        host has started it.
        """
        living, patience = self.task_runners.values(), clock.monotonic() + LEFTOVER_SECONDS
        sessions = {os.getsid(0), *living}
        marks = {processes.mark_of(self.lock_path, pid) for pid in living}
        while processes.kill_strays(self.known(), sessions, marks) and clock.monotonic() < patience:
            clock.pause(0.005)

    def end_runners(self, patience: float) -> None:
        """Wait until all runners have left, or kill them then. Task runners at once: inside a task
        nobody notices that a ledger is gone.
        """
        until = clock.monotonic() + patience
        processes.send(self.task_runners.values(), signal.SIGKILL)
        while any(self.runners) or self.task_runners:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if os.WIFSTOPPED(status):  # as one that asked to be traced may be
                continue
            self.runners = [0 if runner == pid else runner for runner in self.runners]
            self.task_runners = {i: p for i, p in self.task_runners.items() if p != pid}
            if pid == 0:
                if clock.monotonic() > until:
                    processes.send(filter(None, self.runners), signal.SIGKILL)
                clock.pause(0.005)
        self.ledger = 0


def kill_if(pid: int, guilty: Callable[[], bool]) -> bool:
    """SIGKILL a process for what the shared page says of it; whether that was done.

    It is stopped for a second look: between a look and a kill it would go on to something else.
    """
    processes.send([pid], signal.SIGSTOP)
    clock.pause(0.001)  # what it was writing is to be seen
    condemned = guilty()
    processes.send([pid], signal.SIGKILL if condemned else signal.SIGCONT)
    return condemned
