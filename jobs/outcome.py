"""What came of one attempt, with the evidence."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple


class Kind(StrEnum):
    SUCCEEDED = "succeeded"
    """Exit 0."""

    FAILED = "failed"
    """Another exit code, or a signal that was not ours."""

    TIMED_OUT = "timed_out"
    """Killed by us at its timeout."""

    CANCELLED = "cancelled"
    """Killed by us because a person asked."""

    INTERRUPTED = "interrupted"
    """Ended by us because the worker was stopping or could not renew its lease."""

    LOST = "lost"
    """Its worker, or its runner, vanished."""

    NOT_STARTED = "not_started"
    """Could not be started."""


class Obstacle(StrEnum):
    """Why an attempt could not be started, through no fault of the job."""

    SHORT = "short"
    """This machine was out of processes, memory or file descriptors."""

    UNKNOWN_TASK = "unknown_task"
    """This worker's code has no such task; another's, or tomorrow's, may have it."""


class Captured(NamedTuple):
    """What is kept of one stream: a head, a tail, and how much there was in truth."""

    head: bytes = b""
    tail: bytes = b""
    total: int = 0
    """Bytes the command wrote."""

    @property
    def kept(self) -> int:
        return len(self.head) + len(self.tail)


class Outcome(NamedTuple):
    """Times are seconds of `clock.monotonic`; None where nothing was started."""

    kind: Kind
    error: str = ""
    """One sentence, empty for a success."""

    exit_code: int | None = None
    signal: int | None = None
    started: float | None = None
    ended: float | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    stdout: Captured = Captured()
    stderr: Captured = Captured()
    obstacle: Obstacle | None = None
    traceback: str = ""
    """Of what a task raised."""

    result: Any = None
    """What a task returned: plain values, as JSON gives them back."""

    @property
    def kept(self) -> int:
        """Bytes of its streams."""
        return self.stdout.kept + self.stderr.kept

    def without_output(self) -> Outcome:
        """Of its streams only how long they were."""
        out, err = Captured(total=self.stdout.total), Captured(total=self.stderr.total)
        return self._replace(stdout=out, stderr=err)
