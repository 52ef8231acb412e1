from __future__ import annotations

from datetime import datetime
from typing import cast

from django.db import models
from django.db.models import Q

from ..outcome import Kind
from .legible import Legible, LegibleQuerySet

CHOICES = [(kind.value, kind.value.replace("_", " ")) for kind in Kind]


class Attempt(Legible):
    """One run of a job, written when it has ended. Numbers go on for the job's life."""

    job = models.ForeignKey("Job", on_delete=models.CASCADE, related_name="history", db_index=False)
    number = models.PositiveIntegerField()
    # No constraint and no index: nothing looks attempts up by worker, and each would cost every report.
    worker = models.ForeignKey(
        "Worker",
        null=True,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    outcome = models.CharField(max_length=12, choices=CHOICES)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField()
    exit_code = models.IntegerField(null=True)
    signal = models.IntegerField(null=True)
    cpu_seconds = models.FloatField(null=True)
    peak_memory_bytes = models.BigIntegerField(null=True)
    stdout_bytes = models.BigIntegerField(
        default=0, help_text="written by the command, kept or not"
    )
    stderr_bytes = models.BigIntegerField(
        default=0, help_text="written by the command, kept or not"
    )
    error = models.TextField(default="")
    traceback = models.TextField(default="")

    objects = LegibleQuerySet["Attempt"].as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["job", "number"], name="queuectl_attempt_number"),
            models.CheckConstraint(
                condition=Q(outcome__in=[kind.value for kind in Kind]),
                name="queuectl_attempt_outcome",
            ),
        )

    def __str__(self) -> str:
        return f"#{self.number} {self.outcome}"

    @property
    def seconds(self) -> float | None:
        """How long it ran; None if it never started, or a hand has put what is no time."""
        began, ended = self.started_at, cast(datetime | None, self.finished_at)
        if began is None or ended is None:
            return None
        return max(0.0, (ended - began).total_seconds())
