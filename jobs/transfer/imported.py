"""What came of an import."""

from __future__ import annotations

from dataclasses import dataclass, field

REMEMBERED = 100
"""Refusals told one by one; more are only counted."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was left out, and why."""

    place: str
    reason: str


@dataclass(slots=True)
class Imported:
    """What came of an import; of a dry run, what would have come of it."""

    dry_run: bool
    jobs: int = 0
    attempts: int = 0
    queues: int = 0
    settings: int = 0
    already: int = 0
    """Jobs that were there with the same content, and settings with the same value."""

    skipped: int = 0
    """Jobs, and lines, left out because something is wrong with them."""

    skips: list[Skipped] = field(default_factory=list)
    """The first of them."""

    seconds: float = 0.0
    """How long the transaction lasted."""

    @property
    def changed(self) -> bool:
        return bool(self.jobs or self.queues or self.settings)

    def skip(self, place: str, reason: str) -> None:
        self.skipped += 1
        if len(self.skips) < REMEMBERED:
            self.skips.append(Skipped(place, reason))
