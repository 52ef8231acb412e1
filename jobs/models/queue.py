from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import models
from django.db.models import Q

from .legible import Legible, LegibleQuerySet


class QueueQuerySet(LegibleQuerySet["Queue"]):
    def active(self, now: datetime) -> QueueQuerySet:
        """Queues that are not paused, or whose pause is over."""
        return self.filter(Q(paused_at__isnull=True) | Q(paused_until__lte=now))

    def names(self, most: int) -> list[str]:
        """The first of them; a name that is no text, as it can be read."""
        return [queue.name for queue in self.only("name").order_by("name")[:most]]

    def ensure(self, names: Iterable[str], now: datetime) -> None:
        """Make the rows that do not exist yet. Two at once is no error."""
        wanted = set(names)
        self.make(wanted - set(self.filter(name__in=wanted).values_list("name", flat=True)), now)

    def make(self, names: Iterable[str], now: datetime) -> None:
        """Make rows that did not exist a moment ago."""
        if rows := [Queue(name=name, created_at=now) for name in sorted(names)]:
            self.bulk_create(rows, ignore_conflicts=True)


class Queue(Legible):
    """A lane. Its row appears when the name is first used, and carries pause and limits."""

    name = models.CharField(max_length=64, primary_key=True)
    created_at = models.DateTimeField()
    note = models.TextField(default="", blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_by = models.CharField(max_length=150, default="", blank=True)
    paused_reason = models.TextField(default="", blank=True)
    paused_until = models.DateTimeField(null=True, blank=True)

    objects = QueueQuerySet.as_manager()

    class Meta:
        permissions = (("operate_queue", "Can pause and resume queues"),)

    def __str__(self) -> str:
        return self.name

    def is_paused(self, now: datetime) -> bool:
        return self.paused_at is not None and (self.paused_until is None or self.paused_until > now)
