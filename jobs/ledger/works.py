"""A claim as the Work that a worker holds, and the lease that names it."""

from __future__ import annotations

from datetime import tzinfo
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Max

from .. import conf, dialect
from ..models import Attempt, Job
from ..models.job import INPUT
from ..work import About, Work

NUMBERS = ("priority", "runs", "attempts", "max_retries", "losses", "interruptions")
"""Whole ones, each."""

MOST = 1_000_000_000
"""Of what is counted: one more has to fit into its column too."""


def is_number(name: str, value: object) -> bool:
    """Whether a row may hold this as one of its NUMBERS."""
    return type(value) is int and (name == "priority" or value <= MOST)


class Row(NamedTuple):
    """What a claim reads of a job, as the driver gives it: models took a third of the ledger's time."""

    id: int
    key: str
    queue: str
    priority: int
    due_at: Any
    run_at: Any
    created_at: Any
    runs: int
    command: str | None
    argv: Any
    task: str | None
    args: Any
    cwd: str
    env: Any
    timeout: Any
    attempts: int
    max_retries: int
    backoff_base: Any
    losses: int
    interruptions: int
    prefetchable: bool
    cancel_requested_at: Any
    put_off_since: Any
    enqueued_by: str
    signature: str | None


def lease_of(token: UUID, job_id: int) -> str:
    """One token for all that one claim takes, which makes it one UPDATE; with the id it names one."""
    return f"{token.hex}-{job_id}"


def token_of(work: Work) -> UUID:
    return _uuid(work.lease[:32])


_uuid = lru_cache(16)(UUID)


def work_of(
    job: Row,
    token: UUID,
    ahead: bool,
    policy: conf.Policy,
    zone: tzinfo,
    *,
    wary: bool = False,
) -> Work:
    return Work(
        job_id=job.id,
        key=job.key,
        queue=job.queue,
        lease=lease_of(token, job.id),
        number=job.runs + 1,
        command=job.command,
        argv=dialect.as_json(job.argv),
        task=job.task,
        args=dialect.as_text(job.args),
        about=None if job.task is None else _about(job, zone),
        cwd=job.cwd,
        env=dialect.as_json(job.env),
        timeout=policy.job_timeout if job.timeout is None and job.task is None else job.timeout,
        attempts=job.attempts,
        max_retries=job.max_retries,
        backoff_base=policy.backoff_base if job.backoff_base is None else job.backoff_base,
        losses=job.losses,
        interruptions=job.interruptions,
        ahead=ahead,
        cancel_requested=job.cancel_requested_at is not None,
        put_off_since=dialect.as_time(job.put_off_since, zone),
        wary=wary,
        backoff_jitter=policy.backoff_jitter,
    )


def _about(job: Row, zone: tzinfo) -> About:
    run_at, created_at = job.run_at, job.created_at
    return About(
        job.queue,
        job.priority,
        None if run_at is None else dialect.as_seconds(run_at, zone),
        dialect.as_seconds(created_at, zone),
    )


def work_held(job: Job) -> Work:
    """The Work of a claim as its row tells it, without its input: it only has to be answered."""
    assert job.lease is not None
    row = Row._make(_kept(job, name) for name in Row._fields)
    return work_of(row, job.lease, job.started_at is None, conf.policy({}), dialect.zone())


def _kept(job: Job, name: str) -> Any:
    """A number that a hand has spoilt, where SQLite keeps any value, is as `anew` says."""
    value = None if name in INPUT else getattr(job, name)
    return anew(job.id, name) if name in NUMBERS and not is_number(name, value) else value


def anew(job_id: int, name: str) -> Any:
    """A field as in a new job; its runs go on from the last attempt there is, whose number is taken."""
    if name != "runs":
        return getattr(Job(), name)
    last = Attempt.objects.filter(job_id=job_id).aggregate(last=Max("number"))["last"]
    return min(last or 0, MOST)
