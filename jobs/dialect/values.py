"""Values as the driver gives them, which is cheaper than as Django does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from django.db import models
from django.utils.dateparse import parse_datetime

from .base import connection, fields_of, is_postgresql, quoted

MOST_TOLD = 1000
_EPOCH = datetime(1970, 1, 1)


def zone() -> tzinfo:
    """Of the times that the driver gives. To be asked once for many: 5 us."""
    found: tzinfo = connection().timezone
    return found


def times_have_zones() -> bool:
    """Whether the times that the driver gives have a zone. To be asked once for many, like `zone`."""
    return is_postgresql()


def is_stored_time(value: Any, zoned: bool) -> bool:
    """Whether the driver gave a time of the kind that we store, with a zone or without.

    One of another kind cannot be compared with the rest.
    """
    return isinstance(value, datetime) and (value.tzinfo is not None) is zoned


def as_time(value: Any, zone: tzinfo) -> datetime | None:
    """A time as the driver gave it."""
    if value is None or (isinstance(value, datetime) and value.tzinfo):
        return value
    naive = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return naive.replace(tzinfo=zone)


def as_seconds(value: Any, zone: tzinfo) -> float | None:
    """A time as the driver gave it, in seconds since 1970."""
    if isinstance(value, datetime) and value.tzinfo is None and zone is UTC:
        return (value - _EPOCH).total_seconds()  # half the price
    moment = as_time(value, zone)
    return None if moment is None else moment.timestamp()


def as_text(value: Any) -> str | None:
    """JSON as the driver or a model gave it, as text."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def as_json(value: Any) -> Any:
    """JSON as the driver gave it: text."""
    if value == "{}":
        return {}
    return json.loads(value) if isinstance(value, str | bytes) else value


def no_times(
    jobs: type[models.Model], columns: Sequence[str], states: Sequence[str]
) -> dict[str, list[int]]:
    """By column, the rows in these states whose time has the form of one and is none: the 45th of May.

    Only SQLite keeps such a text, and its driver fails on it. The statement picks what SQLite would
    write otherwise, few rows as a rule, and Python decides. Of very many only the first are told.
    """
    found: dict[str, list[int]] = {column: [] for column in columns}
    if is_postgresql():
        return found
    names = quoted(fields_of(jobs, columns))
    # As bytes: the driver reads a column by its declared type, and fails on a text that is no UTF-8.
    stored = ", ".join(f"CAST({name} AS BLOB)" for name in names)
    odd = " OR ".join(
        f"{name} IS NOT NULL AND datetime(julianday({name})) IS NOT substr({name}, 1, 19)"
        for name in names
    )
    within = ", ".join(["%s"] * len(states))
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT id, {stored} FROM {jobs._meta.db_table} WHERE state IN ({within}) AND ({odd})",
            [*states],
        )
        for job_id, *row in cursor:
            for column, value in zip(columns, row, strict=True):
                if value is not None and not _can_be_read(value):
                    found[column].append(job_id)
            if sum(map(len, found.values())) >= MOST_TOLD:
                break
    return found


def _can_be_read(value: bytes) -> bool:
    try:
        parse_datetime(value.decode())
    except ValueError:
        return False
    return True
