"""Queues and workers at one moment, and what of that a person should look at."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from .. import conf, dialect, lockfile, wording
from ..models import Job, Queue, Worker
from ..states import JobState
from ..transitions import RETURN_DELAY
from .counting import CAP, Count, by_state, count, total

MOST_QUEUES, MOST_BUSY, MOST_PUT_OFF = 100, 5_000, 1_000
PUT_OFF_FOR = timedelta(minutes=1)
"""While a new version is rolled out some workers do not know a task yet."""


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
class LeftOut:
    """How many queues are not shown, and how many of them have work that no worker will take."""

    queues: int
    unserved: int
    held_up: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    at: datetime
    states: dict[JobState, Count]
    queues: list[QueueFigures]
    """By name, at most 100: first those with work that waits in vain, then those with any."""

    left_out: LeftOut
    workers: list[Worker]
    busy: int
    put_off: int
    """Jobs that workers have tried for a while and could not start."""

    put_off_key: str
    """The id of the one that waits longest."""

    @property
    def total(self) -> Count:
        return total(self.states.values())

    @property
    def slots(self) -> int:
        return sum(worker.slots for worker in self.workers)


def snapshot(*, cap: int = CAP) -> Snapshot:
    """Count every state up to `cap`, with the queues and the workers that live: one moment's view."""
    with dialect.one_view():
        now = dialect.now()
        workers = live_workers(now)
        states = by_state(cap)
        chosen, left_out = _chosen(workers, now)
        queues = [_figures(queue, workers, now, min(cap, CAP)) for queue in chosen]
        kept_waiting = _put_off(now)
    busy = states[JobState.PROCESSING].number
    return Snapshot(now, states, queues, left_out, workers, busy, *kept_waiting)


def figures_of(queues: Sequence[Queue], now: datetime) -> list[QueueFigures]:
    workers = live_workers(now)
    return [_figures(queue, workers, now, CAP) for queue in queues]


def _chosen(workers: Sequence[Worker], now: datetime) -> tuple[list[Queue], LeftOut]:
    """The queues to show, by name: first those with work that waits in vain, then those with any."""

    def urgency(queue: Queue) -> int:
        return 1 if queue.is_paused(now) else 2 if _is_served(queue.name, workers) else 0

    rows = Queue.objects.only("name", "paused_at", "paused_until").order_by("name")
    pending = dialect.queues_with_pending(Job)
    waiting = sorted((queue for queue in rows if queue.name in pending), key=urgency)
    chosen, left = waiting[:MOST_QUEUES], [urgency(queue) for queue in waiting[MOST_QUEUES:]]
    names = [queue.name for queue in chosen]
    chosen += rows.exclude(name__in=names)[: MOST_QUEUES - len(chosen)]
    more = Queue.objects.count() - MOST_QUEUES if len(chosen) == MOST_QUEUES else 0
    left_out = LeftOut(more, unserved=left.count(0), held_up=left.count(1))
    return sorted(chosen, key=lambda queue: queue.name), left_out


def _is_served(name: str, workers: Sequence[Worker]) -> bool:
    return any(not worker.queues or name in worker.queues for worker in workers)


def _put_off(now: datetime) -> tuple[int, str]:
    """Such are tried again within seconds, so they stand at the head of the scheduled jobs' index."""
    soon, long_ago = now + max(RETURN_DELAY.values()), now - PUT_OFF_FOR
    rows = Job.objects.filter(
        state=JobState.SCHEDULED, due_at__lte=soon, put_off_since__lte=long_ago
    )
    found = list(rows.only("put_off_since", "key")[:MOST_PUT_OFF])
    first = min(found, key=lambda job: (job.put_off_since or now, job.key), default=None)
    return len(found), first.key if first else ""


def _figures(queue: Queue, workers: Sequence[Worker], now: datetime, cap: int) -> QueueFigures:
    def number(state: JobState) -> Count:
        return count(Job.objects.in_state(state).filter(queue=queue.name), cap)

    id = dialect.longest_pending(Job, queue.name)
    oldest = Job.objects.filter(id=id).only("due_at").first() if id else None
    since: datetime | None = oldest.due_at if oldest else None  # none, too, if it is no time
    return QueueFigures(
        name=queue.name,
        paused=queue.is_paused(now),
        pending=number(JobState.PENDING),
        processing=number(JobState.PROCESSING),
        failed=number(JobState.FAILED),
        dead=number(JobState.DEAD),
        oldest_pending=now - since if since else None,
        served=_is_served(queue.name, workers),
    )


def live_workers(now: datetime) -> list[Worker]:
    """Workers that live as far as can be told from this host."""
    lease = timedelta(seconds=conf.get().LEASE_SECONDS)
    return [
        worker
        for worker in Worker.objects.live().order_by("id")
        if lockfile.is_alive(worker.boot, worker.lock, silent=worker.is_silent(now, lease))
    ]


def busy_slots() -> dict[int | None, int]:
    """How many jobs run in each worker, by its row's id; of the first 5,000 that run."""
    running = Job.objects.processing().filter(started_at__isnull=False)
    return Counter(running.values_list("worker_id", flat=True)[:MOST_BUSY])


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person should look at, and what to type."""

    text: str
    command: str


def unserved(s: Snapshot) -> list[Problem]:
    """Queues with work that no worker will take."""
    queues = [q for q in s.queues if q.pending.number and not q.served and not q.paused]
    nobody = "no live worker serves this queue" if s.workers else "no worker is running"
    return [
        Problem(
            f"{_waiting(q)} and {nobody}.",
            "queuectl worker start" + (f" -q {q.name}" if s.workers else ""),
        )
        for q in queues
    ] + _more(
        s.left_out.unserved, "jobs wait and no worker will take them.", "queuectl worker start"
    )


def not_startable(s: Snapshot) -> list[Problem]:
    """Jobs that every worker gives back: their task is not in its code, or the machine lacks something."""
    if not s.put_off:
        return []
    some, it = ("1 job waits", "it") if s.put_off == 1 else (f"{s.put_off:,} jobs wait", "them")
    return [
        Problem(
            f"{some}: no worker can start {it}.", f"queuectl job show {shlex.quote(s.put_off_key)}"
        )
    ]


def held_up(s: Snapshot) -> list[Problem]:
    """Paused queues with work: a person wanted it so, and may have forgotten."""
    return [
        Problem(
            f"{_waiting(queue)} and the queue is paused.", f"queuectl queue resume {queue.name}"
        )
        for queue in s.queues
        if queue.pending.number and queue.paused
    ] + _more(s.left_out.held_up, "jobs wait and are held up by a pause.", "queuectl queue list")


def _more(number: int, what: str, command: str) -> list[Problem]:
    return [Problem(f"{wording.count(number, 'more queue')}: {what}", command)] if number else []


def _waiting(queue: QueueFigures) -> str:
    return (
        f"{queue.name}: {queue.pending:,} job{' waits' if queue.pending.number == 1 else 's wait'}"
    )
