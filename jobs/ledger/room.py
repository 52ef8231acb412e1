"""How many jobs a worker can take, and of which sort."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import conf, transitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many jobs a worker can take."""

    free: int
    """To start now."""

    ahead: int = 0
    """To start soon."""

    wary: int = 1_000
    """Of both, at most so many that one more loss would end."""

    tasks: int = 1_000
    """Of both, at most so many tasks."""

    held: frozenset[str] = frozenset()
    """Kinds of what the worker holds. Ahead only one is taken: commands and tasks run in different
    processes, and what waits in both would run at once, in more slots than there are."""

    @property
    def any(self) -> bool:
        return self.free + self.ahead > 0


def limits() -> transitions.Limits:
    settings = conf.get()
    return transitions.Limits(max_lost=settings.MAX_LOST, max_interrupts=settings.MAX_INTERRUPTS)


def wanted(room: Room) -> dict[str, Any]:
    """What of a queue such a room can take."""
    return {"below_losses": None if room.wary else limits().wary_losses, "tasks": room.tasks > 0}
