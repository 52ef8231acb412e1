"""What became of claims: an outcome written down, or the claim given back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from .. import dialect, transitions
from ..models import Attempt, Job, Output, Stream
from ..outcome import Captured, Outcome
from ..states import TIMED, JobState
from ..transitions import Transition
from ..validation import storable
from ..work import Work
from . import writing
from .room import limits
from .works import lease_of, token_of, work_held

logger = logging.getLogger("jobs.ledger")


class Report(NamedTuple):
    """What became of a claim, with the times of its attempt by the database's clock."""

    work: Work
    outcome: Outcome
    started_at: datetime | None
    finished_at: datetime


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
    accepted = writing.write([writing.row(t, r.work, r.started_at, now) for r, t in decided])
    written = [(r, t) for r, t in decided if r.work.job_id in accepted]
    _keep_results(written)
    _end_what_was_to_stop(written, now)
    for r, t in decided:
        if r.work.job_id not in accepted:
            logger.warning("late report of %s #%d dropped", r.work.key, r.work.number)
        else:
            logger.debug("%s #%d is %s: %s", r.work.key, r.work.number, t.state, t.reason)
    ran = [r for r, t in written if t.ran]
    dialect.insert_rows(Attempt, columns=_ATTEMPT, rows=[_attempt(r, worker_id) for r in ran])
    dialect.insert_rows(Output, columns=_OUTPUT, rows=[row for r in ran for row in _output(r)])
    return {r.work.lease for r, _ in written}


def _keep_results(decided: Iterable[tuple[Report, Transition]]) -> None:
    """What tasks returned. Apart from the report, since most return nothing and commands never do."""
    rows = [
        (r.work.job_id, r.outcome.result)
        for r, t in decided
        if t.state == JobState.COMPLETED and r.outcome.result is not None
    ]
    dialect.update_rows(Job, columns=["result"], guard=[], rows=rows)


def _end_what_was_to_stop(written: Iterable[tuple[Report, Transition]], now: datetime) -> None:
    """What failed just when somebody asked to stop it, unheard by its worker, does not wait for a retry."""
    if waiting := [r.work.job_id for r, t in written if t.state in TIMED]:
        asked = Job.objects.filter(
            id__in=waiting, state__in=TIMED, cancel_requested_at__isnull=False
        )
        asked.update(state=JobState.CANCELLED, finished_at=now)


def release(works: Iterable[Work], *, now: datetime, in_doubt: bool = False) -> int:
    """Give back claims that never started, as far as is known; returns how many were still ours."""
    rows = [
        writing.row(transitions.released(work, now, in_doubt=in_doubt), work, None, now)
        for work in sorted(works, key=lambda work: work.job_id)
    ]
    return len(writing.write(rows))


def release_unknown(worker_id: int, *, known: set[str], now: datetime) -> int:
    """Give back claims of this worker that it never heard of: the reply to their commit was lost."""
    held = Job.objects.held_by(worker_id)
    unknown = [
        job.id
        for job in held.only("lease")
        if job.lease and lease_of(job.lease, job.id) not in known
    ]
    if not unknown:
        return 0
    return release(
        [work_held(job) for job in held.filter(id__in=lock(unknown)).for_outcome()], now=now
    )


def lock(ids: Iterable[int]) -> set[int]:
    """Lock these rows for the turn; returns all but those that another transaction holds.

    One that is there no more is held by nobody: what is said of it is late, and dropped like that.
    """
    wanted = set(ids)
    if not wanted:
        return wanted
    rows = Job.objects.filter(id__in=wanted).order_by("id")
    there, ours = (set(each.values_list("id", flat=True)) for each in (rows, rows.locked()))
    return wanted - (there - ours)


def give_up_on(work: Work, now: datetime) -> None:
    """End a job whose outcome cannot be stored in any form: else it would run again, for ever."""
    logger.error("%s #%d is dead: its outcome cannot be stored", work.key, work.number)
    Job.objects.processing().filter(id=work.job_id, lease=token_of(work)).update(
        state=JobState.DEAD, lease=None, worker=None, finished_at=now, updated_at=now, runs=work.number,
        last_error=f"It ran as attempt {work.number}, whose outcome cannot be stored. See the worker's log.",
    )  # fmt: skip


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
        if captured.total
        for sequence, (offset, data) in enumerate(_chunks(captured))
    ]


def _chunks(captured: Captured) -> list[tuple[int, bytes]]:
    parts = [(0, captured.head), (captured.total - len(captured.tail), captured.tail)]
    return [(offset, data) for offset, data in parts if data]
