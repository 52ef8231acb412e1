"""The states of a job, stored as these words and shown as these words everywhere."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    PENDING = "pending"
    """Claimable now. A claim makes it processing; cancel ends it."""

    SCHEDULED = "scheduled"
    """For later. promote() makes it pending once due_at has passed."""

    BLOCKED = "blocked"
    """Waits for something else; the report that frees it makes it pending."""

    PROCESSING = "processing"
    """A worker holds its lease. The report of that lease, or a rescue, moves it on."""

    COMPLETED = "completed"
    """Final: its last attempt succeeded."""

    FAILED = "failed"
    """Between retries. promote() makes it pending once due_at has passed."""

    DEAD = "dead"
    """Final until a person acts: `dlq retry` makes it pending."""

    CANCELLED = "cancelled"
    """Final: stopped on request."""


FINAL = (JobState.COMPLETED, JobState.DEAD, JobState.CANCELLED)
ACTIVE = tuple(state for state in JobState if state not in FINAL)
TIMED = (JobState.SCHEDULED, JobState.FAILED)
"""States that end when the clock says so: promote() looks at these alone."""

WAITING = (JobState.PENDING, JobState.SCHEDULED, JobState.BLOCKED, JobState.FAILED)
"""Neither final nor in anybody's hands: a person may still cancel or move these at once."""
