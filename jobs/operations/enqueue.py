"""Storing jobs for those who may: one, many, tasks, or a copy of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError

from .. import clock, conf, dialect, signatures
from ..exceptions import QueueCTLError, UnreadableRow
from ..models import Job, Queue
from ..models.job import fresh
from ..signals import job_enqueued
from ..validation import JobRequest
from .actor import PYTHON, Actor
from .asked import checked, kind_asked
from .policy import Kind, has_quota, home, kind_of, must_have_room, must_place, must_submit
from .storing import Enqueued, count_new, insert, job_of, new_key, prepare, store, store_at_once


def enqueue(given: Mapping[str, Any] | JobRequest, actor: Actor = PYTHON) -> Enqueued:
    """Store one job, in the caller's transaction if there is one: it runs only if that commits.

    With `template` and `parameters` it is what a registered template makes of these. Repeating a
    request with the same id and content stores nothing and says so (`created` False).
    Raises InvalidField, DuplicateId (other content, or another's that one may not see), DuplicateKey,
    NotPermitted.
    """
    return enqueue_many([given], actor)[0]


def enqueue_many(
    given: Iterable[Mapping[str, Any] | JobRequest],
    actor: Actor = PYTHON,
    *,
    progress: Callable[[int], None] | None = None,
) -> list[Enqueued]:
    """Store many jobs in one transaction, all or none, in the order given.

    `progress` is told now and then how many have been written.
    """
    now = clock.now()
    requests = [r if isinstance(r, JobRequest) else checked(r, now) for r in given]
    for request in requests:
        must_submit(actor, kind_asked(request), "enqueue", _named(request.key))
        _must_place(request, actor)
    if has_quota(actor):
        must_have_room(actor, count_new(requests), "enqueue", _jobs(requests))
    if len(requests) == 1 and (stored := store_at_once(requests[0], actor)):
        key, _ = stored
        return [Enqueued(key, True, requests[0].warnings)]
    for _ in range(3):
        try:
            with dialect.atomic():
                return store(requests, actor, progress or (lambda done: None))
        except IntegrityError as error:
            # A listener of the site's may write rows of its own.
            if not dialect.is_taken(error, Job._meta.db_table):
                raise
            # Somebody took one of the ids since we looked: look again, and find who.
    message = "Others are enqueueing the same ids or unique keys at this moment"
    raise QueueCTLError(message, hint="try again")


def _must_place(request: JobRequest, actor: Actor) -> None:
    """Whoever may only fill in a template does not choose the rights that its command has."""
    template = conf.get().COMMANDS.get(request.template or "")
    if template is not None:
        must_place(actor, request.queue, home(template), "enqueue", _named(request.key))


def _jobs(requests: Sequence[JobRequest]) -> str:
    return _named(requests[0].key) if len(requests) == 1 else f"{len(requests)} jobs"


def _named(key: str | None) -> str:
    return f"job {key}" if key else "a new job"


def enqueue_tasks(requests: Sequence[JobRequest], actor: Actor = PYTHON) -> datetime:
    """Store tasks whose ids are new, in the caller's transaction, all or none; when that was.

    What is known of a task needs no look for a job with its id or content.
    """
    for request in requests:
        must_submit(actor, Kind.TASK, "enqueue", _named(request.key))
    if len(requests) == 1 and (stored := store_at_once(requests[0], actor)):
        return stored[1]
    with dialect.atomic():
        now, policy, *_ = prepare({request.queue for request in requests}, ())
        jobs = [job_of(request, policy, actor, now) for request in requests]
        insert(jobs)
        job_enqueued.send(sender=Job, keys=[job.key for job in jobs])
    return now


def copy(job: Job, actor: Actor) -> Enqueued:
    """Store a copy of a job, with an id of its own, to run as soon as it can."""
    must_submit(actor, kind_of(job), "run again", _named(job.key))
    must_have_room(actor, 1, "run again", _named(job.key))
    if unread := [name for name in _COPIED if name in job.unreadable]:
        raise UnreadableRow(Job._meta.db_table, f"the {unread[0]} of job '{job.key}'")
    if wrong := signatures.flaw(job):  # a copy would be signed, and run what nobody enqueued
        message = f"No copy of job '{job.key}' was made: {wrong}"
        raise QueueCTLError(message, hint="enqueue anew what it shall run")
    with dialect.atomic():
        now = dialect.now()
        content = {name: getattr(job, name) for name in _COPIED}
        twin = fresh(now, key=new_key(), enqueued_by=actor.name, **content)
        if not job.signature:  # nor is the copy then: nobody vouches for what is in it
            twin.signature = None
        Queue.objects.ensure([twin.queue], now)
        twin.save(force_insert=True)
        job_enqueued.send(sender=Job, keys=[twin.key])
        dialect.notify()
    return Enqueued(twin.key, True)


_COPIED = (
    "queue", "command", "argv", "task", "args", "cwd", "env", "priority", "max_retries", "timeout",
    "backoff_base", "exit_codes", "concurrency_key",
)  # fmt: skip
"""Not the digest: by a copy in one's own name another's input could be guessed."""
