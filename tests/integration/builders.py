"""Rows for tests: as an operation would leave them, where that matters."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

from django.db import connection

from jobs import conf, ledger
from jobs.ledger import Report
from jobs.models import Job, Queue, Worker
from jobs.outcome import Kind, Outcome
from jobs.states import FINAL, JobState
from jobs.work import Work

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)
POLICY = conf.policy({})
_numbers = count(1)


def another_session() -> Any:
    """A connection to the same PostgreSQL, for what somebody else does; autocommit."""
    import psycopg

    return psycopg.connect(**connection.get_connection_params(), autocommit=True)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def make_worker(**fields: Any) -> Worker:
    defaults: dict[str, Any] = {
        "name": f"worker{next(_numbers)}",
        "host": "host",
        "boot": "another boot",
        "pid": 1,
        "lock": "/nowhere",
        "slots": 4,
        "version": "0",
        "started_at": NOW,
        "heartbeat_at": NOW,
    }
    return Worker.objects.create(**(defaults | fields))


def new_job(**fields: Any) -> Job:
    """A job in any state that the constraints allow, not saved."""
    state = fields.get("state", JobState.PENDING)
    defaults: dict[str, Any] = {
        "key": f"job{next(_numbers)}",
        "command": "true",
        "due_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
    }
    if "argv" in fields or "task" in fields:
        defaults["command"] = None
    if state in FINAL:
        defaults["finished_at"] = NOW
    if state == JobState.PROCESSING:
        defaults |= {"lease": uuid4(), "started_at": NOW}
        if "worker" not in fields and "worker_id" not in fields:
            defaults["worker"] = make_worker()
    return Job(**(defaults | fields))


def make_job(**fields: Any) -> Job:
    job = new_job(**fields)
    job.save()
    return job


def make_jobs(number: int, **fields: Any) -> list[Job]:
    return [make_job(**fields) for _ in range(number)]


def claim(
    worker: Worker,
    queues: Sequence[str] = ("default",),
    *,
    free: int = 100,
    ahead: int = 0,
    wary: int = 100,
) -> list[Work]:
    room = ledger.Room(free=free, ahead=ahead, wary=wary)
    return ledger.claim(worker.id, queues, room, policy=POLICY, now=NOW)


def claim_one(worker: Worker) -> Work:
    (work,) = claim(worker, free=1)
    return work


def reported(work: Work, kind: Kind = Kind.SUCCEEDED, **fields: Any) -> Report:
    return Report(work, Outcome(kind=kind, **fields), NOW - seconds(2), NOW - seconds(1))


def report(
    worker: Worker, works: Work | Iterable[Work], kind: Kind = Kind.SUCCEEDED, **fields: Any
) -> set[str]:
    several = [works] if isinstance(works, Work) else works
    reports = [reported(work, kind, **fields) for work in several]
    return ledger.report(reports, worker_id=worker.id, now=NOW)


def keys(works: Iterable[Work]) -> list[str]:
    return [work.key for work in works]


def make_queues(*names: str) -> None:
    Queue.objects.ensure(names, NOW)
