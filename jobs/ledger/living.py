"""Workers: their row, their heartbeat, and the rescue of what the dead ones held."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from .. import conf
from ..models import Job, Worker
from ..outcome import Kind, Outcome
from .claiming import distrust
from .reporting import Report, release, report
from .spoilt import bury_held
from .works import work_held

logger = logging.getLogger("jobs.ledger")

RESCUE_BITE = 500


def register(worker: Worker, predecessor: str) -> Worker:
    """Become a row. Who wanted the one with the predecessor's lock file to stop wants this one to stop.

    The reply to an earlier try may have been lost. Its row would live for as long as its lock is held.
    """
    earlier = Worker.objects.live().filter(lock=worker.lock)
    earlier.update(stopped_at=worker.started_at, end="it registered anew")
    asked = Worker.objects.exclude(stop_requested="").filter(lock=predecessor)
    if predecessor and (before := asked.first()):
        worker.stop_requested = before.stop_requested
        worker.stop_requested_by = before.stop_requested_by
    worker.save(force_insert=True)
    return worker


def heartbeat(worker_id: int, lock: str, *, draining: bool, now: datetime) -> bool:
    """Renew the worker's leases; False when it has been declared dead and holds none.

    With its lock file: in a database that was put back its number may be another's by now.
    """
    live = Worker.objects.live().filter(id=worker_id, lock=lock)
    return live.update(heartbeat_at=now, draining=draining) == 1


def rescue(worker_id: int, *, last_heard: datetime | None, now: datetime, why: str) -> int:
    """Take the jobs of a dead worker, a bounded bite; returns how many.

    Its row is closed when it has none left. One that another transaction holds stays, and so does the
    row. What had started is `lost`; what had not goes back at no cost. With `last_heard`, the
    heartbeat is looked at again under the row's lock, so that one that came back keeps its jobs.
    """
    rows = Worker.objects.live().select_for_update(skip_locked=True).filter(id=worker_id)
    worker = (rows.filter(heartbeat_at=last_heard) if last_heard else rows).first()
    if worker is None:
        return 0
    held = Job.objects.held_by(worker_id)
    jobs = list(held.order_by("started_at").for_outcome().locked()[:RESCUE_BITE])
    if not jobs and not held.exists():
        Worker.objects.filter(id=worker_id).update(stopped_at=now, end=why)
    if not jobs:
        return 0
    logger.warning("worker %s is dead (%s): taking %d of its jobs", worker.name, why, len(jobs))
    _give_up(jobs, f"Lost with its worker {worker.name}: {why}", now)
    return len(jobs)


def rescue_strays(now: datetime) -> int:
    """Take jobs whose worker's row is closed or gone, a bounded bite; returns how many.

    A worker that stood still within a turn may claim after it was declared dead. It hears of that
    with its next heartbeat, so such a claim is left alone for the length of a lease.
    """
    lease = timedelta(seconds=conf.get().LEASE_SECONDS)
    jobs = list(
        Job.objects.stray(now, lease).order_by("started_at").for_outcome().locked()[:RESCUE_BITE]
    )
    if jobs:
        logger.warning("taking %d jobs whose worker is no more", len(jobs))
        _give_up(jobs, "Lost: its worker is no more", now)
    return len(jobs)


def _give_up(jobs: Sequence[Job], why: str, now: datetime) -> None:
    """What had started is `lost`; what had not goes back.

    What nobody can read the lease of, or only otherwise than it is written, stays and ends here: else
    it would be found again, for ever.
    """
    ids = [job.id for job in jobs]
    jobs = [job for job in jobs if job.lease is not None]
    held = [work_held(job) for job in jobs]
    distrust(held)
    lost = Outcome(kind=Kind.LOST, error=why)
    for worker_id in {job.worker_id for job in jobs}:
        started = [
            Report(w, lost, job.started_at, now)
            for w, job in zip(held, jobs, strict=True)
            if not w.ahead and job.worker_id == worker_id
        ]
        report(started, worker_id=worker_id, now=now)
    release([work for work in held if work.ahead], now=now, in_doubt=True)
    left = Job.objects.processing().filter(id__in=ids)
    bury_held(list(left.values_list("id", flat=True)), why, now)


def close(worker_id: int, lock: str, *, end: str, now: datetime) -> None:
    """The last write of a worker that ends by itself; it holds no job by then."""
    Worker.objects.live().filter(id=worker_id, lock=lock).update(
        stopped_at=now, end=end, draining=True
    )
