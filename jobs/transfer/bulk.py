"""What was spooled into the tables, as fast as either database takes it: the only SQL of transfer.

Measured for a million jobs with an attempt and output each, inside the one transaction:
`dialect.insert_rows` prepares every value there, 120 s on SQLite and 215 s on PostgreSQL. On SQLite,
where nobody else can write meanwhile, rows that pass through Python take 50 s even if prepared
before; a spool that is attached, so that no row does, 16 s. On PostgreSQL COPY takes 45 s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, tzinfo
from functools import cache
from itertools import islice
from typing import Any
from urllib.parse import quote

from django.db import DatabaseError, models
from django.db.transaction import get_connection

from .. import dialect
from ..models import Attempt, Job, Output
from .spool import ATTEMPT, JOB, OUTPUT, Spool, names

_PAGE = 2000

Load = Callable[[Callable[[int], None]], None]
"""Inserts all that is to be kept, inside a transaction, telling how many jobs are in."""


def _connection() -> Any:
    return get_connection(using=dialect.alias())


def ready(value: Any, *, is_json: bool = False) -> Any:
    """A value as a spool and the database take it, without looking at its column."""
    if value is None:
        return None
    if is_json:
        return _dumps(value)
    if isinstance(value, datetime):
        return _moment(value)
    return value


_dumps = json.JSONEncoder(sort_keys=True).encode


def _moment(value: datetime) -> str:
    """As the database's adapter writes it, for which asking that each time takes three times as long."""
    zone = _zone_of_naive(dialect.alias())
    if zone is None:
        return value.isoformat(" ")
    return value.astimezone(zone).replace(tzinfo=None).isoformat(" ")


@cache
def _zone_of_naive(alias: str) -> tzinfo | None:
    """The zone in which the database keeps times that do not say theirs; None where they do."""
    connection = _connection()
    zone: tzinfo | None = None if connection.features.supports_timezones else connection.timezone
    return zone


@contextmanager
def unlogged() -> Iterator[None]:
    """With DEBUG on Django keeps the text of every statement: here that could be the whole file."""
    connection = _connection()
    connection.make_debug_cursor = connection.make_cursor
    try:
        yield
    finally:
        del connection.make_debug_cursor


@contextmanager
def at_hand(spool: Spool) -> Iterator[Load]:
    """Bring the spool to where its rows can be inserted; to be entered before the transaction."""
    connection = _connection()
    connection.ensure_connection()
    # What is attached cannot be detached before the transaction ends: not for a caller's.
    if dialect.can_notify() or connection.in_atomic_block:
        yield lambda told: _load_by_row(spool, told)
        return
    try:
        with connection.cursor() as cursor:
            # Read only, or BEGIN IMMEDIATE would want the write lock of the spool too.
            cursor.execute("ATTACH DATABASE %s AS spool", [f"file:{quote(spool.path)}?mode=ro"])
        yield lambda told: _load_attached()
    finally:
        _detach(connection)


def _detach(connection: Any) -> None:
    """What cannot be detached goes with its connection: the next import attaches another by that name."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("DETACH DATABASE spool")
    except DatabaseError:
        connection.close()


def _load_attached() -> None:
    kept = "EXISTS (SELECT 1 FROM spool.job WHERE number = job_id AND kept)"
    with _connection().cursor() as cursor:
        base = _last_id(cursor)
        for into, columns, number, source in (
            (f'"{Job._meta.db_table}" (id', JOB, "number", "job WHERE kept"),
            (f'"{Attempt._meta.db_table}" (job_id', ATTEMPT[1:], "job_id", f"attempt WHERE {kept}"),
            (f'"{Output._meta.db_table}" (job_id', OUTPUT[1:], "job_id", f"output WHERE {kept}"),
        ):
            cursor.execute(
                f"INSERT INTO {into}, {names(columns)}) "  # noqa: S608
                f"SELECT %s + {number}, {names(columns)} FROM spool.{source}",
                [base],
            )


def _last_id(cursor: Any) -> int:
    # The transaction holds the only write lock, so whatever follows is free.
    cursor.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = %s", [Job._meta.db_table])
    return int(cursor.fetchone()[0] or 0)


def _load_by_row(spool: Spool, told: Callable[[int], None]) -> None:
    last = done = 0
    while rows := spool.kept(last, _PAGE):
        first, last = rows[0][0], rows[-1][0]
        ids = dict(zip((row[0] for row in rows), _reserve(len(rows)), strict=True))
        _insert(Job, ("id", *JOB), ((ids[row[0]], *row[1:]) for row in rows))
        for model, columns, found in (
            (Attempt, ATTEMPT, spool.attempts_of(first, last)),
            (Output, OUTPUT, spool.output_of(first, last)),
        ):
            of_kept = ((ids[row[0]], *row[1:]) for row in found if row[0] in ids)
            _insert(model, columns, of_kept)
        done += len(rows)
        told(done)


def _reserve(number: int) -> Sequence[int]:
    """Primary keys of jobs that nobody else gets, ascending."""
    with _connection().cursor() as cursor:
        if not dialect.can_notify():
            base = _last_id(cursor)
            return range(base + 1, base + 1 + number)
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)",
            [f'"{Job._meta.db_table}"', number],
        )
        return [row[0] for row in cursor.fetchall()]


def _insert(
    model: type[models.Model], columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Raises IntegrityError as any INSERT does."""
    into, connection = f'"{model._meta.db_table}" ({names(columns)})', _connection()
    with connection.cursor() as cursor, connection.wrap_database_errors:
        if dialect.can_notify():
            with cursor.copy(f"COPY {into} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            return
        marks, left = ", ".join(["%s"] * len(columns)), iter(rows)
        # In bites: Django's executemany keeps all that it is given.
        while bite := list(islice(left, _PAGE)):
            cursor.executemany(f"INSERT INTO {into} VALUES ({marks})", bite)  # noqa: S608
