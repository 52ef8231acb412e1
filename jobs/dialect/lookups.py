"""Conditions and columns of queries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models

from .base import is_postgresql


def begins_with(field: str, prefix: str) -> models.Q:
    """A condition an index serves. SQLite's LIKE ignores case and therefore its index: a range."""
    if is_postgresql():
        return models.Q(**{f"{field}__startswith": prefix})
    return models.Q(**{f"{field}__gte": prefix, f"{field}__lt": f"{prefix}\U0010ffff"})


def spelt(words: Iterable[str]) -> list[models.Func]:
    """Words of our own that stand in the statement: SQLite's partial indexes serve no variables."""
    return [models.Func(template=f"'{word}'", output_field=models.TextField()) for word in words]


class AsStored(models.Func):
    """A column without what the driver, or Django, makes of it: SQLite's value, PostgreSQL's as a text."""

    # An expression has no declared type, by which SQLite's driver chooses.
    template = "+%(expressions)s"
    output_field = models.TextField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s)::text", **context)


class AsBytes(models.Func):
    """A column of SQLite, with the bytes of what it keeps as a text, which its driver may fail to make."""

    template = (
        "CASE typeof(%(expressions)s) WHEN 'text' THEN CAST(%(expressions)s AS BLOB)"
        " ELSE %(expressions)s END"
    )
    output_field = models.TextField()


class IsTime(models.Func):
    """Whether a column holds a time that Django can reckon with. Dear on SQLite: for when it could not."""

    output_field = models.BooleanField()
    _day, _time = "substr(%(expressions)s, 1, 10)", "substr(%(expressions)s, 12, 8)"
    # SQLite itself takes the 30th of February for the 1st of March.
    template = (
        f"(date(julianday({_day})) IS {_day} AND time(julianday({_time})) IS {_time}"
        " AND substr(%(expressions)s, 11, 1) IS ' ' AND %(expressions)s >= '0001'"
        " AND substr(%(expressions)s, 20) NOT GLOB '*[^0-9.]*'"
        " AND julianday(%(expressions)s) IS NOT NULL)"
    )

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="isfinite(%(expressions)s)", **context)
