"""How a job, a duration and a number are said, on a terminal and on a page alike."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from .states import JobState

ICONS = {
    JobState.PENDING: "○",
    JobState.SCHEDULED: "◷",
    JobState.BLOCKED: "◇",
    JobState.PROCESSING: "▶",
    JobState.COMPLETED: "✔",
    JobState.FAILED: "↻",
    JobState.DEAD: "✖",
    JobState.CANCELLED: "⊘",
}
"""Shape as well as colour tells states apart; all are in the fonts that systems come with."""


LONGEST = 86_400 * 999_999
"""Seconds that a duration holds, and more than any measured time."""


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def age(span: timedelta | None) -> str:
    """A duration in two units at most: 4s, 31m, 2h10m, 3d4h."""
    if span is None:
        return "-"
    number = max(0, int(span.total_seconds()))
    for size, unit, smaller, under in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m")):
        if number >= size:
            rest = number % size // smaller
            return f"{number // size}{unit}" + (f"{rest}{under}" if rest else "")
    return f"{number // 60}m" if number >= 60 else f"{number}s"


def seconds(number: float | None) -> str:
    """A measured time: 12 ms, 3.25 s, 4m."""
    if number is None:
        return "-"
    if number < 1:
        return f"{number * 1000:.0f} ms"
    return f"{number:.2f} s" if number < 100 else age(timedelta(seconds=min(number, LONGEST)))


def when(job: Any, now: datetime) -> str:
    """The fact that matters about a job in its state."""
    due_at = job.due_at or now  # none where a hand has put what is no time
    match JobState(job.state):
        case JobState.SCHEDULED:
            return _ahead(due_at - now)
        case JobState.FAILED:
            return f"retry {job.attempts} of {job.max_retries} {_ahead(due_at - now)}"
        case JobState.PROCESSING if job.cancel_requested_at:
            return "asked to stop"
        case JobState.PROCESSING if job.started_at:
            return f"running {age(now - job.started_at)}"
        case JobState.PROCESSING:
            return "claimed, not started"
        case JobState.PENDING | JobState.BLOCKED:
            return f"waiting {age(now - due_at)}"
    return f"{age(now - job.finished_at)} ago" if job.finished_at else ""


def _ahead(span: timedelta) -> str:
    return f"in {age(span)}" if span > timedelta(0) else "due now"
