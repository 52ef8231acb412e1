"""Where the models are read and written: in the database that QUEUECTL names, and nowhere else."""

from __future__ import annotations

from typing import Any

from django.db import models, router
from django.db.utils import ConnectionRouter

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


class Routers(ConnectionRouter):
    """Django's list of routers, with ours first whoever sets it.

    Django makes it anew when a test of the site overrides DATABASE_ROUTERS. A receiver of that signal
    could not put it right: Django's own is connected when `django.test` is imported, which is later.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "routers":
            ours = [each for each in self.routers if isinstance(each, QueueRouter)]
            value = [*ours, *(each for each in value if each not in ours)]
        super().__setattr__(name, value)


def install(app_label: str) -> None:
    """Have Django ask it before any router of the site, which may send all reads to a replica."""
    if not isinstance(router, Routers):
        router.routers.insert(0, QueueRouter(app_label))
        router.__class__ = Routers
