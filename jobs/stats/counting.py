"""Numbers of jobs, counted no further than somebody has the patience for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..models import Job
from ..states import JobState

CAP = 10_000
"""Counts are exact up to here on a request; a person at a shell may wait for more."""


@dataclass(frozen=True, slots=True)
class Count:
    """A number, exact unless `capped`: then there are at least that many."""

    number: int
    capped: bool = False

    def __str__(self) -> str:
        return format(self)

    def __format__(self, spec: str) -> str:
        return f"{self.number:{spec}}{'+' if self.capped else ''}"


def total(counts: Iterable[Count]) -> Count:
    """Exact if all of them are."""
    counts = list(counts)
    return Count(sum(c.number for c in counts), any(c.capped for c in counts))


def by_state(cap: int) -> dict[JobState, Count]:
    return {state: count(Job.objects.in_state(state), cap) for state in JobState}


def count(rows: Any, cap: int) -> Count:
    """How many rows a query finds, up to `cap`."""
    number = rows.order_by()[: cap + 1].count()
    return Count(min(number, cap), number > cap)


def count_dead() -> int:
    return Job.objects.dead().order_by().count()
