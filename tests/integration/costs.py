"""What is said to the database, and what the database has to keep, counted."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

PREPARED = "EXECUTE"

CHECKPOINT_SYNCS = 3
"""The log, the database, and the log again once it begins anew."""


@dataclass
class Cost:
    """Known when the `counted` block is over."""

    statements: list[str] = field(default_factory=list)
    """BEGIN and COMMIT among them."""

    syncs: int = 0
    """How often SQLite waits for the disk. PostgreSQL does so once for each of `commits`; not counted."""

    @property
    def strays(self) -> list[str]:
        """Statements in autocommit that write: each is a transaction by itself."""
        found, inside = [], False
        for sql in self.statements:
            if sql.startswith("BEGIN"):
                inside = True
            elif sql in ("COMMIT", "ROLLBACK"):
                inside = False
            elif not inside and _may_write(sql):
                found.append(sql)
        return found

    @property
    def commits(self) -> int:
        return self.statements.count("COMMIT") + len(self.strays)


def _may_write(sql: str) -> bool:
    return not sql.lstrip("( ").startswith(("SELECT", "PRAGMA")) or "pg_notify" in sql


@contextmanager
def counted() -> Iterator[Cost]:
    """Begins and ends outside a transaction."""
    cost = Cost()
    log = _sqlite_log(cost) if connection.vendor == "sqlite" else _no_log()
    with log, CaptureQueriesContext(connection) as captured:
        yield cost
    cost.statements += spelled(captured)


def spelled(captured: CaptureQueriesContext) -> list[str]:
    """Every statement that was sent: Django tells an executemany as one, "60 times: …".

    Of one that the server has prepared it has no text, or from Django 6 on one of its own.
    """
    found: list[str] = []
    for query in captured:
        text = query["sql"] or PREPARED
        if text.startswith("QUERY = "):
            text = PREPARED
        times, many, sql = text.partition(" times: ")
        found += [sql] * int(times) if many and times.isdigit() else [text]
    return found


@contextmanager
def _no_log() -> Iterator[None]:
    yield


@contextmanager
def _sqlite_log(cost: Cost) -> Iterator[None]:
    """Count by the log itself, which has also what was said past Django.

    Meanwhile no checkpoint empties it. What those would have cost is added.
    """
    assert _pragma("synchronous") == (2,), "else a commit does not wait for the disk"
    [every] = _pragma("wal_autocheckpoint")
    _pragma("wal_autocheckpoint = 0")
    try:
        assert _pragma("wal_checkpoint(TRUNCATE)") == (0, 0, 0), "somebody else reads"
        yield
        ends = _ends(Path(f"{connection.settings_dict['NAME']}-wal").read_bytes())
    finally:
        _pragma(f"wal_autocheckpoint = {every}")
    cost.syncs = sum(ends) + CHECKPOINT_SYNCS * (len(ends) // every)


def _pragma(text: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {text}")
        return cursor.fetchone()


def _ends(log: bytes) -> list[bool]:
    """Of each frame, which is a page, whether it ends a transaction."""
    if not log:
        return []
    (page,) = struct.unpack_from("!8xI", log)
    # Such a frame tells how large the database is after it; the others say 0.
    return [any(log[at + 4 : at + 8]) for at in range(32, len(log), 24 + page)]
