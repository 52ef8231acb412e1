"""Values for tests that need no database."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from jobs.outcome import Kind, Outcome
from jobs.transitions import Limits
from jobs.work import Work

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)
LIMITS = Limits(max_lost=3, max_interrupts=10)


def work(command: str | None = "true", argv: Sequence[str] | None = None, **fields: Any) -> Work:
    defaults: dict[str, Any] = {
        "job_id": 1,
        "key": "job1",
        "lease": uuid4().hex,
        "number": 1,
        "command": command if argv is None else None,
        "argv": argv,
        "cwd": "",
        "env": {},
        "timeout": 30.0,
        "attempts": 0,
        "max_retries": 3,
        "backoff_base": 2.0,
        "losses": 0,
        "interruptions": 0,
        "ahead": False,
    }
    return Work(**(defaults | fields))


def outcome(kind: Kind = Kind.SUCCEEDED, **fields: Any) -> Outcome:
    return Outcome(kind=kind, **fields)
