from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import IntegrityError

from .. import clock, conf, dialect, signatures, validation
from ..commands import FIXED, Template
from ..exceptions import DuplicateId, DuplicateKey, InvalidField, QueueCTLError, UnreadableRow
from ..models import Job, Queue, Setting
from ..models.job import fresh
from ..models.setting import known as stored_settings
from ..signals import job_enqueued
from ..states import ACTIVE
from ..validation import JobRequest
from .actor import PYTHON, Actor
from .policy import Kind, has_quota, home, kind_of, must_have_room, must_place, must_submit

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
        must_submit(actor, _kind(request), "enqueue", _named(request.key))
        _must_place(request, actor)
    if has_quota(actor):
        must_have_room(actor, _new(requests), "enqueue", _jobs(requests))
    if len(requests) == 1 and (stored := _store_at_once(requests[0], actor)):
        key, _ = stored
        return [Enqueued(key, True, requests[0].warnings)]
    for _ in range(3):
        try:
            with dialect.atomic():
                return _store(requests, actor, progress or (lambda done: None))
        except IntegrityError as error:
            # A listener of the site's may write rows of its own.
            if not dialect.is_taken(error, Job._meta.db_table):
                raise
            # Somebody took one of the ids since we looked: look again, and find who.
    message = "Others are enqueueing the same ids or unique keys at this moment"
    raise QueueCTLError(message, hint="try again")


def _new(requests: Sequence[JobRequest]) -> int:
    """How many of these are no repeats, as far as can be told before they are stored."""
    keys = [request.key for request in requests if request.key]
    taken = {key for at in range(0, len(keys), _BATCH) for key in _taken(keys[at : at + _BATCH])}
    return sum(request.key not in taken for request in requests)


def checked(given: object, now: datetime) -> JobRequest:
    """Check what somebody asks for now; a template is filled in. Raises InvalidField."""
    if not isinstance(given, Mapping):
        return validation.job_request(given, now)
    asked = {name: value for name, value in given.items() if name not in ("template", "parameters")}
    values = given.get("parameters")
    if given.get("template") is None and values is None:
        return validation.job_request(asked, now)
    template = _template(given.get("template"))
    for name in ("command", "argv", *FIXED):
        if given.get(name) is not None:
            hint = f"leave '{name}' out, or the template"
            raise InvalidField(name, f"A job of a template takes no '{name}'", hint=hint)
    if not isinstance(values, Mapping | None):
        message = f"Invalid parameters: {validation.shown(values)}"
        raise InvalidField("parameters", message, hint="parameters takes an object of values")
    filled = {**template.fields, "argv": template.fill(values or {})}
    said = {name: value for name, value in asked.items() if value is not None}
    return replace(validation.job_request({**filled, **said}, now), template=template.name)


def _template(name: object) -> Template:
    known = conf.get().COMMANDS
    if isinstance(name, str) and name in known:
        return known[name]
    near = validation.nearest(name, known)
    hint = f"did you mean '{near}'?" if near else f"known templates: {', '.join(known) or 'none'}"
    message = "'parameters' needs a 'template'"
    if name is not None:
        message = f"There is no command template {validation.shown(name)}"
    raise InvalidField("template", message, hint=hint)


def _kind(request: JobRequest) -> Kind:
    if request.task is not None:
        return Kind.TASK
    if request.template is not None:
        return Kind.TEMPLATE
    return Kind.SHELL if request.argv is None else Kind.ARGV


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
    if len(requests) == 1 and (stored := _store_at_once(requests[0], actor)):
        return stored[1]
    with dialect.atomic():
        now, policy, *_ = _prepare({request.queue for request in requests}, ())
        jobs = [_job(request, policy, actor, now) for request in requests]
        for start in range(0, len(jobs), _BATCH):
            _insert(jobs[start : start + _BATCH])
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
    "backoff_base", "exit_codes", "concurrency_key", "request_digest",
)  # fmt: skip


def new_key() -> str:
    """An id for a job that was given none."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))


def _store_at_once(request: JobRequest, actor: Actor) -> tuple[str, datetime] | None:
    """The short way of nearly every enqueue, one statement; returns the id and the time.

    None where that stored nothing: the job is for later, its id or key is taken, its queue is new, or
    somebody wants to hear of it inside the transaction.
    """
    later = request.run_at is not None or request.delay is not None
    if later or job_enqueued.has_listeners(Job):
        return None
    policy = conf.policy({})
    job = _job(request, policy, actor, clock.now())
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


def _store(
    requests: Sequence[JobRequest], actor: Actor, progress: Callable[[int], None]
) -> list[Enqueued]:
    first = [request.key for request in requests[:_BATCH] if request.key]
    now, policy, taken, new = _prepare({request.queue for request in requests}, first)
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


def _prepare(
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
    others = Queue.objects.exclude(name__in=new).values_list("name", flat=True)
    known = list(others[: validation.MOST_NAMES])
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
        job = _job(request, policy, actor, now)
        seen[job.key] = request.digest
        jobs.append(job)
        results.append(Enqueued(job.key, True, request.warnings))
    _insert(jobs)
    return results


def _must_repeat(request: JobRequest, key: str, digest: str, actor: Actor) -> None:
    """Whoever may not see another's input is not told whether theirs is the same, which they could guess."""
    others = Job.objects.filter(key=key).exclude(enqueued_by=actor.name)
    if actor.lacks("view_input") and others.exists():
        raise DuplicateId(key, "somebody else enqueued it")
    if digest != request.digest:
        raise DuplicateId(key)


_STORED = [field for field in Job._meta.concrete_fields if not field.primary_key]


def _insert(jobs: Sequence[Job]) -> None:
    rows = [[getattr(job, field.attname) for field in _STORED] for job in jobs]
    dialect.insert_rows(Job, columns=[field.name for field in _STORED], rows=rows)


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


def _job(request: JobRequest, policy: conf.Policy, actor: Actor, now: datetime) -> Job:
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
