"""A task runner: calls one Django task after the other, with database connections of its own.

Inside a task it can watch nothing. So it says on the shared page what it begins, the supervisor
kills it when its time is over, and dies with it; works that have not begun the ledger takes back
by that page. Each outcome is on its way before the next task begins: whatever ends this process
costs one attempt.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from .. import clock, conf, dialect
from ..execution import forks, processes, tasks
from ..work import Work
from . import wire
from .page import Page, sign_seconds
from .wire import Channel, Closed

NUDGE_SECONDS = 1.0
"""The supervisor looks at the page this often by itself; for a shorter timeout it is woken."""


def main(
    sock: socket.socket, index: int, page: Page, worker: str, supervisor: int, bell: int, lock: int
) -> int:
    """The whole life of a task runner; returns when its ledger is gone."""
    processes.die_with_parent(supervisor)
    # By these a child of a task would pass for the runner, and its worker for alive.
    forks.part_from([sock.close, partial(os.close, lock), partial(os.close, bell)], page.fd)
    TaskRunner(Channel(sock), index, page, worker, bell).run()
    dialect.close()
    return 0


class TaskRunner:
    def __init__(self, channel: Channel, index: int, page: Page, worker: str, bell: int) -> None:
        self.channel, self.page, self.cells = channel, page, page.cells(index)
        self.worker, self.bell = worker, bell
        self.pid = os.getpid()
        self.waiting: deque[Work] = deque()
        self.number = 0
        self.sign_seconds = sign_seconds(conf.get().LEASE_SECONDS)

    def run(self) -> None:
        try:
            while True:
                while self.waiting:
                    self.take(self.waiting.popleft())
                self.listen()
        except Closed:
            return

    def listen(self) -> None:
        if not self.channel.is_readable():
            dialect.tidy(idle=True)
            self._wait([self.channel], [])
            dialect.tidy(idle=True)  # it may have rested for hours
        for tag, *values in self.channel.receive():
            if tag == wire.RUN:
                self.waiting += [wire.to_work(work) for work in values[0]]

    def take(self, work: Work) -> None:
        self.number += 1
        now = clock.monotonic()
        # After a stop that outlasted the lease others may have run it; if not, it comes back at no cost.
        fenced = now >= self.page.lease_ends
        if fenced or not self.cells.begin(self.number, now, work.timeout):
            return self.send(wire.RETURNED, [work.lease])
        if work.timeout is not None and work.timeout < NUDGE_SECONDS:
            with suppress(BlockingIOError):  # so many rings wait already
                os.write(self.bell, b"\0")
        outcome = tasks.run(work, self.worker, now)
        signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm that it set is not the next one's
        forks.end_if_forked(self.pid)  # an import or a receiver of a signal may fork as well
        self.cells.end()
        self.send(wire.ENDED, [(work.lease, wire.from_outcome(outcome))])
        # Only now: what became of the task does not hang on what closing its connections brings.
        dialect.tidy(idle=False)

    def send(self, tag: str, values: Sequence[object]) -> None:
        """Send, and wait until it is sent."""
        self.channel.send(tag, values)
        while self.channel.wants_write:
            self._wait([], [self.channel])
            self.channel.flush()

    def _wait(self, to_read: Sequence[Channel], to_write: Sequence[Channel]) -> None:
        """Until the channel is ready; meanwhile say that we go on."""
        while True:
            self.cells.sign.give(clock.monotonic())
            if any(select.select(to_read, to_write, [], self.sign_seconds)):
                return
