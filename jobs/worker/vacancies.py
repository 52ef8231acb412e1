"""Runners that are to be started: with a life of the ledger, when it wants one more, or for one that died."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from .. import clock
from . import child, hung, wire
from .crew import Crew
from .hung import Hung
from .page import Page
from .stopping import Stopping
from .wire import Channel, Closed

logger = logging.getLogger(__name__)

SHORTAGE_SECONDS = 1.0
"""Between two tries to start a runner where the system has no process to spare."""


class Vacancies:
    """Starts runners and enters them in the crew; those for which there is no room now, later."""

    def __init__(
        self,
        crew: Crew,
        hung: Hung,
        page: Page,
        stopping: Stopping,
        *,
        worker: str,
        slots: Sequence[int],
    ) -> None:
        self.crew, self.hung, self.page, self.stopping = crew, hung, page, stopping
        self.worker, self.slots = worker, slots
        self.lock = -1
        self.vacant: dict[int, float] = {}
        """Command runners that died, and when to put another in their place."""

        self.missing: dict[int, float] = {}
        """Task runners that could not be started, and when to try again."""

        self.short = False
        """Whether the last runner could not be started."""

    def begin(self, lock: int, path: str) -> None:
        """A life of the ledger begins: its runners hold this lock, and mark their children with its path."""
        self.lock, self.crew.lock_path = lock, path
        self.vacant.clear()
        self.missing.clear()
        self.crew.runners = []

    def open(self, index: int, *, after: float) -> None:
        """A command runner has died; another takes its place in so many seconds."""
        self.crew.runners[index] = 0
        self.vacant[index] = clock.monotonic() + after

    def fill(self, ledger: Channel) -> None:
        """Start whoever is due, and give the ledger its ends of their sockets."""
        for index in _due(self.vacant):
            self._replace(ledger, index)
        for index in _due(self.missing):
            self.make_task_runner(ledger, index)

    def make_task_runner(self, ledger: Channel, index: int) -> None:
        if index in self.crew.task_runners:
            return
        if pid := self._born(ledger, self._start_task_runner, wire.TASK_RUNNER, index):
            self.crew.task_runners[index] = pid
        else:
            self.missing[index] = clock.monotonic() + SHORTAGE_SECONDS

    def start_runner(self, index: int, far: socket.socket, *, close: list[socket.socket]) -> int:
        """Start a command runner; its pid. Raises OSError where the system has no process to spare."""
        self.hung.heard(hung.command_runner(index))
        slots, page = self.slots[index], self.page.fd
        return child.start_runner(index, slots, far, page=page, lock=self.lock, close=close)

    def _replace(self, ledger: Channel, index: int) -> None:
        """A runner died: kill what it left, and only then let the ledger give its jobs up.

        They do not wait for the other runner, which may have to wait for long.
        """
        self.crew.kill_leftovers()
        with suppress(Closed):
            ledger.send(wire.RUNNER_GONE, index)
        if not self.short:
            logger.error("a command runner died; its commands are killed and it is replaced")
        self.crew.runners[index] = self._born(ledger, self.start_runner, wire.REPLACED, index)
        if not self.crew.runners[index]:
            self.vacant[index] = clock.monotonic() + SHORTAGE_SECONDS

    def _born(self, ledger: Channel, start: Callable[..., int], tag: str, index: int) -> int:
        """Start a runner and give the ledger its end of the socket; its pid, or 0 where there is no room.

        What runs already goes on: it must not end for want of one process more.
        """
        try:
            with ExitStack() as stack:
                near, far = pair(stack)
                pid = start(index, far, close=[near, ledger.socket])
                far.close()
                with suppress(Closed):
                    ledger.send_with_fd(near.fileno(), tag, index)
        except OSError as error:
            if not self.short:
                logger.error("a runner cannot be started, trying again each second: %s", error)
            self.short = True
            return 0
        self.short = False
        return pid

    def _start_task_runner(
        self, index: int, far: socket.socket, *, close: list[socket.socket]
    ) -> int:
        self.page.cells(index).reset()
        self.hung.heard(hung.task_runner(index))
        return child.start_task_runner(
            index,
            far,
            page=self.page.fd,
            bell=self.stopping.bell,
            worker=self.worker,
            lock_path=self.crew.lock_path,
            lock=self.lock,
            close=close,
        )


def pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Two ends of a socket, closed with the stack."""
    near, far = wire.pair()
    return stack.enter_context(near), stack.enter_context(far)


def _due(moments: dict[int, float]) -> list[int]:
    """Take out those whose moment has come."""
    now = clock.monotonic()
    due = [index for index, moment in moments.items() if now >= moment]
    for index in due:
        del moments[index]
    return due
