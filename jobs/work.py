"""What flows from the claim to the runner: everything execution is given, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple


def kind(task: str | None) -> str:
    """A job with a task is one, any other a command."""
    return "command" if task is None else "task"


class Run(NamedTuple):
    """An attempt of a task that is over, as its result tells it."""

    started_at: float | None
    outcome: str
    error: str
    traceback: str
    worker: str


class About(NamedTuple):
    """What a task's result tells of its job. Times are seconds since 1970."""

    queue: str
    priority: int
    run_at: float | None
    enqueued_at: float | None
    past: tuple[Run, ...] = ()


class Work(NamedTuple):
    """One claim of one job. It never changes hands, it is only ever answered.

    A tuple, since a ledger makes thousands a second and a frozen dataclass sets each field by a call.
    """

    job_id: int
    key: str
    """What people call the job."""

    lease: str
    """Names this claim of this job: a hexadecimal token, which guards every later write, and the id."""

    number: int
    """The attempt's number, from 1, over the job's whole life."""

    command: str | None
    argv: Sequence[str] | None
    cwd: str
    env: Mapping[str, str]
    timeout: float | None
    """Seconds."""

    attempts: int
    """Failed runs so far, of this series."""

    max_retries: int
    backoff_base: float
    losses: int
    interruptions: int
    ahead: bool
    """Claimed before a slot was free: the job has not started until its runner says so."""

    queue: str = ""
    """Whose rules its command runs under."""

    cancel_requested: bool = False
    task: str | None = None
    """The path of a Django task."""

    args: str | None = None
    """Its arguments: JSON, read by the process that calls it."""

    about: About | None = None

    put_off_since: datetime | None = None
    """Since when it could not be started through no fault of its own; only the ledger asks."""

    wary: bool = False
    """One more loss is its last. Two such never share a runner: the one that kills it would end both."""

    backoff_jitter: float = 0.0
    """Of the wait before a retry so much more at most, as chance has it."""

    @property
    def size(self) -> int:
        """About how many characters it has: what its frame weighs."""
        size = 500 + len(self.command or "") + len(self.cwd) + len(self.args or "")
        if self.argv:
            size += sum(map(len, self.argv))
        if self.env:
            size += sum(len(name) + len(value) for name, value in self.env.items())
        if self.about and self.about.past:
            size += sum(len(run.traceback) + len(run.error) for run in self.about.past)
        return size

    def __repr__(self) -> str:
        return f"<Work {self.key} #{self.number}>"
