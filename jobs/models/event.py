from __future__ import annotations

from django.db import models


class Event(models.Model):
    """Who changed what: one per change by a person, one per bulk operation. Append only."""

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

    class Meta:
        indexes = (models.Index(fields=["subject", "-id"], name="queuectl_event_subject"),)

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.subject}"
