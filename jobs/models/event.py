from __future__ import annotations

from typing import Any, NoReturn

from django.db import models

from .legible import Legible, LegibleQuerySet


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise TypeError("Events are only added, never changed or deleted")


class EventQuerySet(LegibleQuerySet["Event"]):
    """Rows to read: what would change or delete them raises TypeError."""

    update = bulk_update = update_or_create = delete = _refuse


class Event(Legible):
    """Who changed what, and who was refused what: one per change by a person, one per bulk operation.

    Append only.
    """

    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    via = models.CharField(max_length=16, help_text="cli, admin, web, api or python")
    action = models.CharField(max_length=32)
    subject = models.CharField(
        max_length=160, help_text="kind and name, or how many of a bulk operation"
    )
    before = models.TextField(default="", blank=True)
    after = models.TextField(default="", blank=True)
    note = models.TextField(default="", blank=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        indexes = (models.Index(fields=["subject", "-id"], name="queuectl_event_subject"),)

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.subject}"

    def save(self, **options: Any) -> None:
        if not self._state.adding:
            _refuse()
        super().save(**options)

    delete = _refuse
