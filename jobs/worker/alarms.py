"""When each command of a runner has to be looked at, whatever it does until then."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator

from ..execution import shell

EACH, MORE = 4, 64
"""Above this many for each command those of commands that are over are swept out."""


class Alarms:
    """Deadlines, the earliest first. One that a later one has replaced stays, and is passed over."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, shell.Command]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, command: shell.Command, *, among: int) -> None:
        """For its next deadline, if it has one. `among` so many commands that are not over."""
        deadline = command.deadline()
        if deadline is not None:
            heapq.heappush(self._heap, (deadline, next(self._order), command))
        if len(self._heap) > EACH * among + MORE:
            # Else these would stay until the timeouts of their commands.
            self._heap = [alarm for alarm in self._heap if not alarm[2].finished]
            heapq.heapify(self._heap)

    def next(self) -> float:
        """The moment of the earliest."""
        return self._heap[0][0] if self._heap else math.inf

    def passed(self, now: float) -> Iterator[shell.Command]:
        """Take those that have gone off, of commands whose deadline that still is."""
        while self._heap and self._heap[0][0] <= now:
            command = heapq.heappop(self._heap)[2]
            deadline = command.deadline()
            if not command.finished and deadline is not None and deadline <= now:
                yield command
