"""Texts that are none: SQLite keeps any bytes as one, and its driver fails on what is not UTF-8."""

from __future__ import annotations

from typing import Any

from django.db import models

from .base import connection, is_postgresql, quoted
from .values import MOST_TOLD


def mend_texts(rows: models.QuerySet[Any, Any]) -> dict[int, list[str]]:
    """Write each such text of these rows as it can be read: bytes that are none as \\xe9, in JSON as
    the sign for what cannot be read.

    Returns the names of their fields by the number of the row; of very many only the first. The
    statement picks what is not all printable ASCII, and Python decides.
    """
    if is_postgresql():
        return {}
    options = rows.model._meta
    table, fields = options.db_table, options.concrete_fields
    columns = quoted(fields)
    # As bytes: on the way out of a column of texts the driver fails.
    stored = ", ".join(f"CASE typeof({c}) WHEN 'text' THEN CAST({c} AS BLOB) END" for c in columns)
    # GLOB reads no further than a zero.
    odd = " OR ".join(f"{c} GLOB '*[^ -~]*' OR instr(CAST({c} AS BLOB), x'00')" for c in columns)
    among, params = rows.order_by().values("pk").query.sql_with_params()
    (key,) = quoted([options.pk])
    found: dict[int, list[str]] = {}
    mended = []
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT rowid, {stored} FROM {table} WHERE {key} IN ({among}) AND ({odd})", params
        )
        for row, *values in cursor:
            if len(found) >= MOST_TOLD:
                break
            for field, value in zip(fields, values, strict=True):
                if value is not None and not _is_text(value):
                    found.setdefault(row, []).append(field.name)
                    mended.append((row, field, _readable(value, field)))
        for row, field, text in mended:
            (column,) = quoted([field])
            cursor.execute(f"UPDATE {table} SET {column} = %s WHERE rowid = %s", [text, row])
    return found


def queues_in_bytes(jobs: type[models.Model]) -> list[tuple[int, str]]:
    """Pending jobs whose queue somebody has put as bytes, and its name: which no worker would ask for.

    SQLite holds any bytes for more than any text, so they are the last of the claim's index.
    """
    if is_postgresql():
        return []
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT id, queue FROM {jobs._meta.db_table} WHERE state = 'pending' AND queue >= x''"
            f" LIMIT {MOST_TOLD:d}"
        )
        return [(id, name.decode("utf-8", "backslashreplace")) for id, name in cursor.fetchall()]


def name_queue(jobs: type[models.Model], job_id: int, name: str) -> None:
    """Give a pending job's queue, if it is still put as bytes, its name."""
    with connection().cursor() as cursor:
        cursor.execute(
            f"UPDATE {jobs._meta.db_table} SET queue = %s"
            " WHERE id = %s AND state = 'pending' AND queue >= x''",
            [name, job_id],
        )


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
