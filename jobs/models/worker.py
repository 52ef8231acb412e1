from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from django.db import models

from .legible import Legible, LegibleQuerySet

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class StopMode(StrEnum):
    DRAIN = "drain"
    """Claim no more, let what runs finish within the grace period."""

    NOW = "now"
    """Claim no more, interrupt what runs."""


class WorkerQuerySet(LegibleQuerySet["Worker"]):
    def live(self) -> WorkerQuerySet:
        """Workers that have not stopped; some may have died without saying so."""
        return self.filter(stopped_at__isnull=True)

    def named(self, names: Sequence[str]) -> WorkerQuerySet:
        return self.filter(name__in=names) if names else self

    def silent(self, now: datetime, lease: timedelta) -> WorkerQuerySet:
        """Live workers whose leases have run out, see `Worker.is_silent`."""
        return self.live().exclude(heartbeat_at__range=(now - lease, now + lease))


class Worker(Legible):
    """One ledger process and its runners, from its start to its end. A new ledger is a new row."""

    name = models.CharField(max_length=128)
    host = models.CharField(max_length=255)
    boot = models.CharField(max_length=64, help_text="identifies one boot of one machine")
    pid = models.PositiveIntegerField(help_text="of the supervisor")
    lock = models.TextField(
        help_text="path of its lock file: free means that nothing of it is left"
    )
    slots = models.PositiveIntegerField()
    queues = models.JSONField(default=list, blank=True, help_text="empty: all")
    version = models.CharField(max_length=32)
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField(help_text="carries the leases of all its jobs")
    draining = models.BooleanField(default=False)
    stop_requested = models.CharField(
        max_length=8, default="", blank=True, choices=[(m.value, m.value) for m in StopMode]
    )
    stop_requested_by = models.CharField(max_length=150, default="", blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)
    end = models.TextField(default="", blank=True, help_text="how it ended")

    objects = WorkerQuerySet.as_manager()

    class Meta:
        permissions = (
            ("operate_worker", "Can stop workers"),
            ("start_worker", "Can start workers from the web"),
        )
        indexes = (
            models.Index(
                fields=["heartbeat_at"],
                condition=models.Q(stopped_at__isnull=True),
                name="queuectl_worker_live",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def is_silent(self, now: datetime, lease: timedelta) -> bool:
        """Whether its leases have run out.

        A heartbeat that is dated more than a lease ahead is of a clock that was set back since: who
        waited for that time to come again would leave a dead worker's jobs to it for as long.
        """
        return abs(now - self.heartbeat_at) > lease

    def settle(self) -> None:
        """A hand may have put what is no time, or no list: then it is silent, and serves what is there."""
        read = vars(self)
        if read.get("heartbeat_at", LONG_AGO) is None:
            self.heartbeat_at = LONG_AGO
        queues = read.get("queues", [])
        if not isinstance(queues, list) or not all(isinstance(name, str) for name in queues):
            self.queues = [str(name) for name in (queues if isinstance(queues, list) else [queues])]
