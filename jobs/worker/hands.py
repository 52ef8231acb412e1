"""The claims in a worker's hands, and the runners they are with."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .. import clock
from ..outcome import Kind, Outcome
from ..work import Work
from . import wire
from .wire import Channel, Closed

FRAME_BYTES = 1_048_576
LATE_SECONDS = 0.1
"""What was claimed ahead and has not started after this is asked back: others may be free for it."""

AHEAD_SECONDS, AHEAD_MOST, AHEAD_FIRST = 0.05, 500, 16
"""Claim ahead as much as is done in this time at the measured rate, never more than that many, and
fewer before there is a rate. Half of LATE_SECONDS, or much of it would be asked back."""


@dataclass(slots=True, eq=False)
class Held:
    """One claim in our hands."""

    work: Work
    runner: int
    claimed: float
    started: float | None
    """By the monotonic clock; None while it waits in its runner."""

    recorded: bool
    """Whether its row says that it has started."""

    suspect: bool = False
    """Its runner died holding it: it may be why."""


class Rate:
    """How many jobs end in a second, measured over windows in which jobs keep ending."""

    WINDOW_SECONDS, IDLE_SECONDS = 0.2, 0.5

    def __init__(self) -> None:
        self.per_second: float | None = None
        self._since = self._last = 0.0
        self._ended = 0

    def count(self, now: float) -> None:
        if now - self._last > self.IDLE_SECONDS:
            self._since, self._ended = now, 0
        self._last = now
        self._ended += 1
        if now - self._since >= self.WINDOW_SECONDS:
            self.per_second = self._ended / (now - self._since)
            self._since, self._ended = now, 0


@dataclass(slots=True)
class Runner:
    channel: Channel | None
    """None from its death until the supervisor has replaced it."""

    slots: int
    held: set[str] = field(default_factory=set)
    recalled: bool = False


class Hands:
    """What is claimed and not yet reported: with a runner, ended, or returned unstarted."""

    def __init__(
        self, channels: Sequence[Channel], slots: Sequence[int], selector: selectors.BaseSelector
    ):
        self.selector = selector
        self.runners = [Runner(channel, n) for channel, n in zip(channels, slots, strict=True)]
        self.held: dict[str, Held] = {}
        self.ended: list[tuple[Held, Outcome]] = []
        self.returned: list[Held] = []
        self.begun: list[Held] = []
        """Started, and not yet recorded as started."""

        self.pace: float | None = None
        """Seconds a job takes, as a moving average."""

        self.rate = Rate()

        for index, channel in enumerate(channels):
            selector.register(channel, selectors.EVENT_READ, index)

    def __bool__(self) -> bool:
        return bool(self.held or self.ended or self.returned)

    @property
    def unwritten(self) -> bool:
        """Whether a turn has something to write down."""
        return bool(self.ended or self.returned)

    # How much to claim

    def free(self) -> int:
        """Slots without a job, of runners that live."""
        return max(0, self._slots() - len(self.held))

    def room(self) -> int:
        """How many jobs to claim: for the free slots, and ahead of them if jobs are short."""
        return max(0, self._slots() + self._ahead() - len(self.held))

    def _ahead(self) -> int:
        """Jobs to claim ahead: none while no slot turns over, whatever the pace was before."""
        if self.pace is None or self.pace > AHEAD_SECONDS or not any(self._nimble()):
            return 0
        if self.rate.per_second is None:
            return min(AHEAD_FIRST, int(self._slots() * AHEAD_SECONDS / max(self.pace, 1e-4)))
        return min(AHEAD_MOST, int(self.rate.per_second * AHEAD_SECONDS))

    def _nimble(self) -> list[int]:
        """Slots of each runner that are not taken by a job that runs long."""
        since = clock.monotonic() - AHEAD_SECONDS
        nimble = [runner.slots if runner.channel else 0 for runner in self.runners]
        for held in self.held.values():
            if held.started is not None and held.started < since:
                nimble[held.runner] -= 1
        return [max(0, slots) for slots in nimble]

    def wary(self) -> int:
        """How many works to take of which no two may share a runner: one each that has room."""
        return sum(
            bool(runner.channel) and len(runner.held) < runner.slots and not self._is_wary(runner)
            for runner in self.runners
        )

    def _is_wary(self, runner: Runner) -> bool:
        return any(self.held[lease].work.wary for lease in runner.held)

    def _slots(self) -> int:
        return sum(runner.slots for runner in self.runners if runner.channel)

    def leases(self) -> set[str]:
        waiting = [*self.held.values(), *self.returned, *(held for held, _ in self.ended)]
        return {held.work.lease for held in waiting}

    # To the runners

    def hand_out(self, works: Iterable[Work], now: float) -> None:
        """Give each work to the runner with the most room; ahead, to one whose slots turn over.

        Wary ones first, while the runners they need have room.
        """
        nimble = self._nimble()
        batches: dict[int, list[Work]] = {}
        for work in sorted(works, key=lambda work: not work.wary):
            slots = nimble if work.ahead else [runner.slots for runner in self.runners]
            index = min(range(len(self.runners)), key=lambda i: self._load(i, slots[i], work))
            started = None if work.ahead else now
            self.held[work.lease] = Held(work, index, now, started, recorded=not work.ahead)
            self.runners[index].held.add(work.lease)
            batches.setdefault(index, []).append(work)
        for index, batch in batches.items():
            for part in _parts(batch):
                if not self.send(index, wire.RUN, [wire.from_work(work) for work in part]):
                    for work in part:
                        self._returned(work.lease)

    def _load(self, index: int, slots: int, work: Work) -> tuple[bool, bool, float]:
        runner = self.runners[index]
        full = not runner.channel or not slots
        return full, work.wary and self._is_wary(runner), len(runner.held) / max(1, slots)

    def recall_late(self, now: float) -> None:
        """Ask for what was claimed ahead and has not started in time: others may be free for it."""
        for index, runner in enumerate(self.runners):
            if not runner.recalled and any(
                self.held[lease].started is None and now - self.held[lease].claimed > LATE_SECONDS
                for lease in runner.held
            ):
                runner.recalled = True
                self.send(index, wire.RECALL)

    def cancel(self, leases: Iterable[str]) -> None:
        """Pass on that a person wants these stopped, once each."""
        for lease in leases:
            held = self.held.get(lease)
            if held and not held.work.cancel_requested:
                held.work = replace(held.work, cancel_requested=True)
                self.send(held.runner, wire.CANCEL, lease)

    def tell_all(self, tag: str, *values: Any) -> None:
        for index in range(len(self.runners)):
            self.send(index, tag, *values)

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

    # From the runners

    def hear(self, index: int, mask: int) -> bool:
        """Take what a runner says; False when it is gone and all it said has been heard."""
        channel = self.runners[index].channel
        if channel is None:
            return True
        try:
            if mask & selectors.EVENT_WRITE:
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
                held.started = moment
                self.begun.append(held)

    def _ended(self, lease: str, outcome: Outcome) -> None:
        held = self._let_go(lease)
        if held is None:
            return
        if outcome.started is not None and outcome.ended is not None:
            took = outcome.ended - outcome.started
            self.pace = took if self.pace is None else 0.8 * self.pace + 0.2 * took
        self.rate.count(clock.monotonic())
        self.ended.append((held, outcome))

    def _returned(self, lease: str) -> None:
        if held := self._let_go(lease):
            self.returned.append(held)

    def _let_go(self, lease: str) -> Held | None:
        held = self.held.pop(lease, None)
        if held is not None:
            self.runners[held.runner].held.discard(lease)
        return held

    def written(self, ended: Sequence[tuple[Held, Outcome]], returned: Sequence[Held]) -> None:
        """A commit has taken these: forget them, and give their runners credit for more output."""
        gone = {id(held) for held, _ in ended} | {id(held) for held in returned}
        self.ended = [pair for pair in self.ended if id(pair[0]) not in gone]
        self.returned = [held for held in self.returned if id(held) not in gone]
        sizes: dict[int, int] = {}
        for held, outcome in ended:
            sizes[held.runner] = (
                sizes.get(held.runner, 0) + outcome.stdout.kept + outcome.stderr.kept
            )
        for index, size in sizes.items():
            if size:
                self.send(index, wire.TAKEN, size)

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

    def replace(self, index: int, fd: int) -> None:
        """The supervisor has killed what a dead runner left, and started another in its place."""
        channel = self.runners[index].channel
        while (
            channel is not None and channel.is_readable() and self.hear(index, selectors.EVENT_READ)
        ):
            pass  # what it said before it died is still in the socket
        if self.runners[index].channel is not None:
            self._close(index)
        self.lose(index)
        channel = Channel(socket.socket(fileno=fd))
        self.runners[index].channel = channel
        self.selector.register(channel, selectors.EVENT_READ, index)

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
                error = "Lost: its command runner died"
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
