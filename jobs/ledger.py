"""What a worker's turn does across tables. Every function runs in the turn's transaction.

Each change of state is one guarded UPDATE whose matched rows are counted. `now` is the
database's time, read once a turn.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from . import conf, dialect, transitions
from .models import Attempt, Job, Output, Queue, Stream, Worker
from .outcome import Captured, Kind, Outcome
from .states import TIMED, JobState
from .transitions import Transition
from .validation import storable
from .work import About, Run, Work, kind

logger = logging.getLogger(__name__)

MOST_PAST = 20
"""Earlier attempts that a task's result is told of while it runs."""

PROMOTE_BITE = RESCUE_BITE = PRUNE_BITE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many jobs a worker can take."""

    free: int
    """To start now."""

    ahead: int = 0
    """To start soon."""

    wary: int = 1_000
    """Of both, at most so many that one more loss would end."""

    tasks: int = 1_000
    """Of both, at most so many tasks."""

    held: frozenset[str] = frozenset()
    """Kinds of what the worker holds. Ahead only one is taken: commands and tasks run in different
    processes, and what waits in both would run at once, in more slots than there are."""

    @property
    def any(self) -> bool:
        return self.free + self.ahead > 0


class Report(NamedTuple):
    """What became of a claim, with the times of its attempt by the database's clock."""

    work: Work
    outcome: Outcome
    started_at: datetime | None
    finished_at: datetime


def limits() -> transitions.Limits:
    settings = conf.get()
    return transitions.Limits(max_lost=settings.MAX_LOST, max_interrupts=settings.MAX_INTERRUPTS)


# Claim


class _Row(NamedTuple):
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
    timeout: float | None
    attempts: int
    max_retries: int
    backoff_base: float | None
    losses: int
    interruptions: int
    prefetchable: bool
    cancel_requested_at: Any
    put_off_since: Any


def claim(
    worker_id: int, queues: Sequence[str], room: Room, *, policy: conf.Policy, now: datetime
) -> list[Work]:
    """Take as many jobs as there is room for, best first.

    Each gets a fresh lease. One LIMIT probe per queue on the claim's index, locking as it reads;
    returns [] when nothing is pending. A job that a worker died holding is never taken ahead; one
    whose cancellation was asked for while it ran, and which came back all the same, ends here.
    """
    found: list[_Row] = []
    last, token = limits().wary_losses, uuid4()
    for queue in queues:
        limit = room.free + room.ahead
        rows = dialect.pending(Job, _Row._fields, queue, limit, lock=True, **_wanted(room))
        found += map(_Row._make, rows)
    if len(queues) > 1:
        found.sort(key=lambda job: (-job.priority, job.due_at, job.id))
    zone = dialect.zone()
    works = [
        _work(job, token, i >= room.free, policy, zone, wary=job.losses >= last)
        for i, job in enumerate(_choose(found, room))
    ]
    held: list[Work] = []
    for ahead in (False, True):
        part = [work for work in works if work.ahead is ahead]
        started_at = None if ahead else now
        ids = [work.job_id for work in part]
        taken = dialect.take(
            Job, ids, lease=token, worker_id=worker_id, started_at=started_at, now=now
        )
        if taken < len(ids):
            # Only where rows are not locked as they are read, and somebody was between.
            ours = Job.objects.held_by(worker_id).filter(lease=token).values_list("id", flat=True)
            part = [work for work in part if work.job_id in set(ours)]
        held += part
    _write([_row(transitions.cancelled(w, now), w, None, now) for w in held if w.cancel_requested])
    return _with_past([work for work in held if not work.cancel_requested])


def _wanted(room: Room) -> dict[str, Any]:
    """What of a queue such a room can take."""
    return {"below_losses": None if room.wary else limits().wary_losses, "tasks": room.tasks > 0}


def _choose(found: Iterable[_Row], room: Room) -> list[_Row]:
    """Of jobs in their order those to take for such a room."""
    wary, tasks, last = room.wary, room.tasks, limits().wary_losses
    taken: list[_Row] = []
    kinds = set(room.held)
    for job in found:
        wary -= job.losses >= last
        tasks -= job.task is not None
        if (job.losses >= last and wary < 0) or (job.task is not None and tasks < 0):
            continue
        if len(taken) >= room.free:
            if len(taken) == room.free + room.ahead or kinds - {kind(job.task)}:
                break
            if not job.prefetchable:
                continue
        kinds.add(kind(job.task))
        taken.append(job)
    return taken


def _with_past(works: Sequence[Work]) -> list[Work]:
    """Give tasks that ran before the attempts there were, which their results name."""
    again = [work.job_id for work in works if work.about and work.number > 1]
    if not again:
        return list(works)
    past: dict[int, tuple[Run, ...]] = dict.fromkeys(again, ())
    columns = ("job_id", "started_at", "outcome", "error", "traceback", "worker__name")
    attempts = Attempt.objects.filter(job_id__in=again).order_by("job_id", "number")
    for job_id, started_at, outcome, error, traceback, worker in attempts.values_list(*columns):
        run = Run(started_at and started_at.timestamp(), outcome, error, traceback, worker or "")
        past[job_id] = (*past[job_id], run)[-MOST_PAST:]
    return [
        work._replace(about=work.about._replace(past=past[work.job_id]))
        if work.about and work.job_id in past
        else work
        for work in works
    ]


def _lease(token: UUID, job_id: int) -> str:
    """One token for all that one claim takes, which makes it one UPDATE; with the id it names one."""
    return f"{token.hex}-{job_id}"


def _token(work: Work) -> UUID:
    return _uuid(work.lease[:32])


_uuid = lru_cache(16)(UUID)


def _work(
    job: Job | _Row,
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
        lease=_lease(token, job.id),
        number=job.runs + 1,
        command=job.command,
        argv=dialect.as_json(job.argv),
        task=job.task,
        args=dialect.as_text(job.args),
        about=_about(job, zone) if job.task else None,
        cwd=job.cwd,
        env=dialect.as_json(job.env),
        timeout=policy.job_timeout if job.timeout is None and not job.task else job.timeout,
        attempts=job.attempts,
        max_retries=job.max_retries,
        backoff_base=policy.backoff_base if job.backoff_base is None else job.backoff_base,
        losses=job.losses,
        interruptions=job.interruptions,
        ahead=ahead,
        cancel_requested=job.cancel_requested_at is not None,
        put_off_since=dialect.as_time(job.put_off_since, zone),
        wary=wary,
    )


def _about(job: Job | _Row, zone: tzinfo) -> About:
    run_at, enqueued_at = (dialect.as_seconds(t, zone) for t in (job.run_at, job.created_at))
    return About(job.queue, job.priority, run_at, enqueued_at)


def mark_started(starts: Iterable[tuple[Work, datetime]], now: datetime) -> None:
    """Record that jobs claimed ahead have started, so that a rescue knows."""
    dialect.update_rows(
        Job,
        columns=["started_at", "updated_at"],
        guard=["lease"],
        rows=[(work.job_id, started_at, now, _token(work)) for work, started_at in starts],
    )


def distrust(works: Sequence[Work]) -> None:
    """Never claim these ahead again: whatever held them died, and they may be why."""
    if works:
        Job.objects.filter(id__in=[work.job_id for work in works]).update(prefetchable=False)


# Report and release


def report(reports: Sequence[Report], *, worker_id: int | None, now: datetime) -> set[str]:
    """Write outcomes down, each only while its lease is still the job's; returns their leases.

    A late report matches no row: another worker rescued the job, or a person ended it. It is
    logged and dropped. Atomic with the Attempt and Output rows.
    """
    if len({r.work.job_id for r in reports}) < len(reports):
        # Two leases of one job in one batch: a rescued one that came back to us. One is late.
        return set().union(*(report([r], worker_id=worker_id, now=now) for r in reports))
    bounds = limits()
    decided = [(r, transitions.after(r.work, r.outcome, now, bounds)) for r in reports]
    decided.sort(key=lambda pair: pair[0].work.job_id)
    accepted = _write([_row(t, r.work, r.started_at, now) for r, t in decided])
    _keep_results([(r, t) for r, t in decided if r.work.job_id in accepted])
    for r, t in decided:
        if r.work.job_id not in accepted:
            logger.warning("late report of %s #%d dropped", r.work.key, r.work.number)
        else:
            logger.debug("%s #%d is %s: %s", r.work.key, r.work.number, t.state, t.reason)
    ran = [r for r, t in decided if t.ran and r.work.job_id in accepted]
    dialect.insert_rows(Attempt, columns=_ATTEMPT, rows=[_attempt(r, worker_id) for r in ran])
    dialect.insert_rows(Output, columns=_OUTPUT, rows=[row for r in ran for row in _output(r)])
    return {r.work.lease for r, _ in decided if r.work.job_id in accepted}


def _keep_results(decided: Iterable[tuple[Report, Transition]]) -> None:
    """What tasks returned. Apart from the report, since most return nothing and commands never do."""
    rows = [
        (r.work.job_id, r.outcome.result)
        for r, t in decided
        if t.state == JobState.COMPLETED and r.outcome.result is not None
    ]
    dialect.update_rows(Job, columns=["result"], guard=[], rows=rows)


def release(works: Iterable[Work], *, now: datetime, in_doubt: bool = False) -> int:
    """Give back claims that never started, as far as is known; returns how many were still ours."""
    rows = [
        _row(transitions.released(work, now, in_doubt=in_doubt), work, None, now)
        for work in sorted(works, key=lambda work: work.job_id)
    ]
    return len(_write(rows))


def release_unknown(worker_id: int, *, known: set[str], now: datetime) -> int:
    """Give back claims of this worker that it never heard of: the reply to their commit was lost."""
    jobs = [
        job
        for job in Job.objects.held_by(worker_id)
        if job.lease and _lease(job.lease, job.id) not in known
    ]
    return release([_held(job) for job in jobs], now=now)


_WRITTEN = (
    "state", "lease", "worker", "attempts", "losses", "interruptions", "last_error", "runs", "started_at",
    "finished_at", "updated_at", "put_off_since",
)  # fmt: skip


def _row(
    t: Transition, work: Work, started_at: datetime | None, now: datetime
) -> tuple[object, ...]:
    runs = work.number if t.ran or t.number_used else work.number - 1
    return (
        work.job_id, t.state, None, None, t.attempts, t.losses, t.interruptions, storable(t.last_error), runs,
        started_at, t.finished_at, now, t.put_off_since, t.due_at, _token(work), JobState.PROCESSING,
    )  # fmt: skip


def _write(rows: list[tuple[object, ...]]) -> set[int]:
    """The one guarded UPDATE of every report, release and rescue; those that keep their place apart."""
    place = len(_WRITTEN) + 1
    keep = [(*row[:place], *row[place + 1 :]) for row in rows if row[place] is None]
    move = [row for row in rows if row[place] is not None]
    guard = ["lease", "state"]
    return dialect.update_rows(Job, columns=_WRITTEN, guard=guard, rows=keep) | dialect.update_rows(
        Job, columns=[*_WRITTEN, "due_at"], guard=guard, rows=move
    )


_ATTEMPT = (
    "job", "number", "worker", "outcome", "started_at", "finished_at", "exit_code", "signal", "cpu_seconds",
    "peak_memory_bytes", "stdout_bytes", "stderr_bytes", "error", "traceback",
)  # fmt: skip


def _attempt(r: Report, worker_id: int | None) -> tuple[object, ...]:
    o = r.outcome
    return (
        r.work.job_id, r.work.number, worker_id, o.kind, r.started_at, r.finished_at, o.exit_code, o.signal,
        o.cpu_seconds, o.peak_memory_bytes, o.stdout.total, o.stderr.total, storable(o.error),
        storable(o.traceback),
    )  # fmt: skip


_OUTPUT = ("job", "attempt", "stream", "sequence", "offset", "data")


def _output(r: Report) -> list[tuple[object, ...]]:
    return [
        (r.work.job_id, r.work.number, stream, sequence, offset, data)
        for stream, captured in (
            (Stream.STDOUT, r.outcome.stdout),
            (Stream.STDERR, r.outcome.stderr),
        )
        for sequence, (offset, data) in enumerate(_chunks(captured))
    ]


def _chunks(captured: Captured) -> list[tuple[int, bytes]]:
    parts = [(0, captured.head), (captured.total - len(captured.tail), captured.tail)]
    return [(offset, data) for offset, data in parts if data]


# Promote


def promote(now: datetime, limit: int = PROMOTE_BITE) -> int:
    """Make scheduled and failed jobs whose time has come claimable, a bounded bite; returns how many."""
    promoted = 0
    for state in TIMED:
        ids = list(Job.objects.due(state, now).locked().values_list("id", flat=True)[:limit])
        if ids:
            promoted += Job.objects.promote(ids, state, now)
    return promoted


def next_due() -> datetime | None:
    """When the next scheduled or failed job may run; None when there is none."""
    moments = [Job.objects.earliest_due(state) for state in TIMED]
    return min((m for m in moments if m is not None), default=None)


# Looks: reads that take no lock


def is_claimable(queues: Sequence[str], room: Room) -> bool:
    """Whether there is something that a worker with such room may claim."""
    wanted = {"prefetchable": not room.free, **_wanted(room)}
    first = [dialect.pending(Job, ["task"], queue, 1, **wanted) for queue in queues]
    return any(room.free or not room.held - {kind(task)} for rows in first for (task,) in rows)


class Survey(NamedTuple):
    due: bool
    """Whether promote would find anything."""

    queues: list[str]
    """Those a worker may claim from, in the order of their names."""


def survey(only: Sequence[str], now: datetime) -> Survey:
    """What a worker of these queues (all, where none are named) may promote, and where it may claim."""
    return Survey(*dialect.survey(Job, Queue, states=TIMED, only=only, now=now))


def is_empty(queues: Sequence[str]) -> bool:
    """Nothing is pending, processing or between retries in these queues (all, where none are named)."""
    busy = (JobState.PENDING, JobState.PROCESSING, JobState.FAILED)
    rows = [Job.objects.filter(state=state).in_queues(queues) for state in busy]
    # Not exists(), which drops the order that leads PostgreSQL to the index.
    return not any(found.order_by("due_at").values_list("id")[:1] for found in rows)


def cancel_requests(worker_id: int) -> set[str]:
    """Leases of this worker whose jobs a person wants stopped."""
    asked = Job.objects.held_by(worker_id).filter(cancel_requested_at__isnull=False)
    return {_lease(lease, id) for lease, id in asked.values_list("lease", "id") if lease}


# Workers: heartbeat and rescue


def heartbeat(worker_id: int, *, draining: bool, now: datetime) -> bool:
    """Renew the worker's leases; False when it has been declared dead and holds none."""
    live = Worker.objects.live().filter(id=worker_id)
    return live.update(heartbeat_at=now, draining=draining) == 1


def rescue(worker_id: int, *, silent_since: datetime | None, now: datetime, why: str) -> int:
    """Take the jobs of a dead worker, a bounded bite; returns how many. 0: its row is closed.

    What had started is `lost`; what had not goes back at no cost. With `silent_since`, the
    heartbeat is looked at again under the row's lock, so that one that came back keeps its jobs.
    """
    rows = Worker.objects.live().select_for_update(skip_locked=True).filter(id=worker_id)
    worker = (rows.filter(heartbeat_at__lt=silent_since) if silent_since else rows).first()
    if worker is None:
        return 0
    jobs = list(Job.objects.held_by(worker_id).order_by("id").select_for_update()[:RESCUE_BITE])
    if not jobs:
        Worker.objects.filter(id=worker_id).update(stopped_at=now, end=why)
        return 0
    logger.warning("worker %s is dead (%s): taking %d of its jobs", worker.name, why, len(jobs))
    _give_up(jobs, f"Lost with its worker {worker.name}: {why}", now)
    return len(jobs)


def rescue_strays(now: datetime) -> int:
    """Take jobs whose worker's row is closed or gone, a bounded bite; returns how many.

    A worker that stood still within a turn may claim after it was declared dead. It hears of that
    with its next heartbeat, so such a claim is left alone for the length of a lease.
    """
    before = now - timedelta(seconds=conf.get().LEASE_SECONDS)
    jobs = list(Job.objects.stray(before).order_by("id").locked()[:RESCUE_BITE])
    if jobs:
        logger.warning("taking %d jobs whose worker is no more", len(jobs))
        _give_up(jobs, "Lost: its worker is no more", now)
    return len(jobs)


def _give_up(jobs: Sequence[Job], why: str, now: datetime) -> None:
    """What had started is `lost`; what had not goes back."""
    held = [_held(job) for job in jobs]
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


def _held(job: Job) -> Work:
    """The Work of a claim as its row tells it; what execution would need does not matter any more."""
    assert job.lease is not None
    return _work(job, job.lease, job.started_at is None, conf.policy({}), dialect.zone())


def prune(policy: conf.Policy, now: datetime, limit: int = PRUNE_BITE) -> int:
    """Delete final jobs that are older, or more, than is kept; a bounded bite, returns how many."""
    doomed: list[int] = []
    for keep in policy.keep:
        if keep.seconds:
            doomed += Job.objects.older(keep.state, now - timedelta(seconds=keep.seconds), limit)
        if keep.number:
            doomed += Job.objects.beyond(keep.state, keep.number, limit)
    return Job.objects.delete_whole(sorted(set(doomed))[:limit])


def register(worker: Worker) -> Worker:
    worker.save(force_insert=True)
    return worker


def close(worker_id: int, *, end: str, now: datetime) -> None:
    """The last write of a worker that ends by itself; it holds no job by then."""
    Worker.objects.live().filter(id=worker_id).update(stopped_at=now, end=end, draining=True)
