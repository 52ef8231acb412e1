"""Checked requests become rows: in one statement where that will do, else in batches."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from .. import clock, conf, dialect, validation
from ..exceptions import DuplicateId, DuplicateKey
from ..models import Job, Queue, Setting
from ..models.job import fresh
from ..models.setting import known as stored_settings
from ..signals import job_enqueued
from ..states import ACTIVE
from ..validation import JobRequest
from .actor import Actor

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_BATCH = 500
_FEW_QUEUES = 5
"""So many new ones at once may be slips of a hand."""


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What came of one request."""

    key: str
    created: bool
    """False: a job with this id and the same content was there already."""

    warnings: tuple[str, ...] = ()


def new_key() -> str:
    """An id for a job that was given none."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))


def count_new(requests: Sequence[JobRequest]) -> int:
    """How many of these are no repeats, as far as can be told before they are stored."""
    keys = [request.key for request in requests if request.key]
    taken = {key for at in range(0, len(keys), _BATCH) for key in _taken(keys[at : at + _BATCH])}
    return sum(request.key not in taken for request in requests)


def store_at_once(request: JobRequest, actor: Actor) -> tuple[str, datetime] | None:
    """The short way of nearly every enqueue, one statement; returns the id and the time.

    None where that stored nothing: the job is for later, its id or key is taken, its queue is new, or
    somebody wants to hear of it inside the transaction.
    """
    later = request.run_at is not None or request.delay is not None
    if later or job_enqueued.has_listeners(Job):
        return None
    policy = conf.policy({})
    job = job_of(request, policy, actor, clock.now())
    values = {
        field.name: value
        for field in _STORED
        if (value := getattr(job, field.attname)) is not None and field.name not in _NOW
    }
    set_by = {}
    if request.max_retries is None:
        set_by["max_retries"] = conf.RUNTIME["max-retries"]
        del values["max_retries"]
    now = dialect.insert_at_once(
        Job, Queue, Setting, values=values, queue=job.queue, set_by=set_by, now=_NOW
    )
    return (job.key, now) if now else None


_NOW = ("created_at", "updated_at", "due_at")


def store(
    requests: Sequence[JobRequest], actor: Actor, progress: Callable[[int], None]
) -> list[Enqueued]:
    first = [request.key for request in requests[:_BATCH] if request.key]
    now, policy, taken, new = prepare({request.queue for request in requests}, first)
    results: list[Enqueued] = []
    for start in range(0, len(requests), _BATCH):
        batch = requests[start : start + _BATCH]
        seen = taken if start == 0 else _taken([request.key for request in batch if request.key])
        results += _store_batch(batch, seen, policy, actor, now)
        progress(len(results))
    created = [result.key for result in results if result.created]
    if created:
        job_enqueued.send(sender=Job, keys=created)
    if 0 < len(new) <= _FEW_QUEUES:
        _warn_of_slips(new, requests, results)
    return results


def prepare(
    queues: set[str], keys: Sequence[str]
) -> tuple[datetime, conf.Policy, dict[str, str], set[str]]:
    """The time, the policy that holds, which ids are taken, with their digests, and which queues are new.

    From here on the queues are there, and workers are told.
    """
    known = dialect.know(Queue, Setting, Job, sorted(queues), keys)
    new = queues - known.queues
    Queue.objects.make(new, known.now)
    return known.now, conf.policy(stored_settings(known.settings)), known.taken, new


def _warn_of_slips(new: set[str], requests: Sequence[JobRequest], results: list[Enqueued]) -> None:
    """Where a queue is new and has nearly the name of another, the first job in it has a warning."""
    known = Queue.objects.exclude(name__in=new).names(validation.MOST_NAMES)
    for name in sorted(new):
        if near := validation.nearest(name, known):
            first = next(i for i, request in enumerate(requests) if request.queue == name)
            warning = f"queue '{name}' is new; did you mean '{near}'?"
            told = (*results[first].warnings, warning)
            results[first] = replace(results[first], warnings=told)


def _store_batch(
    requests: Sequence[JobRequest],
    seen: dict[str, str],
    policy: conf.Policy,
    actor: Actor,
    now: datetime,
) -> list[Enqueued]:
    _refuse_taken_unique_keys(
        [r.unique_key for r in requests if r.unique_key and r.key not in seen]
    )
    jobs, results = [], []
    for request in requests:
        if request.key is not None and request.key in seen:
            _must_repeat(request, request.key, seen[request.key], actor)
            results.append(Enqueued(request.key, False, request.warnings))
            continue
        job = job_of(request, policy, actor, now)
        seen[job.key] = request.digest
        jobs.append(job)
        results.append(Enqueued(job.key, True, request.warnings))
    insert(jobs)
    return results


def _must_repeat(request: JobRequest, key: str, digest: str, actor: Actor) -> None:
    """Whoever may not see another's input is not told whether theirs is the same, which they could guess."""
    others = Job.objects.filter(key=key).exclude(enqueued_by=actor.name)
    if actor.lacks("view_input") and others.exists():
        raise DuplicateId(key, "somebody else enqueued it")
    if digest != request.digest:
        raise DuplicateId(key)


_STORED = [field for field in Job._meta.concrete_fields if not field.primary_key]


def insert(jobs: Sequence[Job]) -> None:
    """Write rows, in batches."""
    columns = [field.name for field in _STORED]
    for start in range(0, len(jobs), _BATCH):
        batch = jobs[start : start + _BATCH]
        rows = [[getattr(job, field.attname) for field in _STORED] for job in batch]
        dialect.insert_rows(Job, columns=columns, rows=rows)


def _taken(keys: Sequence[str]) -> dict[str, str]:
    """Ids that are stored already, with the digest of their content."""
    if not keys:
        return {}
    return dict(Job.objects.filter(key__in=keys).values_list("key", "request_digest"))


def _refuse_taken_unique_keys(unique_keys: Sequence[str]) -> None:
    if not unique_keys:
        return
    rows = Job.objects.filter(unique_key__in=unique_keys, state__in=ACTIVE)
    seen = set(rows.values_list("unique_key", flat=True))
    for unique_key in unique_keys:
        if unique_key in seen:
            raise DuplicateKey(unique_key)
        seen.add(unique_key)


def job_of(request: JobRequest, policy: conf.Policy, actor: Actor, now: datetime) -> Job:
    return fresh(
        now,
        key=request.key or new_key(),
        queue=request.queue,
        command=request.command,
        argv=request.argv,
        task=request.task,
        args=request.args,
        cwd=request.cwd,
        env=request.env,
        priority=request.priority,
        run_at=request.run_at,
        due_at=request.run_at if request.delay is None else now + request.delay,
        max_retries=policy.max_retries if request.max_retries is None else request.max_retries,
        timeout=request.timeout,
        backoff_base=request.backoff_base,
        unique_key=request.unique_key,
        request_digest=request.digest,
        enqueued_by=actor.name,
    )
