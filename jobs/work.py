"""What flows from the claim to the runner: everything execution is given, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One claim of one job. Frozen; it never changes hands, it is only ever answered."""

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
    env: Mapping[str, str] = field(repr=False)
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

    cancel_requested: bool = False
    task: str | None = None
    """The path of a Django task; `args` are its arguments, `about` what its result tells."""

    args: Mapping[str, Any] | None = field(default=None, repr=False)
    about: Mapping[str, Any] = field(default_factory=dict, repr=False)
    put_off_since: datetime | None = None
    """Since when it could not be started through no fault of its own; only the ledger asks."""

    wary: bool = False
    """One more loss is its last. Two such never share a runner: the one that kills it would end both."""

    @property
    def size(self) -> int:
        """About how many characters it has: what its frame weighs."""
        texts = [self.command or "", self.cwd, *(self.argv or ())]
        size = sum(map(len, texts)) + sum(len(k) + len(v) for k, v in self.env.items()) + 500
        return size + (len(repr(self.args)) if self.args else 0)

    def __repr__(self) -> str:
        return f"<Work {self.key} #{self.number}>"
