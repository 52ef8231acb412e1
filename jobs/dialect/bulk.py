"""Many rows in one statement, each with its own values and its own guard, which the ORM cannot express."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from types import NoneType
from typing import Any

from django.db import models

from .base import connection, fields_of, is_postgresql, quoted

MOST_ROWS = 1_000
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
    matched: set[int] = set()
    for start in range(0, len(rows), MOST_ROWS):
        matched |= _update_from(model, fields, len(columns), rows[start : start + MOST_ROWS])
    return matched


def _update_from(
    model: type[models.Model], fields: Sequence[Any], width: int, rows: Sequence[Sequence[Any]]
) -> set[int]:
    base = connection()
    values = _transposed(base, fields, rows)
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
    with base.cursor() as cursor:
        cursor.execute(statement, [*source.params, *once])
        return {row[0] for row in cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class _Source:
    """Rows in the middle of a statement."""

    sql: str
    params: list[Any]


def _rows_of(fields: Sequence[Any], columns: Sequence[Sequence[Any]]) -> _Source:
    if is_postgresql():
        return _Source(f"SELECT * FROM unnest({_arrays(connection(), fields)})", list(columns))
    marks = f"({', '.join(['%s'] * len(columns))})"
    params = [value for row in zip(*columns, strict=True) for value in row]
    return _Source(f"VALUES {', '.join([marks] * len(columns[0]))}", params)


def insert_rows(
    model: type[models.Model], *, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """INSERT many rows in one statement. Faster than bulk_create, which builds a model for each."""
    if not rows:
        return
    fields = fields_of(model, columns)
    base = connection()
    into = f'INSERT INTO "{model._meta.db_table}" ({", ".join(quoted(fields))})'
    with base.cursor() as cursor:
        if is_postgresql():
            statement = f"{into} SELECT * FROM unnest({_arrays(base, fields)})"
            cursor.execute(statement, _transposed(base, fields, rows))
        else:
            marks = ", ".join(["%s"] * len(fields))
            ready = zip(*_transposed(base, fields, rows), strict=True)
            cursor.executemany(f"{into} VALUES ({marks})", ready)


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
    if isinstance(field, models.DateTimeField) and not is_postgresql():
        return [_sqlite_time(value, connection.timezone) for value in column]
    if not is_postgresql() and {type(value) for value in column} <= _AS_THEY_ARE:
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
