"""Where the models are read and written: in the database that QUEUECTL names, and nowhere else."""

from __future__ import annotations

from typing import Any

from django.db import models, router

from . import conf


class QueueRouter:
    """Answers for this app alone. Its tables are made where they are used, elsewhere as the site says."""

    def __init__(self, app_label: str) -> None:
        self.app_label = app_label

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str | None:
        return conf.get().DATABASE if model._meta.app_label == self.app_label else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return True if app_label == self.app_label and db == conf.get().DATABASE else None


def install(app_label: str) -> None:
    """Have Django ask it before any router of the site, which may send all reads to a replica."""
    if not any(isinstance(each, QueueRouter) for each in router.routers):
        router.routers.insert(0, QueueRouter(app_label))
