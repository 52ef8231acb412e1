"""A claim in a worker's hands, a runner, and what becomes of the one when the other dies."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from ..execution import shell
from ..outcome import Kind, Outcome
from ..work import Work
from .page import Cells
from .wire import Channel


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

    given: float = math.inf
    """When it was sent to its runner."""

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

    last_end: float = -math.inf
    """When the last of its jobs ended, as far as we heard."""

    recalled: bool = False
    cells: Cells | None = None
    """Of a task runner: where it says what it has begun."""

    sent: int = 0
    unbegun: deque[tuple[int, str]] = field(default_factory=deque)
    """Number and lease of the works it was sent and, as far as we have looked, has not begun."""

    numbers: dict[str, int] = field(default_factory=dict)
    """Of the works it holds, by lease."""


def cut_short(held: Held, why: str, code: int, now: float) -> Outcome:
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
