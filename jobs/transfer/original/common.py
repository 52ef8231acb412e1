"""What reading and writing the original's jobs both need to know of it."""

from __future__ import annotations

import re
from datetime import datetime

from ...states import JobState

STATES = (
    JobState.PENDING, JobState.PROCESSING, JobState.COMPLETED, JobState.FAILED, JobState.DEAD,
)  # fmt: skip

DEAD = re.compile(r"Max retries \([0-9]+\) exceeded\. Last error: ")
"""Before the error of a job that is out of retries."""


def first_due_at(run_at: datetime | None, created_at: datetime) -> datetime:
    """When a job that has not run yet may run."""
    return created_at if run_at is None else max(run_at, created_at)
