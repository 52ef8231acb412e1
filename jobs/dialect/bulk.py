"""Many rows in one statement, each with its own values and its own guard, which the ORM cannot express."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from types import NoneType
from typing import Any
from uuid import UUID

from django.db import models

from .base import connection, fields_of, is_postgresql, quoted

MOST_PARAMETERS, MOST_ROWS = 32_000, 1_000
"""In one statement: SQLite takes 32,766 parameters."""


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
    fields = fields_of(model, ["id", *columns, *guard])
    # A guard said once is a constraint of the table alone. With it, and the statistics of a large
    # table, SQLite puts a Bloom filter before the lookup by id, and reads the whole table for that.
    apart = {0} if is_postgresql() else {0, *range(1 + len(columns), len(fields))}
    matched: set[int] = set()
    for part in _parts(rows, len(fields)):
        found = _columns(fields, part, apart)
        said = [f'"{f.column}" = {value}' for f, value in zip(fields, found.values, strict=True)]
        statement = (
            f'{found.rows} UPDATE "{model._meta.db_table}" AS t'
            f" SET {', '.join(said[1 : 1 + len(columns)])} FROM v"
            f" WHERE {' AND '.join(f't.{each}' for each in [said[0], *said[1 + len(columns) :]])}"
            " RETURNING id"
        )
        with connection().cursor() as cursor:
            cursor.execute(statement, found.params)
            matched |= {row[0] for row in cursor.fetchall()}
    return matched


def insert_rows(
    model: type[models.Model], *, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """INSERT many rows, what is the same in all of them said once. Raises IntegrityError.

    Not bulk_create: a whole enqueue of many takes 75 us a job this way, bulk_create alone 170.
    """
    fields = fields_of(model, columns)
    for part in _parts(rows, len(fields)):
        found = _columns(fields, part)
        statement = (
            f'{found.rows} INSERT INTO "{model._meta.db_table}" ({", ".join(quoted(fields))})'
            f" SELECT {', '.join(found.values)}{' FROM v' if found.rows else ''}"
        )
        with connection().cursor() as cursor:
            cursor.execute(statement, found.params)


def _parts(rows: Sequence[Sequence[Any]], width: int) -> Iterator[Sequence[Sequence[Any]]]:
    size = min(MOST_ROWS, MOST_PARAMETERS // width)
    return (rows[start : start + size] for start in range(0, len(rows), size))


@dataclass(frozen=True, slots=True)
class _Columns:
    """Rows in the middle of a statement: `v` holds what differs, the rest is said in its place."""

    rows: str
    """Defines `v`; empty when nothing differs."""

    values: list[str]
    """How each column is said: a column of `v` or a parameter."""

    params: list[Any]
    """First those of `v`, then the others in the order of the columns."""


def _columns(
    fields: Sequence[Any], rows: Sequence[Sequence[Any]], apart: Collection[int] = ()
) -> _Columns:
    """`apart`: these columns are in `v` whether they differ or not."""
    base, sqlite = connection(), not is_postgresql()
    columns = [
        _prepared(base, field, column, sqlite)
        for field, column in zip(fields, zip(*rows, strict=True), strict=True)
    ]
    differ = [
        i for i, column in enumerate(columns) if i in apart or column.count(column[0]) < len(rows)
    ]
    values = ["%s" if sqlite else f"CAST(%s AS {field.cast_db_type(base)})" for field in fields]
    for i in differ:
        values[i] = f"v.c{i}"
    once = [column[0] for i, column in enumerate(columns) if i not in set(differ)]
    if not differ:
        return _Columns("", values, once)
    source, params = _source([fields[i] for i in differ], [columns[i] for i in differ])
    names = ", ".join(f"c{i}" for i in differ)
    return _Columns(f"WITH v ({names}) AS ({source})", values, [*params, *once])


def _source(fields: Sequence[Any], columns: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
    if is_postgresql():
        arrays = ", ".join(f"%s::{field.cast_db_type(connection())}[]" for field in fields)
        return f"SELECT * FROM unnest({arrays})", [_array(column) for column in columns]
    marks = f"({', '.join(['%s'] * len(columns))})"
    params = [value for row in zip(*columns, strict=True) for value in row]
    return f"VALUES {', '.join([marks] * len(columns[0]))}", params


def _array(column: Sequence[Any]) -> str | list[Any]:
    """A column for PostgreSQL: where no value needs quotes as the text of an array, else as a list.

    The driver spells a list value by value, through an object of its own for each: with the text a
    report of a no-op task takes the ledger 7.8 us of its own time, with lists 10.
    """
    if not {type(value) for value in column} <= _SPELLED.keys():
        return list(column)
    return f"{{{','.join([_SPELLED[type(value)](value) for value in column])}}}"


_text_of_uuid = lru_cache(16)(str)
"""The token of a claim is that of hundreds of rows: a fifth of the price."""

_SPELLED: dict[type, Callable[[Any], str]] = {
    int: str,
    float: repr,
    datetime: datetime.isoformat,
    UUID: _text_of_uuid,
    NoneType: lambda _: "NULL",
}


def _prepared(connection: Any, field: Any, column: Sequence[Any], sqlite: bool) -> list[Any]:
    """A column's values as the driver takes them. What is the same in all rows is asked for once."""
    if isinstance(field, models.JSONField):
        # There 1 and true, which Python takes for equal, are two things.
        return [field.get_db_prep_save(value, connection) for value in column]
    if column.count(column[0]) == len(column):
        return [field.get_db_prep_save(column[0], connection)] * len(column)
    if isinstance(field, models.DateTimeField) and sqlite:
        zone = connection.timezone
        return [_sqlite_time(value, zone) for value in column]
    if {type(value) for value in column} <= (_AS_THEY_ARE if sqlite else _SPELLED.keys()):
        return list(column)
    return [field.get_db_prep_save(value, connection) for value in column]


_AS_THEY_ARE = {int, float, NoneType}
"""For SQLite. PostgreSQL's driver knows times and UUIDs too; ours always have a zone."""


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
