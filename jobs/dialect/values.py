"""Values as the driver gives them, which is cheaper than as Django does."""

from __future__ import annotations

import json
from datetime import datetime, tzinfo
from typing import Any

from .base import connection


def zone() -> tzinfo:
    """Of the times that the driver gives. To be asked once for many: 5 us."""
    found: tzinfo = connection().timezone
    return found


def as_time(value: Any, zone: tzinfo) -> datetime | None:
    """A time as the driver gave it."""
    if value is None or (isinstance(value, datetime) and value.tzinfo):
        return value
    naive = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return naive.replace(tzinfo=zone)


def as_seconds(value: Any, zone: tzinfo) -> float | None:
    """A time as the driver gave it, in seconds since 1970."""
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
