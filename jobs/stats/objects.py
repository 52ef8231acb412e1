"""What is shown as JSON: the original's keys first, then ours."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..models import Attempt, Job, Worker
from ..states import JobState
from .figures import Metrics
from .overview import Snapshot


def metrics_object(m: Metrics) -> dict[str, Any]:
    def end(found: tuple[str, float] | None) -> dict[str, Any] | None:
        return {"job_id": found[0], "time": found[1]} if found else None

    return {
        "total_jobs": m.total_jobs.number,
        "completed": m.completed.number,
        "failed": m.failed.number,
        "dead": m.dead.number,
        "success_rate": m.success_rate,
        "execution_time": {
            "average": m.average or 0,
            "total": m.total,
            "fastest": end(m.fastest),
            "slowest": end(m.slowest),
        },
    }


def rfc3339(moment: datetime | None) -> str | None:
    """UTC, ending in Z."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def job_object(job: Job, last: Attempt | None = None) -> dict[str, Any]:
    """A job as JSON: the original's sixteen keys, then ours. Output is left to `output`."""
    succeeded = job.state == JobState.COMPLETED
    return {
        "id": job.key,
        "command": job.title,
        "state": str(job.state),
        "attempts": job.told("attempts"),
        "max_retries": job.told("max_retries"),
        "created_at": rfc3339(job.created_at),
        "updated_at": rfc3339(job.updated_at),
        "next_retry_at": rfc3339(job.due_at) if job.state == JobState.FAILED else None,
        "error_message": job.last_error or None,
        "priority": job.told("priority"),
        "run_at": rfc3339(job.run_at),
        "stdout": None,
        "stderr": None,
        "execution_time": last.seconds if last else None,
        "started_at": rfc3339(job.started_at),
        "completed_at": rfc3339(job.finished_at) if succeeded else None,
        "queue": job.queue,
        "argv": job.argv,
        "retries": job.retries,
        "runs": job.told("runs"),
        "due_at": rfc3339(job.due_at),
        "finished_at": rfc3339(job.finished_at),
        "timeout": job.timeout,
        "cwd": job.cwd or None,
        "env": job.variables,
        "unique_key": job.unique_key,
        "enqueued_by": job.enqueued_by,
        "cancel_requested_at": rfc3339(job.cancel_requested_at),
    }


def attempt_object(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.told("number"),
        "outcome": attempt.outcome,
        "started_at": rfc3339(attempt.started_at),
        "finished_at": rfc3339(attempt.finished_at),
        "execution_time": attempt.seconds,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "cpu_seconds": attempt.cpu_seconds,
        "peak_memory_bytes": attempt.peak_memory_bytes,
        "stdout_bytes": attempt.told("stdout_bytes"),
        "stderr_bytes": attempt.told("stderr_bytes"),
        "error": attempt.error or None,
        "traceback": attempt.traceback or None,
    }


def worker_object(worker: Worker, now: datetime) -> dict[str, Any]:
    return {
        "name": worker.name,
        "host": worker.host,
        "pid": worker.pid,
        "slots": worker.slots,
        "queues": worker.queues,
        "version": worker.version,
        "started_at": rfc3339(worker.started_at),
        "heartbeat_at": rfc3339(worker.heartbeat_at),
        "heartbeat_age_seconds": round(max(0.0, (now - worker.heartbeat_at).total_seconds()), 1),
        "draining": worker.draining or bool(worker.stop_requested),
        # As rows of the model: a hand may have put the id of one as bytes.
        "jobs": [job.key for job in worker.jobs.order_by("started_at").only("key", "worker")[:100]],
    }


def snapshot_object(s: Snapshot) -> dict[str, Any]:
    """`status` as JSON: the original's seven keys, then ours."""
    original = (
        JobState.PENDING, JobState.PROCESSING, JobState.COMPLETED, JobState.FAILED, JobState.DEAD,
    )  # fmt: skip
    others = [state for state in JobState if state not in original]
    return {
        "total_jobs": s.total.number,
        **{str(state): s.states[state].number for state in original},
        "active_workers": s.slots,
        **{str(state): s.states[state].number for state in others},
        "queues": [
            {
                "name": q.name,
                "paused": q.paused,
                "pending": q.pending.number,
                "processing": q.processing.number,
                "failed": q.failed.number,
                "dead": q.dead.number,
                "oldest_pending_seconds": q.oldest_pending and q.oldest_pending.total_seconds(),
                "served": q.served,
            }
            for q in s.queues
        ],
        "more_queues": s.left_out.queues,
        "workers": [worker_object(worker, s.at) for worker in s.workers],
        "approximate": [str(state) for state, count in s.states.items() if count.capped],
        "at": rfc3339(s.at),
    }
