"""The claims in a worker's hands, and the runners they are with."""

from __future__ import annotations

import math
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import clock
from ..execution import shell
from ..ledger import Room
from ..outcome import Kind, Outcome
from ..work import Work
from . import wire
from .page import Cells, Page
from .wire import Channel, Closed

FRAME_BYTES = 1_048_576
LOBBY_SECONDS = 5.0
"""How long tasks wait for a runner that is being made."""

LATE_SECONDS = 0.15
"""What was claimed ahead and has not started after this is asked back: others may be free for it."""

SHORTEST_PACE = 1e-4
"""Seconds: what the shortest job takes with what is done around it."""

GATHER_SECONDS = 0.05
"""Reports wait for company no longer than this, and only while runners have work."""

AHEAD_SECONDS, AHEAD_MOST, AHEAD_FIRST = 0.1, 1_000, 16
"""Claim ahead no more than the slots do in this time, and never more than that many. How many of
them pay is found by trying, from a few upwards."""


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


@dataclass(slots=True)
class Runner:
    channel: Channel | None
    """None from its death until the supervisor has replaced it."""

    slots: int
    held: set[str] = field(default_factory=set)
    wary: set[str] = field(default_factory=set)
    """Of what it holds, what one more loss would end."""

    recalled: bool = False
    cells: Cells | None = None
    """Of a task runner: where it says what it has begun."""

    sent: int = 0
    unbegun: deque[tuple[int, str]] = field(default_factory=deque)
    """Number and lease of the works it was sent and, as far as we have looked, has not begun."""

    numbers: dict[str, int] = field(default_factory=dict)
    """Of the works it holds, by lease."""


class Hands:
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

        self.ended: list[tuple[Held, Outcome]] = []
        self.returned: list[Held] = []
        self.begun: list[Held] = []
        """Started, and not yet recorded as started."""

        self.pace: float | None = None
        """Seconds a job takes, as a moving average."""

        self.stride = AHEAD_FIRST
        """Jobs to claim ahead: doubled when the runners had run dry, halved when some came too late."""

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

    # How much to claim

    def free(self) -> int:
        """Slots without a job, of runners that live."""
        return max(0, self._slots() - len(self.held))

    def room(self) -> Room:
        """How many jobs to claim: for the free slots, and ahead of them if jobs are short."""
        free = self.free()
        ahead = max(0, self._slots() + self._ahead() - len(self.held)) - free
        tasks = sum(len(runner.held) for runner in self.runners[self.lobby :])
        return Room(
            free=free,
            ahead=ahead,
            wary=self.wary(),
            tasks=max(0, len(self.task_runners) + self._ahead() - tasks),
            held=frozenset(
                kind
                for kind, number in (("task", tasks), ("command", len(self.held) - tasks))
                if number
            ),
        )

    def _ahead(self) -> int:
        """Jobs to claim ahead: none while no slot turns over, whatever the pace was before."""
        if self.pace is None or self.pace > AHEAD_SECONDS or not self._turns_over():
            return 0
        return min(self.stride, int(self._slots() * AHEAD_SECONDS / max(self.pace, SHORTEST_PACE)))

    def gather(self, turn: float) -> float:
        """Seconds that reports may wait for company: until the runners would be idle after a turn.

        `turn` is what one takes. Twice that is left, as the next finds more to write.
        """
        if self.pace is None or self.pace > AHEAD_SECONDS or self.free():
            return 0.0
        waiting = len(self.held) - len(self.running)
        lasts = waiting * max(self.pace, SHORTEST_PACE) / max(1, self._slots())
        return max(0.0, min(GATHER_SECONDS, lasts - 2 * turn))

    def _turns_over(self) -> bool:
        """Whether there is a slot, of all, that is not taken by a job that runs long."""
        return self._slots() > sum(1 for _ in self._long())

    def _nimble(self) -> list[int]:
        """Slots of each runner that are not taken by a job that runs long."""
        nimble = [runner.slots if runner.channel else 0 for runner in self.runners]
        for held in self._long():
            nimble[held.runner] -= 1
        return [max(0, slots) for slots in nimble]

    def _long(self) -> Iterator[Held]:
        since = clock.monotonic() - AHEAD_SECONDS
        return (h for h in self.running if h.started is not None and h.started < since)

    def wary(self) -> int:
        """How many works to take of which no two may share a runner: one each that has room."""
        return sum(
            bool(runner.channel) and len(runner.held) < runner.slots and not runner.wary
            for runner in self.runners[: self.lobby]
        )

    def _slots(self) -> int:
        """How many jobs may run at once, of both kinds: those of the command runners that live."""
        return sum(runner.slots for runner in self.runners[: self.lobby] if runner.channel)

    def waits(self) -> bool:
        """Whether something that we gave out has not started, as far as we know."""
        return len(self.held) > len(self.running)

    def leases(self) -> set[str]:
        waiting = [*self.held.values(), *self.returned, *(held for held, _ in self.ended)]
        return {held.work.lease for held in waiting}

    # To the runners

    def hand_out(self, works: Iterable[Work], now: float) -> None:
        """Give each work to the runner with the most room; ahead, to one whose slots turn over.

        Wary ones first, while the runners they need have room.
        """
        works = list(works)
        if works and not self.held:
            self.stride = min(AHEAD_MOST, self.stride * 2)
        nimble, all_slots = self._nimble(), [runner.slots for runner in self.runners]
        turning = [i for i in self.task_runners if self.runners[i].channel and nimble[i]]
        batches: dict[int, list[Work]] = {}
        for work in sorted(works, key=lambda work: not work.wary):
            among: Iterable[int] = self.command_runners
            if work.task:
                among = turning if work.ahead and turning else self._task_runners_for(work, nimble)
            index = self._lightest(among, nimble if work.ahead else all_slots, work)
            # When a task begins its runner says, on the page.
            started = None if work.ahead or work.task else now
            self._hold(Held(work, index, now, started, recorded=not work.ahead))
            batches.setdefault(index, []).append(work)
        batches.pop(self.lobby, None)
        for index, batch in batches.items():
            self._give(index, batch)

    def _lightest(self, among: Iterable[int], slots: Sequence[int], work: Work) -> int:
        """The runner with the most room; the lobby where there is none to choose from."""
        best, least = self.lobby, (True, True, math.inf)
        for index in among:
            runner = self.runners[index]
            full = not runner.channel or not slots[index]
            load = len(runner.held) / (slots[index] or 1)
            weight = (full, bool(work.wary and runner.wary), load)
            if weight < least:
                best, least = index, weight
        return best

    def _hold(self, held: Held) -> None:
        runner, lease = self.runners[held.runner], held.work.lease
        self.held[lease] = held
        runner.held.add(lease)
        if held.work.wary:
            runner.wary.add(lease)
        if held.started is not None:
            self.running.add(held)

    def _give(self, index: int, works: Iterable[Work]) -> None:
        runner = self.runners[index]
        for part in _parts(works):
            for work in part if runner.cells else ():
                runner.sent += 1
                runner.unbegun.append((runner.sent, work.lease))
                runner.numbers[work.lease] = runner.sent
            if not self.send(index, wire.RUN, [wire.from_work(work) for work in part]):
                for work in part:
                    self._returned(work.lease)

    # Task runners

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
        assert runner.cells is not None
        begun, now = runner.cells.begun, clock.monotonic()
        for lease in list(runner.held):
            held = self.held[lease]
            if runner.numbers[lease] > begun:
                self._returned(lease)
                continue
            self._let_go(lease)
            held.started = held.started or runner.cells.since or now
            self.ended.append((held, _cut_short(held, why, code, now)))
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

    def recall_late(self, now: float) -> None:
        """Ask for what was claimed ahead and has not started in time: others may be free for it."""
        self.look_at_pages()
        if now < self.late_at:
            return
        self.late_at = now + LATE_SECONDS
        for index, runner in enumerate(self.runners):
            waiting = [self.held[x].claimed for x in runner.held if self.held[x].started is None]
            patience = LOBBY_SECONDS if index == self.lobby else LATE_SECONDS
            late_at = min(waiting, default=math.inf) + patience
            if runner.recalled or now <= late_at:
                self.late_at = min(self.late_at, late_at)
                continue
            self.stride = max(AHEAD_FIRST, self.stride // 2)
            if index == self.lobby:
                for lease in list(runner.held):
                    self._returned(lease)
            elif runner.cells:
                self.take_back(index)
            else:
                runner.recalled = True
                self.send(index, wire.RECALL)

    def cancel(self, leases: Iterable[str]) -> None:
        """Pass on that a person wants these stopped, once each."""
        for lease in leases:
            held = self.held.get(lease)
            if held and not held.work.cancel_requested:
                held.work = held.work._replace(cancel_requested=True)
                self._cancel(held)

    def _cancel(self, held: Held) -> None:
        lease, position = held.work.lease, held.runner
        if position in self.command_runners:
            self.send(position, wire.CANCEL, lease)
        elif position == self.lobby:
            self._returned(lease)
        else:
            self.take_back(position)
            if lease in self.held:
                number = self.runners[position].numbers[lease]
                self.ask(wire.KILL, self.task_runners.index(position), number, "cancelled")

    def drain_tasks(self) -> None:
        """Keep only tasks that have begun."""
        for lease in list(self.runners[self.lobby].held):
            self._returned(lease)
        for position in self.task_runners:
            self.take_back(position)

    def tell_all(self, tag: str, *values: Any) -> None:
        """To every command runner; one inside a task would not hear it."""
        for index in self.command_runners:
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
            took = outcome.ended - outcome.started
            self.pace = took if self.pace is None else 0.8 * self.pace + 0.2 * took
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
        self._hear_the_rest(index)
        self.lose(index)
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
                error = f"Lost: its {'task' if held.work.task else 'command'} runner died"
                self._let_go(lease)
                self.ended.append((held, Outcome(kind=Kind.LOST, error=error, ended=now)))


def _cut_short(held: Held, why: str, code: int, now: float) -> Outcome:
    """What a task came to whose process ended before it did."""
    kind = Kind(why) if why else Kind.FAILED
    how = f"exit code {code}" if code >= 0 else f"signal {-code} ({shell.signal_name(-code)})"
    error = {
        Kind.TIMED_OUT: f"Task timed out after {held.work.timeout or 0:g} seconds",
        Kind.CANCELLED: "Cancelled while it ran",
        Kind.INTERRUPTED: "Interrupted: its worker had to stop it",
    }.get(kind, f"Its process ended with {how}")
    return Outcome(
        kind=kind,
        error=error,
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        started=held.started,
        ended=now,
    )


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
