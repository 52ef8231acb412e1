"""How much a turn carries, once one was more than the database took in the time it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from ..ledger import Room

T = TypeVar("T")

MANY = 100
"""A turn that carries so many may carry all there is."""

LONG_SECONDS = 1.0
"""What fails sooner after its beginning fails for something else than its size."""

MOST_PATIENCE = 64

TRIES = 3
"""So often a report is tried alone."""


class Bite:
    """Half of it after each turn that was too much, twice as much after some that were not.

    On a slow link a large turn would fail for ever, the heartbeat and all small outcomes with it. How many
    turns have to come through before a larger one is tried doubles with each that fails.
    """

    def __init__(self) -> None:
        self._jobs: float = math.inf
        """At most so many are reported by a turn, and as many claimed."""

        self._reports = self._all = 0
        """What the turn under way carries, reports or else claims."""

        self._failed_alone = 0
        self._patience, self._came_through = 1, 0
        self._began = math.inf

    @property
    def is_small(self) -> bool:
        return self._jobs < math.inf

    def of(self, ended: Sequence[T], room: Room) -> tuple[list[T], Room]:
        """What of it the next turn carries. The least is one report, or one claim."""
        reports = list(ended)
        if self.is_small:
            reports = reports[: int(self._jobs)]
            claims = 0 if reports and self._jobs == 1 else int(self._jobs)
            free = min(room.free, claims)
            room = replace(room, free=free, ahead=min(room.ahead, claims - free))
        self._reports = len(reports)
        self._all = self._reports or room.free + room.ahead
        self._began = math.inf
        return reports, room

    def begins(self, now: float) -> None:
        """The database has answered."""
        self._began = now

    def failed(self, now: float) -> bool:
        """Something has failed; whether it was a report that was too much by itself, and not only once.

        A server that gives up on a slow sender may end the connection, and the reason is not heard.
        """
        began = self._began
        self.was_not_the_cause()
        if not self._all or now - began < LONG_SECONDS:
            return False
        alone = self._reports == 1 and self._jobs == 1
        self._failed_alone = self._failed_alone + 1 if alone else 0
        self._jobs = max(1, self._all // 2)
        self._patience, self._came_through = min(MOST_PATIENCE, self._patience * 2), 0
        if self._failed_alone < TRIES:
            return False
        self._failed_alone = 0  # the next has its own tries
        return True

    def was_not_the_cause(self) -> None:
        """Something has failed that says nothing of the size of a turn."""
        self._began = math.inf

    def went_through(self) -> None:
        self._began, self._failed_alone = math.inf, 0
        self._came_through += 1
        if self.is_small and self._came_through >= self._patience:
            self._jobs, self._came_through = self._jobs * 2, 0
            if self._jobs > MANY:
                self._jobs, self._patience = math.inf, 1
