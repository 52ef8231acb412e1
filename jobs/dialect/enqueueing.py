"""What an enqueue has to know, asked at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import models

from .. import clock
from .base import connection, is_postgresql
from .wakeups import CHANNEL


@dataclass(frozen=True, slots=True)
class Known:
    """What an enqueue has to know first."""

    now: datetime
    queues: frozenset[str]
    """Those asked for that are there."""

    settings: dict[str, Any]
    taken: dict[str, str]
    """Ids asked for that are stored already, with the digest of their content."""


def know(
    queues: type[models.Model],
    settings: type[models.Model],
    jobs: type[models.Model],
    names: Sequence[str],
    keys: Sequence[str],
) -> Known:
    """Ask for the time, the queues, the settings and the ids at once, and tell idle workers to look.

    One statement instead of five: with them an enqueue took twice as long as a bare INSERT.
    """
    array, pairs = ("json_agg", "json_object_agg") if is_postgresql() else _SQLITE
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT (SELECT {array}(name) FROM {queues._meta.db_table} WHERE name {_among(names)}),"
            f" (SELECT {pairs}(key, value) FROM {settings._meta.db_table}),"
            f" (SELECT {pairs}(key, request_digest) FROM {jobs._meta.db_table} WHERE key {_among(keys)})"
            + (f", clock_timestamp(), pg_notify('{CHANNEL}', '')" if is_postgresql() else ""),
            [*names, *keys],
        )
        there, stored, taken, *time = cursor.fetchone()
    return Known(
        now=time[0] if time else clock.now(),
        queues=frozenset(_parsed(there) or ()),
        settings={key: _parsed(value) for key, value in (_parsed(stored) or {}).items()},
        taken=_parsed(taken) or {},
    )


_SQLITE = "json_group_array", "json_group_object"


def _among(values: Sequence[str]) -> str:
    return f"IN ({', '.join(['%s'] * len(values))})" if values else "IS NULL"


def _parsed(value: Any) -> Any:
    """JSON, which a driver may have read or not."""
    return json.loads(value) if isinstance(value, str) else value
