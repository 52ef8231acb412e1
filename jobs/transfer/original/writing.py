"""jobs.json written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from ... import validation
from ...models import Attempt, Job, Stream
from ...outcome import Kind
from ...states import JobState
from ...stats import rfc3339
from .common import DEAD, first_due_at


def job_object(job: Job, last: Attempt | None, output: Sequence[tuple[int, int, bytes]]) -> str:
    """One job as the original writes it, with its key, indented. `output` is of its last attempt."""
    stdout, stderr = (_text(last, output, stream) for stream in Stream)
    values = {
        "id": job.key,
        "command": job.title,
        "state": str(WRITTEN.get(JobState(job.state), job.state)),
        "attempts": min(job.attempts, job.max_retries),
        "max_retries": job.max_retries,
        "created_at": rfc3339(job.created_at),
        "updated_at": rfc3339(job.updated_at),
        "next_retry_at": rfc3339(_next_retry_at(job)),
        "error_message": _error_message(job, last, stdout, stderr),
        "priority": job.priority,
        "run_at": rfc3339(_run_at(job)),
        "stdout": stdout,
        "stderr": stderr,
        "execution_time": last.seconds if last else None,
        "started_at": rfc3339(job.started_at),
        "completed_at": rfc3339(job.finished_at) if job.state == JobState.COMPLETED else None,
    }
    lines = ",\n".join(f'    "{key}": {json.dumps(value)}' for key, value in values.items())
    return f"  {json.dumps(job.key)}: {{\n{lines}\n  }}"


WRITTEN = {
    JobState.SCHEDULED: JobState.PENDING,
    JobState.BLOCKED: JobState.PENDING,
    JobState.CANCELLED: JobState.DEAD,
}
"""States that the original does not know, and what it is told instead."""


def _run_at(job: Job) -> datetime | None:
    """What was asked for; one that waits for a time nobody named must wait there too."""
    if job.run_at is None and job.state == JobState.SCHEDULED:
        return job.due_at
    return job.run_at


def _next_retry_at(job: Job) -> datetime | None:
    """The retry to come, or the last one that did: the original leaves it where it was."""
    if job.state == JobState.FAILED:
        return job.due_at
    retried = min(job.attempts, job.max_retries) > 0 and job.state != JobState.SCHEDULED
    moved = job.due_at != first_due_at(job.run_at, job.created_at)
    return job.due_at if retried and moved else None


def _text(
    last: Attempt | None, output: Sequence[tuple[int, int, bytes]], stream: Stream
) -> str | None:
    """What is kept of a stream, as text; None for a job that has not run."""
    if last is None:
        return None
    pieces, at = [], 0
    for of, offset, data in output:
        if of == stream:
            if offset > at:
                pieces.append(f"\n[… {offset - at:,} bytes left out …]\n".encode())
            pieces.append(data)
            at = offset + len(data)
    # Joined first: a character may have been cut in two.
    return b"".join(pieces).decode("utf-8", "replace")


def _error_message(
    job: Job, last: Attempt | None, stdout: str | None, stderr: str | None
) -> str | None:
    """In the original's words: what the command said, else how it ended."""
    error = job.last_error
    if error and last is not None and last.outcome == Kind.FAILED and last.exit_code is not None:
        said = (stderr or "").strip() or (stdout or "").strip()
        error = validation.storable(said) or f"Command failed with exit code {last.exit_code}"
    if job.state == JobState.CANCELLED:
        return error or "Cancelled on request"
    out_of_retries = job.state == JobState.DEAD and job.attempts > job.max_retries
    if out_of_retries and not DEAD.match(error):
        error = f"Max retries ({job.max_retries}) exceeded. Last error: {error}"
    return error or None
