"""What can be wrong, as one tree.

QueueCTLError
├── InvalidField        a field of a job or setting is not acceptable
├── InvalidText         a text is not the JSON it should be
├── DuplicateId         the id is taken by a job with other content
├── DuplicateKey        an active job has this unique_key
├── JobNotFound         no job has this id
├── AmbiguousId         several ids begin with this prefix
├── WrongState          the job's state does not allow this
├── NotPermitted        this actor may not do this
│   └── QuotaReached    not as long as so many of this actor's jobs have not ended
├── TooBroad            what was asked for takes longer to find than anybody waits
├── WorkerRefused       a worker cannot start here
├── LeaseLost           another worker has declared this one dead
└── UnreadableRow       a row holds what nobody can read

A message has up to two parts: what is wrong (the text), and what is true or what to do (`hint`).
"""

from __future__ import annotations

from collections.abc import Sequence


class QueueCTLError(Exception):
    """Something is wrong, and this says what."""

    code = "error"

    def __init__(self, message: str | None = None, *, hint: str = "") -> None:
        super().__init__(message or self.__doc__)
        self.hint = hint


class InvalidField(QueueCTLError):
    """A field is not acceptable."""

    code = "invalid_field"

    def __init__(self, field: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.field = field


class InvalidText(QueueCTLError):
    """Invalid JSON format"""

    code = "invalid_json"


class DuplicateId(QueueCTLError):
    """The id is taken by a job with other content, or whose content one may not know."""

    code = "duplicate_id"

    def __init__(self, job_id: str, why: str = "its content differs from this one") -> None:
        super().__init__(
            f"Job with id '{job_id}' already exists",
            hint=f"{why}; choose another id, or leave the id out",
        )
        self.job_id = job_id


class DuplicateKey(QueueCTLError):
    """An active job has this unique_key."""

    code = "duplicate_key"

    def __init__(self, unique_key: str | None) -> None:
        """None: who is told may not see it."""
        which = "its unique_key" if unique_key is None else f"unique_key '{unique_key}'"
        super().__init__(
            f"An active job already has {which}",
            hint="wait until it has ended, or cancel it first",
        )
        self.unique_key = unique_key


class JobNotFound(QueueCTLError):
    """No job has this id."""

    code = "not_found"

    def __init__(self, job_id: str, closest: Sequence[str] = ()) -> None:
        hint = f"closest ids: {', '.join(closest)}" if closest else "see them with: queuectl list"
        super().__init__(f"Job '{job_id}' not found", hint=hint)
        self.job_id = job_id


class AmbiguousId(QueueCTLError):
    """Several ids begin with this prefix."""

    code = "ambiguous_id"

    def __init__(self, prefix: str, matches: Sequence[str]) -> None:
        super().__init__(
            f"Several jobs have ids that begin with '{prefix}'",
            hint=f"type more of it: {', '.join(matches)}",
        )


class WrongState(QueueCTLError):
    """The job's state does not allow this."""

    code = "wrong_state"

    def __init__(self, job_id: str, state: str, allowed: Sequence[str], message: str = "") -> None:
        super().__init__(
            message or f"Job '{job_id}' is {state}",
            hint=f"it is {state}; this needs a job that is {' or '.join(allowed)}",
        )
        self.job_id, self.state, self.allowed = job_id, state, tuple(allowed)


class NotPermitted(QueueCTLError):
    """This actor may not do this."""

    code = "not_permitted"


class QuotaReached(NotPermitted):
    """This person has as many jobs that have not ended as the site lets one have."""

    code = "quota_reached"


class TooBroad(QueueCTLError):
    """This takes too long to find"""

    code = "too_broad"


class WorkerRefused(QueueCTLError):
    """A worker cannot start here."""

    code = "worker_refused"


class LeaseLost(QueueCTLError):
    """Another worker has declared this one dead; its jobs are no longer its own."""

    code = "lease_lost"


class UnreadableRow(QueueCTLError):
    """A row holds what nobody can read."""

    code = "unreadable"

    def __init__(self, table: str, why: str) -> None:
        super().__init__(
            f"A row of the table {table} cannot be read: {why}",
            hint="somebody may have edited it; put it right in the database, or delete it there",
        )
        self.table = table


class AttemptLost(QueueCTLError):
    """What a task's result names where an attempt ended without an exception of its own.

    Its runner or worker died, or it was cancelled or interrupted.
    """
