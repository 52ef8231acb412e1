"""Everything SQLite and PostgreSQL do differently, asked by feature and not by name.

Raw SQL lives here and nowhere else: bulk writes guarded row by row, which the ORM cannot express
(it has no UPDATE of many rows with their own values and a guard each).
"""

from __future__ import annotations

import json
import select
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import Any

from django.core.exceptions import EmptyResultSet
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

_EPOCH = datetime(1970, 1, 1)  # naive, as SQLite gives times

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


def tidy(*, idle: bool) -> None:
    """After a task: drop connections that broke, were cut or left in a transaction.

    When `idle`, old ones too. Not after each, as Django does after a request: without CONN_MAX_AGE
    that would mean to connect anew for every task.
    """
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        if connection.in_atomic_block or not connection.get_autocommit():
            connection.close()
            # A wrapper that was closed within a block can never be used again.
            del connections[connection.alias]
        elif idle or connection.errors_occurred or _has_been_spoken_to(connection):
            connection.close_if_unusable_or_obsolete()
        connection.queries_log.clear()


def _has_been_spoken_to(connection: Any) -> bool:
    """Whether a PostgreSQL server has said something unasked: a farewell, as a rule. 2 us."""
    if connection.vendor != "postgresql":
        return False
    socket = select.poll()  # not select(), which knows no descriptor above 1023
    socket.register(connection.connection, select.POLLIN)
    return bool(socket.poll(0))


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

MOST_ROWS = 1_000
"""In one statement: SQLite takes 32,766 parameters."""


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

    A row is (id, *values of `columns`, *values of `guard`). One UPDATE … FROM: what is the same in
    all rows, most of it, is said once. On SQLite a prepared statement per row took 21 to 180 us a
    row instead of 12: each opens a journal of its own, whose 64 KB the allocator may return and
    fetch again every time.
    """
    fields = _columns(model, ["id", *columns, *guard])
    matched: set[int] = set()
    for start in range(0, len(rows), MOST_ROWS):
        matched |= _update_from(model, fields, len(columns), rows[start : start + MOST_ROWS])
    return matched


def _update_from(
    model: type[models.Model], fields: Sequence[Any], width: int, rows: Sequence[Sequence[Any]]
) -> set[int]:
    connection = _connection()
    values = _transposed(connection, fields, rows)
    varying = [
        i for i, column in enumerate(values) if i == 0 or column.count(column[0]) < len(rows)
    ]
    names = {i: f"v.c{i}" for i in varying}
    source = _rows_of([fields[i] for i in varying], [values[i] for i in varying])
    said = [f'"{field.column}" = {names.get(i, "%s")}' for i, field in enumerate(fields)]
    statement = (
        f"WITH v ({', '.join(f'c{i}' for i in varying)}) AS ({source.sql})"
        f' UPDATE "{model._meta.db_table}" AS t SET {", ".join(said[1 : 1 + width])}'
        f" FROM v WHERE {' AND '.join(f't.{each}' for each in [said[0], *said[1 + width :]])}"
        " RETURNING id"
    )
    once = [column[0] for i, column in enumerate(values) if i not in names]
    with connection.cursor() as cursor:
        cursor.execute(statement, [*source.params, *once])
        return {row[0] for row in cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class _Source:
    """Rows in the middle of a statement."""

    sql: str
    params: list[Any]


def _rows_of(fields: Sequence[Any], columns: Sequence[Sequence[Any]]) -> _Source:
    if _is_postgresql():
        return _Source(f"SELECT * FROM unnest({_arrays(_connection(), fields)})", list(columns))
    marks = f"({', '.join(['%s'] * len(columns))})"
    params = [value for row in zip(*columns, strict=True) for value in row]
    return _Source(f"VALUES {', '.join([marks] * len(columns[0]))}", params)


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
            ready = zip(*_transposed(connection, fields, rows), strict=True)
            cursor.executemany(f"{into} VALUES ({marks})", ready)


def _quoted(fields: Sequence[Any]) -> list[str]:
    return [f'"{field.column}"' for field in fields]


def _arrays(connection: Any, fields: Sequence[Any]) -> str:
    return ", ".join(f"%s::{field.cast_db_type(connection)}[]" for field in fields)


def _transposed(
    connection: Any, fields: Sequence[Any], rows: Sequence[Sequence[Any]]
) -> list[list[Any]]:
    return [
        _prepared(connection, field, column)
        for field, column in zip(fields, zip(*rows, strict=True), strict=True)
    ]


def _prepared(connection: Any, field: Any, column: Sequence[Any]) -> list[Any]:
    """A column's values as the driver takes them. What is the same in all rows is asked for once."""
    if column.count(column[0]) == len(column):
        return [field.get_db_prep_save(column[0], connection)] * len(column)
    if isinstance(field, models.DateTimeField) and not _is_postgresql():
        return [_sqlite_time(value, connection.timezone) for value in column]
    if not _is_postgresql() and {type(value) for value in column} <= _AS_THEY_ARE:
        return list(column)
    return [field.get_db_prep_save(value, connection) for value in column]


_AS_THEY_ARE = {int, float, NoneType}


@lru_cache(2 * MOST_ROWS)
def _sqlite_time(moment: datetime | None, zone: tzinfo) -> str | None:
    """As Django's backend writes it, at a third of the price: most times here are in UTC already.

    Kept for a moment, since a job and its attempt have the same.
    """
    if moment is None:
        return None
    if moment.tzinfo is UTC and zone is UTC:
        return moment.isoformat(" ")[:-6]
    return moment.astimezone(zone).replace(tzinfo=None).isoformat(" ")


def raw_rows(rows: models.QuerySet[Any]) -> list[tuple[Any, ...]]:
    """What a query of columns gives as the driver gives it; see `decoded` for times and JSON.

    Django would convert every column of every row: half the price of reading them.
    """
    try:
        sql, params = rows.query.get_compiler(alias()).as_sql()
    except EmptyResultSet:
        return []
    with _connection().cursor() as cursor:
        cursor.execute(sql, params)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def as_time(value: Any) -> datetime | None:
    """A time as the driver gave it."""
    if value is None or (isinstance(value, datetime) and value.tzinfo):
        return value
    naive = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return naive.replace(tzinfo=_connection().timezone)


def as_plain(value: Any) -> float | str | None:
    """A time as the driver gave it, in a form that the wire takes; `from_plain` makes it one again."""
    return value.timestamp() if isinstance(value, datetime) else value


def from_plain(value: float | str | None) -> datetime | None:
    return datetime.fromtimestamp(value, UTC) if isinstance(value, float) else as_time(value)


def as_text(value: Any) -> str | None:
    """JSON as the driver or a model gave it, as text."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def as_json(value: Any) -> Any:
    """JSON as the driver gave it: text."""
    if value == "{}":
        return {}
    return json.loads(value) if isinstance(value, str | bytes) else value


# Enqueueing


@dataclass(frozen=True, slots=True)
class Known:
    """What an enqueue has to know first."""

    now: datetime
    queues: frozenset[str]
    """Those asked for that are there."""

    settings: dict[str, Any]


def know(queues: type[models.Model], settings: type[models.Model], names: Sequence[str]) -> Known:
    """Ask for the time, the queues and the settings at once, and tell idle workers to look.

    One statement instead of four: with them an enqueue took twice as long as a bare INSERT.
    """
    queue_table, setting_table = queues._meta.db_table, settings._meta.db_table
    with _connection().cursor() as cursor:
        if _is_postgresql():
            cursor.execute(
                f"SELECT clock_timestamp(), ARRAY(SELECT name FROM {queue_table} WHERE name = ANY(%s)),"
                f" (SELECT json_object_agg(key, value) FROM {setting_table})::text,"
                f" pg_notify('{CHANNEL}', '')",
                [list(names)],
            )
            moment, there, stored, _ = cursor.fetchone()
            return Known(moment, frozenset(there), json.loads(stored or "{}"))
        marks = ", ".join(["%s"] * len(names))
        cursor.execute(
            f"SELECT (SELECT json_group_array(name) FROM {queue_table} WHERE name IN ({marks})),"
            f" (SELECT json_group_object(key, json(value)) FROM {setting_table})",
            list(names),
        )
        there, stored = cursor.fetchone()
        return Known(clock.now(), frozenset(json.loads(there)), json.loads(stored))


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
