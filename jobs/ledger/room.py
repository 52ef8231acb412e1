"""How many jobs a worker can take, and of which sort."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from .. import conf, transitions
from ..work import kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many jobs a worker can take."""

    free: int
    """To start now, each in a slot."""

    ahead: int = 0
    """To start soon."""

    wary: int = 1_000
    """Of both, at most so many commands that one more loss would end. A task has its process alone."""

    tasks: int = 1_000
    """To start now, at most so many tasks: each in a process that has none."""

    tasks_ahead: int = 1_000
    """To start soon, at most so many tasks: behind such as do not run long."""

    held: frozenset[str] = frozenset()
    """Kinds of what the worker holds. Ahead only one is taken: commands and tasks run in different
    processes, and what waits in both would run at once, in more slots than there are."""

    @property
    def any(self) -> bool:
        return self.free + self.ahead > 0


class Candidate(Protocol):
    """What decides whether a job is taken."""

    @property
    def id(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def due_at(self) -> Any: ...
    @property
    def task(self) -> str | None: ...
    @property
    def losses(self) -> int: ...
    @property
    def prefetchable(self) -> bool: ...


C = TypeVar("C", bound=Candidate)


def choose(found: Iterable[C], room: Room) -> list[tuple[C, bool]]:
    """Of the first jobs of some queues those to take for such a room, best first, and whether it is ahead.

    No job overtakes another of its kind, but one that waits for a runner in which nothing else would
    be lost with it. While a slot is free commands pass tasks that have no process, and the other way
    round; what is taken ahead passes nobody.
    """
    last, kinds, shut = limits().wary_losses, set(room.held), set[str]()
    free, ahead, wary = room.free, room.ahead, room.wary
    now_of = {"task": room.tasks, "command": free}
    ahead_of = {"task": room.tasks_ahead, "command": ahead}
    taken: list[tuple[C, bool]] = []
    for job in sorted(found, key=place):
        what = kind(job.task)
        is_wary = job.losses >= last and what == "command"
        if what in shut or (is_wary and not wary):
            continue
        soon = not (free and now_of[what])
        if soon and not (ahead and ahead_of[what] and job.prefetchable and kinds <= {what}):
            if not free:
                break
            shut.add(what)
            continue
        if soon:
            ahead, ahead_of[what] = ahead - 1, ahead_of[what] - 1
        else:
            free, now_of[what] = free - 1, now_of[what] - 1
        wary -= is_wary
        kinds.add(what)
        taken.append((job, soon))
    return taken


def place(job: Candidate) -> tuple[int, Any, int]:
    """Its place in line."""
    return -job.priority, job.due_at, job.id


def limits() -> transitions.Limits:
    settings = conf.get()
    return transitions.Limits(max_lost=settings.MAX_LOST, max_interrupts=settings.MAX_INTERRUPTS)


def wanted(room: Room) -> dict[str, Any]:
    """What of a queue such a room can take, or has to wait for.

    A task with a process to go to is seen though no slot is free: nothing is taken ahead that stands
    behind it, or no slot ever would be.
    """
    tasks = room.tasks or (room.ahead and room.tasks_ahead)
    return {"below_losses": None if room.wary else limits().wary_losses, "tasks": bool(tasks)}


def has_slots_for_commands_only(room: Room) -> bool:
    """Whether a slot may stay free beside any number of tasks."""
    return room.free > room.tasks
