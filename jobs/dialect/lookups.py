"""Conditions of queries."""

from __future__ import annotations

from django.db import models

from .base import is_postgresql


def begins_with(field: str, prefix: str) -> models.Q:
    """A condition an index serves. SQLite's LIKE ignores case and therefore its index: a range."""
    if is_postgresql():
        return models.Q(**{f"{field}__startswith": prefix})
    return models.Q(**{f"{field}__gte": prefix, f"{field}__lt": f"{prefix}\U0010ffff"})
