"""Texts that are none: SQLite keeps any bytes as one, and its driver fails on what is not UTF-8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models

from .base import connection, is_postgresql, quoted


def mend_texts(model: type[models.Model], states: Sequence[str] = ()) -> dict[int, list[str]]:
    """Write each such text, of the rows in these states, as it can be read: bytes that are none
    as \\xe9, in JSON as the sign for what cannot be read.

    Returns the names of their fields by the number of the row. The statement picks what is not all
    ASCII, and Python decides.
    """
    if is_postgresql():
        return {}
    table, fields = model._meta.db_table, model._meta.concrete_fields
    columns = quoted(fields)
    # As bytes: on the way out of a column of texts the driver fails.
    stored = ", ".join(f"CASE typeof({c}) WHEN 'text' THEN CAST({c} AS BLOB) END" for c in columns)
    odd = " OR ".join(f"{column} GLOB '*[^ -~]*'" for column in columns)
    among = f"state IN ({', '.join(['%s'] * len(states))}) AND " if states else ""
    found: dict[int, list[str]] = {}
    mended = []
    with connection().cursor() as cursor:
        cursor.execute(f"SELECT rowid, {stored} FROM {table} WHERE {among}({odd})", [*states])
        for row, *values in cursor:
            for field, value in zip(fields, values, strict=True):
                if value is not None and not _is_text(value):
                    found.setdefault(row, []).append(field.name)
                    mended.append((row, field, _readable(value, field)))
        for row, field, text in mended:
            (column,) = quoted([field])
            cursor.execute(f"UPDATE {table} SET {column} = %s WHERE rowid = %s", [text, row])
    return found


def _readable(value: bytes, field: models.Field[Any, Any]) -> str:
    # JSON knows no \xe9, and has to be JSON afterwards.
    how = "replace" if isinstance(field, models.JSONField) else "backslashreplace"
    return value.decode("utf-8", how)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
