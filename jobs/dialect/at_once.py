"""The first jobs in line made a worker's by one statement that is a transaction by itself.

Of what an idle worker does when a job comes, the way to the database and back was most: code that
has rested is slow, and a turn has six statements. Measured after 50 to 150 ms of rest, the commit
included: on PostgreSQL 3.4 ms for a turn, 2.2 for this, 1.7 where the server has it prepared; on
SQLite 1.5 and 1.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import models

from .. import clock, conf
from .base import connection, fields_of, is_postgresql, quoted
from .transactions import LOCK_SECONDS, STATEMENT_SECONDS

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class FirstInLine:
    """Which jobs are wanted, and whose they become."""

    jobs: type[models.Model]
    queues: type[models.Model]
    columns: tuple[str, ...]
    names: Sequence[str]
    """Of queues."""

    limit: int
    lease: UUID
    worker_id: int


def take(first: FirstInLine, is_fit: Callable[[Row], bool]) -> list[Row] | None:
    """Make the first pending jobs of these queues a worker's, started now; their rows, in no order.

    Not from a queue that is paused, nor what somebody wants cancelled. None where it cannot be done
    so: inside a transaction, or through a pooler, which has no session to bound its waits in.

    One statement on PostgreSQL. On SQLite, where a way costs little, a look before it, and only what
    `is_fit` is taken: its columns hold anything, so that a worker might not even give such a job back.
    """
    if connection().in_atomic_block:
        return None
    if not is_postgresql():
        return taken_from_file(first, is_fit)
    return taken_from_server(first) if _has_session() else None


# PostgreSQL


def taken_from_server(first: FirstInLine) -> list[Row]:
    statement = on_server(first.jobs, first.queues, first.columns)
    values = [list(first.names), first.limit, first.limit, first.lease, first.worker_id]
    return _prepared(statement, values)


@lru_cache(4)
def on_server(
    jobs: type[models.Model], queues: type[models.Model], columns: tuple[str, ...]
) -> str:
    table, line = jobs._meta.db_table, "priority DESC, due_at, id"
    returned = ", ".join(f"t.{column}" for column in quoted(fields_of(jobs, columns)))
    return (
        "WITH first AS (SELECT own.id FROM"
        f" (SELECT name FROM {queues._meta.db_table} WHERE name = ANY(%s)"
        " AND (paused_at IS NULL OR paused_until <= statement_timestamp())) AS open,"
        f" LATERAL (SELECT id, priority, due_at FROM {table} WHERE state = 'pending'"
        f" AND queue = open.name AND cancel_requested_at IS NULL AND {_times_are_sound()}"
        f" ORDER BY {line} LIMIT %s"
        f" FOR UPDATE SKIP LOCKED) AS own ORDER BY {line} LIMIT %s)"
        f" UPDATE {table} AS t SET state = 'processing', lease = %s, worker_id = %s,"
        " started_at = statement_timestamp(), updated_at = statement_timestamp()"
        f" FROM first WHERE t.id = first.id AND t.state = 'pending' RETURNING {returned}"
    )


def _times_are_sound() -> str:
    """What Python could not read would be ours by then, and nobody's."""
    within = "BETWEEN '0001-01-02 00:00Z' AND '9999-12-30 00:00Z'"
    always = " AND ".join(f"{name} {within}" for name in ("due_at", "created_at"))
    perhaps = [f"({name} IS NULL OR {name} {within})" for name in ("run_at", "put_off_since")]
    return " AND ".join([always, *perhaps])


def _has_session() -> bool:
    """Whether the server on the other side is always the same, so that it keeps what it was told.

    A pooler says that it is a process with a number that none of its servers has. Told once for each
    connection: how long a statement may take, and wait for a lock, which a turn says each time.
    """
    base = connection()
    base.ensure_connection()
    raw = base.connection
    if getattr(base, "queuectl_session", (None, False))[0] is not raw:
        base.queuectl_session = (raw, _bounded(base, raw))
    return bool(base.queuectl_session[1])


def _bounded(base: Any, raw: Any) -> bool:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    if not is_psycopg3 or conf.get().LISTEN_AT or not base.get_autocommit():
        return False
    with base.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        if cursor.fetchone()[0] != raw.info.backend_pid:
            return False
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)",
            [f"{STATEMENT_SECONDS}s", f"{LOCK_SECONDS}s"],
        )
    return True


def _prepared(statement: str, values: Sequence[Any]) -> list[Row]:
    """The rows of a statement that the server plans once for all."""
    from psycopg import Cursor

    base = connection()
    raw = base.connection
    with base._prepare_cursor(Cursor(raw)) as cursor:
        raw.prepare_threshold = 0
        try:
            cursor.execute(statement, values)
        finally:
            # Others have their values in their texts, and would be prepared for nothing.
            raw.prepare_threshold = None
        return cursor.fetchall()  # type: ignore[no-any-return]


# SQLite


def taken_from_file(first: FirstInLine, is_fit: Callable[[Row], bool]) -> list[Row]:
    """Read first: an UPDATE of nothing takes the one write lock too, and a row that cannot be read
    is not to be ours. What somebody has changed since it was read stays.
    """
    base, columns = connection(), (*first.columns, "id", "updated_at")
    now: Any = base.ops.adapt_datetimefield_value(clock.now())
    asked = [value for name in first.names for value in (name, name, now, first.limit)]
    with base.cursor() as cursor:
        cursor.execute(
            _in_line(first.jobs, first.queues, columns, len(first.names)), [*asked, first.limit]
        )
        found = [row for row in cursor.fetchall() if is_fit(row[:-2])]
        if not found:
            return []
        fields = fields_of(first.jobs, ["lease", "worker", "started_at", "updated_at"])
        assignments = ", ".join(f"{column} = %s" for column in quoted(fields))
        written = zip(fields[:2], [first.lease, first.worker_id], strict=True)
        values = [*(field.get_db_prep_save(value, base) for field, value in written), now, now]
        each = " OR ".join(["(id = %s AND updated_at = %s)"] * len(found))
        cursor.execute(
            f"UPDATE {first.jobs._meta.db_table} SET state = 'processing', {assignments}"
            f" WHERE state = 'pending' AND ({each}) RETURNING id",
            [*values, *(part for *_, id, changed in found for part in (id, str(changed)))],
        )
        ours = {id for (id,) in cursor.fetchall()}
    return [row for *row, id, _ in found if id in ours]


@lru_cache(32)
def _in_line(
    jobs: type[models.Model], queues: type[models.Model], columns: tuple[str, ...], number: int
) -> str:
    table, line = jobs._meta.db_table, "priority DESC, due_at, id"
    found = ", ".join(f"{table}.{column}" for column in quoted(fields_of(jobs, columns)))
    of_one = (
        f"SELECT id FROM {table} WHERE state = 'pending' AND queue = %s"
        f" AND cancel_requested_at IS NULL AND EXISTS (SELECT 1 FROM {queues._meta.db_table}"
        f" WHERE name = %s AND (paused_at IS NULL OR paused_until <= %s)) ORDER BY {line} LIMIT %s"
    )
    of_all = " UNION ALL ".join([f"SELECT * FROM ({of_one})"] * number)
    return f"SELECT {found} FROM {table} WHERE id IN ({of_all}) ORDER BY {line} LIMIT %s"
