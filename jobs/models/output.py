from __future__ import annotations

from enum import IntEnum

from django.db import models

from .legible import Legible, LegibleQuerySet


class Stream(IntEnum):
    STDOUT = 1
    STDERR = 2


class Output(Legible):
    """A chunk of what an attempt printed: bytes as they came, sanitised when shown.

    `offset` is the chunk's place in the stream; where it is more than what the chunks before it
    hold, the bytes between were not kept.
    """

    job = models.ForeignKey("Job", on_delete=models.CASCADE, related_name="output", db_index=False)
    attempt = models.PositiveIntegerField(help_text="number of the attempt")
    stream = models.PositiveSmallIntegerField(choices=[(s.value, s.name.lower()) for s in Stream])
    sequence = models.PositiveIntegerField()
    offset = models.BigIntegerField()
    data = models.BinaryField()

    objects = LegibleQuerySet["Output"].as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["job", "attempt", "stream", "sequence"], name="queuectl_output_sequence"
            ),
        )

    def __str__(self) -> str:
        return f"{Stream(self.stream).name.lower()} #{self.attempt}.{self.sequence}"
