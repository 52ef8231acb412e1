"""Tasks and their runners: the lobby, and the page on which a runner says what it has begun."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterable, Sequence

from .. import clock
from ..work import Work
from . import wire
from .held import Runner, cut_short
from .holding import Holding
from .wire import Channel


class TasksInHand(Holding):
    """A task runner is made when it is needed, does not listen while it is in a task, and may be killed."""

    def _task_runners_for(self, work: Work, nimble: Sequence[int]) -> Iterable[int]:
        """Those to choose from; none, if it is better to wait in the lobby for one more."""
        alive = [i for i in self.task_runners if self.runners[i].channel]
        ready = [i for i in alive if (nimble[i] if work.ahead else not self.runners[i].held)]
        if ready:
            return ready
        if not (work.ahead and self.wanted):
            self._want_task_runner()
        return [] if self.wanted else alive

    def _want_task_runner(self) -> None:
        """Ask for one more, if there may be, for each that waits in the lobby and one that comes now.

        The place is ours to choose: where one died it is free when we know what that one had begun.
        """
        free = [i for i in self.task_runners if not self.runners[i].cells and i not in self.wanted]
        if free and len(self.wanted) <= len(self.runners[self.lobby].held):
            self.wanted.add(free[0])
            self.ask(wire.WANT_TASK_RUNNER, self.task_runners.index(free[0]))

    def welcome(self, index: int, fd: int) -> None:
        """A task runner is there: whoever waits in the lobby for one goes to it."""
        position = self.task_runners[index]
        channel = Channel(socket.socket(fileno=fd))
        assert self.page is not None
        self.runners[position] = Runner(channel, 1, cells=self.page.cells(index))
        self.selector.register(channel, selectors.EVENT_READ, position)
        self.wanted.discard(position)
        lobby = self.runners[self.lobby]
        waiting = sorted((self.held[lease] for lease in lobby.held), key=lambda h: h.claimed)
        share = waiting if not self.wanted else waiting[:1]
        for held in share:
            self._let_go(held.work.lease)
            held.runner = position
            self._hold(held)
        self._give(position, [held.work for held in share])

    def bid_farewell(self, index: int, why: str, code: int) -> None:
        """A task runner has died; `why` we killed it, or "", and its exit code, negative for a signal.

        What it was at has its outcome by that; what it had not begun, the page says, is as it was.
        """
        position = self.task_runners[index]
        self._hear_the_rest(position)
        runner = self.runners[position]
        if runner.cells is None:
            # It never came, for want of a descriptor of ours. To ask anew at once would go on and on:
            # who waits in the lobby is given back, and claimed again if nobody else does.
            self.wanted.discard(position)
            return
        begun, now = runner.cells.begun, clock.monotonic()
        for lease in list(runner.held):
            held = self.held[lease]
            if runner.numbers[lease] > begun:
                self._returned(lease)
                continue
            self._let_go(lease)
            held.started = held.started or runner.cells.since or now
            self.ended.append((held, cut_short(held, why, code, now)))
        self.runners[position] = Runner(None, 0)
        if self.runners[self.lobby].held:
            self._want_task_runner()

    def look_at_pages(self) -> None:
        """See which tasks have begun."""
        for position in self.task_runners:
            runner = self.runners[position]
            if runner.cells is None or not runner.unbegun:
                continue
            begun, since = runner.cells.begun, runner.cells.since
            while runner.unbegun and runner.unbegun[0][0] <= begun:
                _, lease = runner.unbegun.popleft()
                held = self.held.get(lease)
                if held is not None and held.runner == position and held.started is None:
                    self._has_started(held, since or clock.monotonic())

    def take_back(self, position: int) -> None:
        """Take from a task runner what it has not begun, without its help: it may be busy for long."""
        runner = self.runners[position]
        if runner.cells is None or not runner.unbegun:
            return
        runner.cells.revoke(runner.sent)
        clock.pause(0.001)  # so that what it says now holds, see Cells.begin
        self.look_at_pages()
        while runner.unbegun:
            self._returned(runner.unbegun.popleft()[1])

    def drain_tasks(self) -> None:
        """Keep only tasks that have begun."""
        for lease in list(self.runners[self.lobby].held):
            self._returned(lease)
        for position in self.task_runners:
            self.take_back(position)
