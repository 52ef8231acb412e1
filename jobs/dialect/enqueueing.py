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


def know(queues: type[models.Model], settings: type[models.Model], names: Sequence[str]) -> Known:
    """Ask for the time, the queues and the settings at once, and tell idle workers to look.

    One statement instead of four: with them an enqueue took twice as long as a bare INSERT.
    """
    queue_table, setting_table = queues._meta.db_table, settings._meta.db_table
    with connection().cursor() as cursor:
        if is_postgresql():
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
