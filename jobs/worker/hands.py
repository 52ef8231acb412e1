"""How much a worker claims, and to which runner it gives what."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from ..ledger import Room
from ..work import Work
from . import wire
from .held import Held, Runner
from .tasks_in_hand import TasksInHand

LOBBY_SECONDS = 5.0
"""How long tasks wait for a runner that is being made."""

LATE_SECONDS = 0.15
"""What was claimed ahead and has not started after this is asked back: others may be free for it."""

SLOW_SECONDS = 1.0
"""The same for a runner that has not begun anything since it was given that: on a machine that has no
time for it, taking back and giving anew would be all that is ever done.
"""


class Hands(TasksInHand):
    """The claims in a worker's hands, and the runners they are with."""

    def free(self) -> int:
        """Slots in which nothing runs or is about to, of runners that live."""
        return max(0, self._slots() - self._used())

    def has_room(self) -> bool:
        """Whether `room` would be for any."""
        return bool(self.free() or self._ahead() > len(self.held) - self._used())

    def room(self) -> Room:
        """How many jobs to claim: for the free slots, and ahead of them if jobs are short."""
        tasks = [self.runners[index] for index in self.task_runners]
        commands = [self.runners[index] for index in self.command_runners]
        lobby = len(self.runners[self.lobby].held)
        waiting = len(self.held) - self._used()
        behind = sum(max(0, len(runner.held) - 1) for runner in tasks)
        nimble = self._nimble()
        turning = sum(nimble[index] for index in self.task_runners)
        some_task = lobby or any(runner.held for runner in tasks)
        some_command = any(runner.held for runner in commands)
        return Room(
            free=self.free(),
            ahead=max(0, self._ahead() - waiting),
            wary=self.wary(),
            tasks=max(0, sum(not runner.held for runner in tasks) - lobby),
            tasks_ahead=max(0, self.pace.ahead(turning) - behind),
            held=frozenset(["task"] * bool(some_task) + ["command"] * some_command),
        )

    def _used(self) -> int:
        """Slots that are taken: a task has one from when it waits for its runner to be made."""
        commands = [self.runners[index] for index in self.command_runners]
        tasks = [self.runners[index] for index in self.task_runners]
        return (
            sum(min(runner.slots, len(runner.held)) for runner in commands if runner.channel)
            + sum(bool(runner.held) for runner in tasks)
            + len(self.runners[self.lobby].held)
        )

    def _ahead(self) -> int:
        """Jobs to claim ahead: none while no slot turns over, whatever the pace was before."""
        return self.pace.ahead(self._slots()) if self._turns_over() else 0

    def gather(self, turn: float) -> float:
        """Seconds that reports may wait for company, where a turn takes `turn`."""
        if self.free():
            return 0.0
        return self.pace.gather(len(self.held) - len(self.running), self._slots(), turn)

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
        since = self.heard_at - self.pace.long_seconds
        return (h for h in self.running if h.started is not None and h.started < since)

    def to_record(self) -> list[Held]:
        """Of what has started ahead that which runs long: of the rest the outcome will tell in a moment."""
        long = set(self._long())
        return [held for held in self.unrecorded() if held in long]

    def wary(self) -> int:
        """How many commands to take of which no two may share a runner: one each that has room.

        Where none has, one each that will have: else all that stands behind such a command would pass it.
        """
        full = not self.free()
        return sum(
            bool(runner.channel) and not runner.wary and (full or len(runner.held) < runner.slots)
            for runner in self.runners[: self.lobby]
        )

    # To the runners

    def hand_out(self, works: Iterable[Work], now: float, *, began: float | None = None) -> None:
        """Give each work to the runner with the most room; ahead, to one whose slots turn over.

        Wary ones first, while the runners they need have room. `began`: when the turn did that
        claimed them, which is when their rows say that they started, those that are not ahead.
        """
        works = list(works)
        if works and not self.held:
            self.pace.ran_dry()
        nimble, all_slots = self._nimble(), [runner.slots for runner in self.runners]
        turning = [i for i in self.task_runners if self.runners[i].channel and nimble[i]]
        batches: dict[int, list[Work]] = {}
        for work in sorted(works, key=lambda work: not work.wary):
            among: Iterable[int] = self.command_runners
            is_task = work.task is not None
            if is_task:
                among = turning if work.ahead and turning else self._task_runners_for(work, nimble)
            index = self._lightest(among, nimble if work.ahead else all_slots, work)
            self.pace.weighed(work.size)
            # When a task begins its runner says, on the page.
            started = None if work.ahead or is_task else now if began is None else began
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

    # Back from them

    def recall_late(self, now: float) -> None:
        """Ask for what was claimed ahead and has not started in time: others may be free for it.

        At once where it waits behind long jobs while another runner of ours has a slot for it.
        `now`: all that the runners had said before this has been heard.
        """
        self.heard_at = now
        self.look_at_pages()
        idle = {kind for kind in self._kinds() if self.waits() and self._has_idle(kind)}
        if now < self.late_at and not idle:
            return
        self.late_at = now + LATE_SECONDS
        for index, runner in enumerate(self.runners):
            waiting = [self.held[x].claimed for x in runner.held if self.held[x].started is None]
            if runner.recalled or not waiting:
                continue
            late_at = min(waiting) + self._patience(index, since=min(waiting))
            stuck_at = self._stuck_at(runner) if any(index in kind for kind in idle) else math.inf
            if now <= min(late_at, stuck_at):
                self.late_at = min(self.late_at, late_at, stuck_at)
                continue
            if now > late_at:
                self.pace.came_late()
            self._recall(index)

    def _patience(self, index: int, *, since: float) -> float:
        """How long works may wait in a runner that were given to it then."""
        if index == self.lobby:
            return LOBBY_SECONDS
        runner = self.runners[index]
        moves = runner.last_end >= since or any(
            self.held[lease].started is not None for lease in runner.held
        )
        return LATE_SECONDS if moves else SLOW_SECONDS

    def _kinds(self) -> tuple[range, range]:
        return self.command_runners, self.task_runners

    def _has_idle(self, kind: Iterable[int]) -> bool:
        """Whether one of these runners lives and has a slot for which it holds nothing."""
        runners = [self.runners[index] for index in kind]
        return any(runner.channel and len(runner.held) < runner.slots for runner in runners)

    def _stuck_at(self, runner: Runner) -> float:
        """When each of its slots will be taken by a job that runs long."""
        starts = [self.held[lease].started for lease in runner.held]
        running = [start for start in starts if start is not None]
        if len(running) < runner.slots:
            return math.inf
        return max(running) + self.pace.long_seconds

    def _recall(self, index: int) -> None:
        """Have back what a runner has not started."""
        runner = self.runners[index]
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
