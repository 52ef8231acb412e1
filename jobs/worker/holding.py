"""What a worker holds, and the sockets to its runners."""

from __future__ import annotations

import logging
import selectors
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from .. import clock
from ..outcome import Kind, Outcome
from ..work import Work, kind
from . import wire
from .held import Held, Runner
from .pace import Pace
from .page import Page
from .wire import Channel, Closed

logger = logging.getLogger(__name__)

FRAME_BYTES = 1_048_576
LARGE_BYTES = 65_536
"""An output that may be why a report takes too long."""


class Holding:
    """What is claimed and not yet reported: with a runner, ended, or returned unstarted."""

    def __init__(
        self,
        channels: Sequence[Channel],
        slots: Sequence[int],
        selector: selectors.BaseSelector,
        page: Page | None = None,
        task_runners: int = 0,
        ask: Callable[..., None] = lambda tag, *values: None,
    ):
        """`ask` sends to the supervisor, which makes and ends task runners."""
        self.selector, self.page, self.ask = selector, page, ask
        self.runners = [Runner(channel, n) for channel, n in zip(channels, slots, strict=True)]
        self.command_runners, self.lobby = range(len(slots)), len(slots)
        self.task_runners = range(len(slots) + 1, len(slots) + 1 + task_runners)
        """Positions among the runners. In the lobby tasks wait for a runner that is being made."""

        self.runners += [Runner(None, 0) for _ in range(1 + task_runners)]
        self.wanted: set[int] = set()
        """Positions of task runners asked for and not there yet."""

        self.held: dict[str, Held] = {}
        self.running: set[Held] = set()
        """Of these, what has started, as far as we know."""

        self.heard_at = 0.0
        """When the runners were last heard. What runs for long, and how long, is reckoned up to then: the
        short job that ended during a turn of ours is not yet known to have ended."""

        self.ended: list[tuple[Held, Outcome]] = []
        self.returned: list[Held] = []
        self.begun: list[Held] = []
        """Started, and not yet recorded as started."""

        self.pace = Pace()
        self.late_at = 0.0
        """Before this nothing is late; what comes now is not late before `LATE_SECONDS`."""

        for index, channel in enumerate(channels):
            selector.register(channel, selectors.EVENT_READ, index)

    def __bool__(self) -> bool:
        return bool(self.held or self.ended or self.returned)

    @property
    def unwritten(self) -> bool:
        """Whether a turn has something to write down."""
        return bool(self.ended or self.returned)

    def waits(self) -> bool:
        """Whether something that we gave out has not started, as far as we know."""
        return len(self.held) > len(self.running)

    def leases(self) -> set[str]:
        waiting = [*self.held.values(), *self.returned, *(held for held, _ in self.ended)]
        return {held.work.lease for held in waiting}

    def _slots(self) -> int:
        """How many jobs may run at once, of both kinds: those of the command runners that live."""
        return sum(runner.slots for runner in self.runners[: self.lobby] if runner.channel)

    # To the runners

    def _hold(self, held: Held) -> None:
        runner, lease = self.runners[held.runner], held.work.lease
        self.held[lease] = held
        runner.held.add(lease)
        if held.work.wary:
            runner.wary.add(lease)
        if held.started is not None:
            self.running.add(held)

    def _give(self, index: int, works: Iterable[Work]) -> None:
        runner, now = self.runners[index], clock.monotonic()
        for part in _parts(works):
            for work in part:
                self.held[work.lease].given = now
            for work in part if runner.cells else ():
                runner.sent += 1
                runner.unbegun.append((runner.sent, work.lease))
                runner.numbers[work.lease] = runner.sent
            if not self.send(index, wire.RUN, [wire.from_work(work) for work in part]):
                for work in part:
                    self._returned(work.lease)

    def send(self, index: int, tag: str, *values: Any) -> bool:
        """Send to a runner; False when it is gone, and what was sent with it."""
        channel = self.runners[index].channel
        if channel is None:
            return False
        try:
            channel.send(tag, *values)
        except Closed:
            return False  # `hear` finds the same, after what the runner still had to say
        self._watch(index, channel)
        return True

    def _watch(self, index: int, channel: Channel) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.wants_write else 0)
        if self.selector.get_key(channel).events != events:
            self.selector.modify(channel, events, index)

    def tell_all(self, tag: str, *values: Any) -> None:
        """To every command runner; one inside a task would not hear it."""
        for index in self.command_runners:
            self.send(index, tag, *values)

    # From the runners

    def hear(self, index: int, mask: int) -> bool:
        """Take what a runner says; False when it is gone and all it said has been heard."""
        channel = self.runners[index].channel
        if channel is None:
            return True
        try:
            if mask & selectors.EVENT_WRITE:
                # One that is dead takes no more, but may have said something before: `receive` tells.
                with suppress(Closed):
                    channel.flush()
                self._watch(index, channel)
            frames = channel.receive() if mask & selectors.EVENT_READ else []
        except Closed:
            self._close(index)
            return False
        for tag, *values in frames:
            match tag:
                case wire.STARTED:
                    self._started(values[0])
                case wire.ENDED:
                    for lease, outcome in values[0]:
                        self._ended(lease, wire.to_outcome(outcome))
                case wire.RETURNED:
                    self.runners[index].recalled = False
                    for lease in values[0]:
                        self._returned(lease)
        return True

    def _started(self, starts: Iterable[tuple[str, float]]) -> None:
        for lease, moment in starts:
            held = self.held.get(lease)
            if held is not None and held.started is None:
                self._has_started(held, moment)

    def _has_started(self, held: Held, moment: float) -> None:
        held.started = moment
        self.running.add(held)
        if not held.recorded:
            self.begun.append(held)

    def _ended(self, lease: str, outcome: Outcome) -> None:
        held = self._let_go(lease)
        if held is None:
            return
        if outcome.started is not None and outcome.ended is not None:
            self.pace.took(outcome.ended - outcome.started)
            runner = self.runners[held.runner]
            if held.given < runner.last_end <= outcome.ended:
                self.pace.followed(outcome.ended - runner.last_end, runner.slots)
            runner.last_end = outcome.ended
        self.ended.append((held, outcome))

    def _returned(self, lease: str) -> None:
        if held := self._let_go(lease):
            self.returned.append(held)

    def _let_go(self, lease: str) -> Held | None:
        held = self.held.pop(lease, None)
        if held is not None:
            runner = self.runners[held.runner]
            runner.held.discard(lease)
            runner.wary.discard(lease)
            runner.numbers.pop(lease, None)
            self.running.discard(held)
        return held

    def written(self, ended: Sequence[tuple[Held, Outcome]], returned: Sequence[Held]) -> None:
        """A commit has taken these: forget them, and give their runners credit for more output."""
        gone = {id(held) for held, _ in ended} | {id(held) for held in returned}
        self.ended = [pair for pair in self.ended if id(pair[0]) not in gone]
        self.returned = [held for held in self.returned if id(held) not in gone]
        sizes: dict[int, int] = {}
        for held, outcome in ended:
            sizes[held.runner] = sizes.get(held.runner, 0) + outcome.kept
        for index, size in sizes.items():
            if size:
                self.send(index, wire.TAKEN, size)

    def lighten(self) -> None:
        """What ended first is too much for the database: of its output only the size is kept.

        One that is large by something else is tried again after all others.
        """
        if not self.ended:
            return
        held, outcome = self.ended[0]
        if outcome.kept < LARGE_BYTES:
            self.ended.append(self.ended.pop(0))
            return
        logger.warning(
            "the output of %s #%d is not kept: storing it takes too long",
            held.work.key,
            held.work.number,
        )
        self.ended[0] = (held, outcome.without_output())
        self.send(held.runner, wire.TAKEN, outcome.kept)

    def unrecorded(self) -> list[Held]:
        """Started ahead, still running, and not yet recorded as started."""
        self.begun = [
            held for held in self.begun if held.work.lease in self.held and not held.recorded
        ]
        return self.begun

    # When a runner dies

    def _close(self, index: int) -> None:
        runner = self.runners[index]
        assert runner.channel is not None
        self.selector.unregister(runner.channel)
        runner.channel.close()
        runner.channel = None

    def bury(self, index: int) -> None:
        """The supervisor has killed what a dead runner left; told again with each try to replace it."""
        self._hear_the_rest(index)
        self.lose(index)

    def replace(self, index: int, fd: int) -> None:
        """Another runner has the place of one that was buried."""
        channel = Channel(socket.socket(fileno=fd))
        self.runners[index].channel = channel
        self.selector.register(channel, selectors.EVENT_READ, index)

    def _hear_the_rest(self, index: int) -> None:
        """What a runner said before it died is still in the socket."""
        channel = self.runners[index].channel
        while (
            channel is not None and channel.is_readable() and self.hear(index, selectors.EVENT_READ)
        ):
            pass
        if self.runners[index].channel is not None:
            self._close(index)

    def gone(self) -> list[int]:
        """Positions without a runner whose death has been heard and that nobody has replaced yet."""
        return [index for index, runner in enumerate(self.runners) if runner.channel is None]

    def lose(self, index: int) -> None:
        """Give up what a dead runner held: lost if it had started, else returned."""
        runner = self.runners[index]
        runner.recalled = False
        now = clock.monotonic()
        for lease in list(runner.held):
            held = self.held[lease]
            held.suspect = True
            if held.started is None:
                self._returned(lease)
            else:
                error = f"Lost: its {kind(held.work.task)} runner died"
                self._let_go(lease)
                self.ended.append((held, Outcome(kind=Kind.LOST, error=error, ended=now)))


def _parts(works: Iterable[Work]) -> Iterator[list[Work]]:
    """Works in parts whose frames stay well below what the wire takes."""
    part: list[Work] = []
    size = 0
    for work in works:
        part.append(work)
        size += work.size
        if size > FRAME_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
