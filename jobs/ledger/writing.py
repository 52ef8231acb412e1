"""The one guarded UPDATE by which a claim ends."""

from __future__ import annotations

from datetime import datetime

from .. import dialect
from ..models import Job
from ..states import JobState
from ..transitions import Transition
from ..validation import storable
from ..work import Work
from .works import token_of

_WRITTEN = (
    "state", "lease", "worker", "attempts", "losses", "interruptions", "last_error", "runs", "started_at",
    "finished_at", "updated_at", "put_off_since",
)  # fmt: skip

_WRITTEN_BACK = tuple(name for name in _WRITTEN if name != "last_error")


def row(
    t: Transition, work: Work, started_at: datetime | None, now: datetime
) -> tuple[object, ...]:
    runs = work.number if t.ran or t.number_used else work.number - 1
    error = None if t.is_as_it_came else storable(t.last_error)
    return (
        work.job_id, t.state, None, None, t.attempts, t.losses, t.interruptions, error, runs, started_at,
        t.finished_at, now, t.put_off_since, token_of(work), JobState.PROCESSING, t.due_at,
    )  # fmt: skip


def write(rows: list[tuple[object, ...]]) -> set[int]:
    """The one guarded UPDATE of every report, release and rescue; apart those that keep their place, and of
    these such as keep their last error too.

    Who gives a job back may have no room for it: idle workers are told.
    """
    guard = ["lease", "state"]
    at = 1 + _WRITTEN.index("last_error")
    back = [(*row[:at], *row[at + 1 : -1]) for row in rows if row[at] is None]
    keep = [row[:-1] for row in rows if row[-1] is None and row[at] is not None]
    move = [(*row[:-3], row[-1], *row[-3:-1]) for row in rows if row[-1] is not None]
    written = dialect.update_rows(Job, columns=_WRITTEN, guard=guard, rows=keep)
    written |= dialect.update_rows(Job, columns=[*_WRITTEN, "due_at"], guard=guard, rows=move)
    written |= dialect.update_rows(Job, columns=_WRITTEN_BACK, guard=guard, rows=back)
    if written and any(row[1] == JobState.PENDING for row in rows):
        dialect.notify()
    return written
