"""Everything SQLite and PostgreSQL do differently, asked by feature and not by name.

Raw SQL lives here and nowhere else: bulk writes guarded row by row, which the ORM cannot express
(it has no UPDATE of many rows with their own values and a guard each).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connections,
    models,
    transaction,
)

from . import clock, conf

CHANNEL = "queuectl"
STATEMENT_SECONDS, LOCK_SECONDS, CONNECT_SECONDS = 5, 1, 5
"""How long the ledger waits for one statement, one lock, one connection."""


def alias() -> str:
    return conf.get().DATABASE


def _connection() -> Any:
    return connections[alias()]


def _is_postgresql() -> bool:
    return bool(_connection().vendor == "postgresql")


# What the database can do


def workers_share_a_host() -> bool:
    """True where every worker is on this machine, so that its lock file alone says who lives."""
    return not _is_postgresql()


def can_notify() -> bool:
    return _is_postgresql()


def database_file() -> Path | None:
    """The file that holds the queue; None for a server, or for a database in memory."""
    connection = _connection()
    if _is_postgresql() or connection.is_in_memory_db():
        return None
    return Path(connection.settings_dict["NAME"]).resolve()


def describe() -> str:
    """The database in a few words, for people; never a password."""
    settings = _connection().settings_dict
    if file := database_file():
        return f"sqlite {file.name}"
    if not _is_postgresql():
        return "sqlite in memory"
    host = settings.get("HOST") or "local socket"
    return f"postgresql {settings['NAME']} on {host}"


def is_in_memory() -> bool:
    return not _is_postgresql() and database_file() is None


def in_use() -> bool:
    """Whether this process has ever opened a connection; a fork would share it."""
    return any(c.connection is not None for c in connections.all(initialized_only=True))


def close() -> None:
    connections.close_all()


# Time


def now() -> datetime:
    """The database's time: one clock for all hosts. Inside a transaction too it goes on."""
    if not _is_postgresql():
        return clock.now()
    with _connection().cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


# Transactions


@contextmanager
def atomic() -> Iterator[None]:
    """A transaction on the queue's database, joining the caller's.

    SQLite takes the write lock first (BEGIN IMMEDIATE), also where the host's settings do not
    say so: a read that turns into a write fails at once with BUSY_SNAPSHOT, whatever the timeout.
    """
    connection = _connection()
    connection.ensure_connection()
    if not _is_postgresql() and not connection.in_atomic_block:
        connection.transaction_mode = "IMMEDIATE"
    with transaction.atomic(using=alias()):
        yield


@contextmanager
def one_view() -> Iterator[None]:
    """Reads that all see the database as it was at one moment; no write lock is taken."""
    connection = _connection()
    connection.ensure_connection()
    if connection.in_atomic_block:
        yield
        return
    mode = getattr(connection, "transaction_mode", None)
    if not _is_postgresql():
        connection.transaction_mode = "DEFERRED"
    try:
        with transaction.atomic(using=alias()):
            if _is_postgresql():
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
    finally:
        if not _is_postgresql():
            connection.transaction_mode = mode


def on_commit(function: Any) -> None:
    transaction.on_commit(function, using=alias())


@contextmanager
def turn() -> Iterator[datetime]:
    """One bounded transaction of the ledger; gives the database's time.

    The bounds are set per transaction on PostgreSQL: a pooler in transaction mode forgets what a
    session set.
    """
    with atomic():
        yield _bounded_now(_connection())


def _bounded_now(connection: Any) -> datetime:
    if not _is_postgresql():
        return clock.now()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT clock_timestamp(), set_config('statement_timeout', %s, true),"
            " set_config('lock_timeout', %s, true)",
            [f"{STATEMENT_SECONDS}s", f"{LOCK_SECONDS}s"],
        )
        moment: datetime = cursor.fetchone()[0]
    return moment


def bound_waits() -> None:
    """Called once by a ledger process before it connects: no call may block it for long."""
    connection = _connection()
    settings = connection.settings_dict
    # With DEBUG on Django keeps the text of every statement, which a worker would do for days.
    connection.make_debug_cursor = connection.make_cursor
    options = settings["OPTIONS"] = {**settings.get("OPTIONS", {})}
    if _is_postgresql():
        options["connect_timeout"] = CONNECT_SECONDS
        options |= {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
        options["tcp_user_timeout"] = STATEMENT_SECONDS * 1000
        settings["CONN_MAX_AGE"] = None
    else:
        options["timeout"] = LOCK_SECONDS


# Errors


def is_bad_data(error: Exception) -> bool:
    """The rows are at fault, and would be again: report them one by one."""
    return isinstance(error, DataError | IntegrityError | ValueError | TypeError | OverflowError)


def is_trouble(error: Exception) -> bool:
    """The database is busy, full or away: wait and try again."""
    return isinstance(error, OperationalError | InterfaceError) or (
        isinstance(error, DatabaseError) and not is_bad_data(error)
    )


def is_not_migrated(error: Exception) -> bool:
    """A table or a column is missing; a missing database, role or schema is something else."""
    state = getattr(error.__cause__, "sqlstate", None)
    if state is not None:
        return state in ("42P01", "42703")
    return "no such table" in str(error) or "no such column" in str(error)


# Conditions


def begins_with(field: str, prefix: str) -> models.Q:
    """A condition an index serves. SQLite's LIKE ignores case and therefore its index: a range."""
    if _is_postgresql():
        return models.Q(**{f"{field}__startswith": prefix})
    return models.Q(**{f"{field}__gte": prefix, f"{field}__lt": f"{prefix}\U0010ffff"})


# Rows in bulk


def _columns(model: type[models.Model], names: Sequence[str]) -> list[Any]:
    return [model._meta.get_field(name) for name in names]


def update_rows(
    model: type[models.Model],
    *,
    columns: Sequence[str],
    guard: Sequence[str],
    rows: Sequence[Sequence[Any]],
) -> set[int]:
    """UPDATE many rows, each with its own values and its own guard; returns the ids that matched.

    A row is (id, *values of `columns`, *values of `guard`). One statement over arrays on
    PostgreSQL; on SQLite a prepared statement per row, which there costs no round trip.
    """
    if not rows:
        return set()
    fields = _columns(model, ["id", *columns, *guard])
    connection = _connection()
    if _is_postgresql():
        return _update_by_arrays(connection, model, fields, len(columns), rows)
    key, values, guards = fields[0], fields[1 : 1 + len(columns)], fields[1 + len(columns) :]
    assignments = ", ".join(f'"{field.column}" = %s' for field in values)
    tests = " AND ".join(f'"{field.column}" = %s' for field in [key, *guards])
    statement = f'UPDATE "{model._meta.db_table}" SET {assignments} WHERE {tests}'
    matched = set()
    with connection.cursor() as cursor:
        for row in rows:
            ready = [f.get_db_prep_save(v, connection) for f, v in zip(fields, row, strict=True)]
            cursor.execute(
                statement, [*ready[1 : 1 + len(columns)], ready[0], *ready[1 + len(columns) :]]
            )
            if cursor.rowcount:
                matched.add(row[0])
    return matched


def _update_by_arrays(
    connection: Any,
    model: type[models.Model],
    fields: list[Any],
    width: int,
    rows: Sequence[Sequence[Any]],
) -> set[int]:
    names = [f"c{i}" for i in range(len(fields))]
    assignments = ", ".join(
        f'"{field.column}" = v.{name}'
        for field, name in zip(fields[1 : 1 + width], names[1 : 1 + width], strict=True)
    )
    tests = " AND ".join(
        f't."{field.column}" = v.{name}'
        for field, name in [
            (fields[0], names[0]),
            *zip(fields[1 + width :], names[1 + width :], strict=True),
        ]
    )
    statement = (
        f'UPDATE "{model._meta.db_table}" t SET {assignments} '
        f"FROM unnest({_arrays(connection, fields)}) v({', '.join(names)}) WHERE {tests} RETURNING t.id"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, _transposed(connection, fields, rows))
        return {row[0] for row in cursor.fetchall()}


def insert_rows(
    model: type[models.Model], *, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """INSERT many rows in one statement. Faster than bulk_create, which builds a model for each."""
    if not rows:
        return
    fields = _columns(model, columns)
    connection = _connection()
    into = f'INSERT INTO "{model._meta.db_table}" ({", ".join(_quoted(fields))})'
    with connection.cursor() as cursor:
        if _is_postgresql():
            statement = f"{into} SELECT * FROM unnest({_arrays(connection, fields)})"
            cursor.execute(statement, _transposed(connection, fields, rows))
        else:
            marks = ", ".join(["%s"] * len(fields))
            ready = [
                [f.get_db_prep_save(v, connection) for f, v in zip(fields, row, strict=True)]
                for row in rows
            ]
            cursor.executemany(f"{into} VALUES ({marks})", ready)


def _quoted(fields: Sequence[Any]) -> list[str]:
    return [f'"{field.column}"' for field in fields]


def _arrays(connection: Any, fields: Sequence[Any]) -> str:
    return ", ".join(f"%s::{field.cast_db_type(connection)}[]" for field in fields)


def _transposed(
    connection: Any, fields: Sequence[Any], rows: Sequence[Sequence[Any]]
) -> list[list[Any]]:
    return [
        [field.get_db_prep_save(value, connection) for value in column]
        for field, column in zip(fields, zip(*rows, strict=True), strict=True)
    ]


# Wake-ups


def notify() -> None:
    """Tell idle workers that something was committed. A hint: losing it costs one poll."""
    if _is_postgresql():
        with _connection().cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")


def listener() -> Any:
    """A connection of its own that LISTENs, autocommit; its fileno() is readable at a hint."""
    import psycopg

    connection = psycopg.connect(**_connection().get_connection_params(), autocommit=True)
    connection.execute(f"LISTEN {CHANNEL}")
    return connection


def data_version() -> int:
    """A number that changes when another connection has committed; SQLite only. 7 us."""
    with _connection().cursor() as cursor:
        cursor.execute("PRAGMA data_version")
        version: int = cursor.fetchone()[0]
    return version
