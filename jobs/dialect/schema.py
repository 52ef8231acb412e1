"""Whether the tables are those of this version, and how they are made so."""

from __future__ import annotations

import pkgutil
import shlex
from importlib import import_module

from django.db import DEFAULT_DB_ALIAS
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from .base import alias, connection


def unapplied(app: str) -> list[str]:
    """Migrations of an app that are here and not in the database, in order; [] where it has none.

    Those that are only in the database are of a later version, which this one gets on with.
    """
    name, _ = MigrationLoader.migrations_module(app)
    if name is None:
        return []
    here = {module.name for module in pkgutil.iter_modules(import_module(name).__path__)}
    applied = MigrationRecorder(connection()).applied_migrations()
    return sorted(here - {migration for label, migration in applied if label == app})


def how_to_migrate() -> str:
    """What to run where the tables are missing or old; without an alias Django means `default`."""
    at = "" if alias() == DEFAULT_DB_ALIAS else f" --database {shlex.quote(alias())}"
    return f"run: python manage.py migrate{at}"
