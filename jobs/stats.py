"""What people ask for: figures and objects of one moment, by bounded queries only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Avg, DurationField, ExpressionWrapper, F, Q, QuerySet, Sum

from . import conf, dialect, lockfile
from .models import Attempt, Job, Output, Queue, Stream, Worker
from .outcome import Kind
from .states import FINAL, TIMED, JobState

CAP = 10_000
"""Counts are exact up to here on a request; a person at a shell may wait for more."""


MOST_BUSY = 5_000


@dataclass(frozen=True, slots=True)
class Count:
    """A number, exact unless `capped`: then there are at least that many."""

    number: int
    capped: bool = False

    def __str__(self) -> str:
        return format(self)

    def __format__(self, spec: str) -> str:
        return f"{self.number:{spec}}{'+' if self.capped else ''}"


@dataclass(frozen=True, slots=True)
class QueueFigures:
    name: str
    paused: bool
    pending: Count
    processing: Count
    failed: Count
    dead: Count
    oldest_pending: timedelta | None
    served: bool
    """Whether a live worker serves it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    at: datetime
    states: dict[JobState, Count]
    queues: list[QueueFigures]
    workers: list[Worker]
    busy: int

    @property
    def total(self) -> Count:
        counts = self.states.values()
        return Count(sum(c.number for c in counts), any(c.capped for c in counts))

    @property
    def slots(self) -> int:
        return sum(worker.slots for worker in self.workers)


def snapshot(*, cap: int = CAP) -> Snapshot:
    """Count every state up to `cap`, with the queues and the workers that live: one moment's view."""
    with dialect.one_view():
        now = dialect.now()
        workers = live_workers(now)
        states = {state: _count(Job.objects.filter(state=state), cap) for state in JobState}
        rows = Queue.objects.order_by("name")[:100]
        queues = [_queue(queue, workers, now, min(cap, CAP)) for queue in rows]
    return Snapshot(now, states, queues, workers, states[JobState.PROCESSING].number)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person should look at, and what to type."""

    text: str
    command: str


def unserved(s: Snapshot) -> list[Problem]:
    """Queues with work that no worker will take."""
    queues = [q for q in s.queues if q.pending.number and not q.served and not q.paused]
    if not s.workers:
        return [
            Problem(f"{_waiting(q)} and no worker is running.", "queuectl worker start")
            for q in queues
        ]
    return [
        Problem(
            f"{_waiting(q)} and no live worker serves this queue.",
            f"queuectl worker start -q {q.name}",
        )
        for q in queues
    ]


def held_up(s: Snapshot) -> list[Problem]:
    """Paused queues with work: a person wanted it so, and may have forgotten."""
    return [
        Problem(
            f"{_waiting(queue)} and the queue is paused.", f"queuectl queue resume {queue.name}"
        )
        for queue in s.queues
        if queue.pending.number and queue.paused
    ]


def _waiting(queue: QueueFigures) -> str:
    return (
        f"{queue.name}: {queue.pending:,} job{' waits' if queue.pending.number == 1 else 's wait'}"
    )


def live_workers(now: datetime) -> list[Worker]:
    """Workers that live as far as can be told from this host."""
    lease = timedelta(seconds=conf.get().LEASE_SECONDS)
    return [
        worker
        for worker in Worker.objects.live().order_by("id")
        if lockfile.is_alive(worker.boot, worker.lock, silent=worker.heartbeat_at < now - lease)
    ]


def busy_slots() -> dict[int | None, int]:
    """How many jobs run in each worker, by its row's id; of the first 5,000 that run."""
    running = Job.objects.processing().filter(started_at__isnull=False)
    return Counter(running.values_list("worker_id", flat=True)[:MOST_BUSY])


def _count(rows: Any, cap: int) -> Count:
    number = rows.order_by()[: cap + 1].count()
    return Count(min(number, cap), number > cap)


def _queue(queue: Queue, workers: Sequence[Worker], now: datetime, cap: int) -> QueueFigures:
    def count(state: JobState) -> Count:
        return _count(Job.objects.filter(state=state, queue=queue.name), cap)

    oldest = Job.objects.pending().filter(queue=queue.name).order_by("due_at").first()
    return QueueFigures(
        name=queue.name,
        paused=queue.is_paused(now),
        pending=count(JobState.PENDING),
        processing=count(JobState.PROCESSING),
        failed=count(JobState.FAILED),
        dead=count(JobState.DEAD),
        oldest_pending=None if oldest is None else now - oldest.due_at,
        served=any(not worker.queues or queue.name in worker.queues for worker in workers),
    )


def count_dead() -> int:
    return Job.objects.dead().order_by().count()


def newest(limit: int, *, state: str | None = None) -> list[Job]:
    """The newest jobs, newest last."""
    rows = Job.objects.filter(state=state) if state else Job.objects.all()
    return list(rows.order_by("-id")[:limit])[::-1]


def stream(*, state: str | None = None) -> Iterator[Job]:
    """Every job, oldest first, read in keyset pages: no long transaction, flat memory.

    Oldest by enqueueing; of a state whose index has another order, by that: final ones by their
    end, timed ones by when they are due.
    """
    if state is None:
        return _pages(Job.objects.filter(id__gt=0), None)
    rows, order = Job.objects.filter(state=state), ORDERS.get(JobState(state))
    if order == "finished_at":
        rows = rows.filter(finished_at__isnull=False)  # what the index of final jobs is limited to
    return _pages(rows, order)


ORDERS = dict.fromkeys(FINAL, "finished_at") | dict.fromkeys(TIMED, "due_at")


def _pages(rows: QuerySet[Job], order: str | None, size: int = 500) -> Iterator[Job]:
    fields = [order, "id"] if order else ["id"]
    page = list(rows.order_by(*fields)[:size])
    while page:
        yield from page
        last = page[-1]
        later = Q(id__gt=last.id)
        if order:
            # Said as a range less its beginning: an OR of two ranges would lose the index.
            at = getattr(last, order)
            later = Q(**{f"{order}__gte": at}) & ~Q(**{order: at, "id__lte": last.id})
        page = list(rows.filter(later).order_by(*fields)[:size])


def attempts(job: Job) -> list[Attempt]:
    return list(Attempt.objects.filter(job=job).order_by("number"))


def output(job: Job, number: int, stream: Stream) -> list[tuple[int, bytes]]:
    """What is kept of a stream of an attempt, as (offset, bytes) in order."""
    chunks = Output.objects.filter(job=job, attempt=number, stream=stream).order_by("sequence")
    return [(chunk.offset, bytes(chunk.data)) for chunk in chunks]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The original's figures: run times are of jobs that completed, in seconds."""

    total_jobs: Count
    completed: Count
    failed: Count
    dead: Count
    average: float | None
    total: float
    fastest: tuple[str, float] | None
    slowest: tuple[str, float] | None

    @property
    def success_rate(self) -> float:
        """Completed of those that were processed, in per cent; 0 when none was."""
        processed = self.completed.number + self.failed.number + self.dead.number
        return 100 * self.completed.number / processed if processed else 0.0


def metrics(*, cap: int = CAP) -> Metrics:
    """Figures over all that is stored: one pass over the attempts that succeeded."""
    states = {state: _count(Job.objects.filter(state=state), cap) for state in JobState}
    ran = Attempt.objects.filter(outcome=Kind.SUCCEEDED, started_at__isnull=False)
    took = ExpressionWrapper(F("finished_at") - F("started_at"), output_field=DurationField())
    timed = ran.annotate(took=took)
    figures = timed.aggregate(average=Avg("took"), total=Sum("took"))
    average, total = figures["average"], figures["total"]
    ends = [
        timed.order_by(order, "id").values_list("job__key", "took").first()
        for order in ("took", "-took")
    ]
    fastest, slowest = [(end[0], end[1].total_seconds()) if end else None for end in ends]
    counts = states.values()
    return Metrics(
        total_jobs=Count(sum(c.number for c in counts), any(c.capped for c in counts)),
        completed=states[JobState.COMPLETED],
        failed=states[JobState.FAILED],
        dead=states[JobState.DEAD],
        average=average.total_seconds() if average else None,
        total=total.total_seconds() if total else 0.0,
        fastest=fastest,
        slowest=slowest,
    )


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
        "attempts": job.attempts,
        "max_retries": job.max_retries,
        "created_at": rfc3339(job.created_at),
        "updated_at": rfc3339(job.updated_at),
        "next_retry_at": rfc3339(job.due_at) if job.state == JobState.FAILED else None,
        "error_message": job.last_error or None,
        "priority": job.priority,
        "run_at": rfc3339(job.run_at),
        "stdout": None,
        "stderr": None,
        "execution_time": last.seconds if last else None,
        "started_at": rfc3339(job.started_at),
        "completed_at": rfc3339(job.finished_at) if succeeded else None,
        "queue": job.queue,
        "argv": job.argv,
        "retries": job.retries,
        "runs": job.runs,
        "due_at": rfc3339(job.due_at),
        "finished_at": rfc3339(job.finished_at),
        "timeout": job.timeout,
        "cwd": job.cwd or None,
        "env": sorted(job.env),
        "unique_key": job.unique_key,
        "enqueued_by": job.enqueued_by,
        "cancel_requested_at": rfc3339(job.cancel_requested_at),
    }


def attempt_object(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "outcome": attempt.outcome,
        "started_at": rfc3339(attempt.started_at),
        "finished_at": rfc3339(attempt.finished_at),
        "execution_time": attempt.seconds,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "cpu_seconds": attempt.cpu_seconds,
        "peak_memory_bytes": attempt.peak_memory_bytes,
        "stdout_bytes": attempt.stdout_bytes,
        "stderr_bytes": attempt.stderr_bytes,
        "error": attempt.error or None,
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
        "jobs": list(worker.jobs.order_by("started_at").values_list("key", flat=True)[:100]),
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
        "workers": [worker_object(worker, s.at) for worker in s.workers],
        "approximate": [str(state) for state, count in s.states.items() if count.capped],
        "at": rfc3339(s.at),
    }
