"""Chores of a worker: the jobs of workers that died, what they left, and rows no longer kept.

Any live worker rescues; there is no leader.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from .. import clock, conf, dialect, ledger, lockfile
from ..lockfile import Lock
from ..models import Job, Worker

PRUNE_SECONDS, PRUNE_PAUSE_SECONDS = 60.0, 0.1


class Maintenance:
    """When which chore is due, by the monotonic clock; spread, so that workers do not march in step."""

    def __init__(self, worker_id: int) -> None:
        self.worker_id = worker_id
        self._rescue_at = clock.monotonic()
        self._prune_at = clock.monotonic() + PRUNE_SECONDS * random.random()
        self._sweeper = lockfile.Sweeper()

    @property
    def due_at(self) -> float:
        return min(self._rescue_at, self._prune_at)

    def run(self, policy: conf.Policy) -> bool:
        """Do what is due; whether jobs have become claimable by it."""
        now = clock.monotonic()
        rescued = self._rescue(late=now - self._rescue_at) if now >= self._rescue_at else 0
        if now >= self._prune_at:
            self._prune(policy)
        return rescued > 0

    def _rescue(self, late: float) -> int:
        """A rescuer that was itself held up skips a round: so may have been those it would judge."""
        interval = conf.get().RESCUE_SECONDS
        self._rescue_at = clock.monotonic() + interval * random.uniform(0.8, 1.0)
        self._sweeper.sweep(clock.monotonic(), conf.get().LEASE_SECONDS)
        return rescue_all(self.worker_id) if late <= 2 * interval else 0

    def _prune(self, policy: conf.Policy) -> None:
        """Delete a bite of what is no longer kept; the next soon, if there was that much."""
        pruned = 0
        if policy.keep:
            with dialect.turn() as now:
                pruned = ledger.prune(policy, now)
        more = pruned >= ledger.PRUNE_BITE
        self._prune_at = clock.monotonic() + (PRUNE_PAUSE_SECONDS if more else PRUNE_SECONDS)


def rescue_all(me: int) -> int:
    """Rescue every job of every dead worker, in bites of one transaction; returns how many."""
    rescued = 0
    cutoff = dialect.now() - timedelta(seconds=conf.get().LEASE_SECONDS)
    for worker in Worker.objects.live().exclude(id=me):
        silent = worker.heartbeat_at < cutoff
        if lockfile.is_alive(worker.boot, worker.lock, silent=silent):
            continue
        free = worker.boot == lockfile.boot() and lockfile.look(worker.lock) is Lock.FREE
        why = "none of its processes is left" if free else "its heartbeat stopped"
        rescued += rescue(worker.id, silent_since=cutoff if silent and not free else None, why=why)
        if free:
            lockfile.remove(worker.lock)
    if Job.objects.stray(cutoff).order_by("id")[:1]:
        with dialect.turn() as now:
            rescued += ledger.rescue_strays(now)
    return rescued


def succeed(predecessor: int) -> None:
    """Take the jobs of the ledger process before this one, of which nothing is left."""
    rescue(predecessor, silent_since=None, why="its ledger process died")
    for worker in Worker.objects.filter(id=predecessor, stopped_at__isnull=False):
        lockfile.remove(worker.lock)


def rescue(worker_id: int, *, silent_since: datetime | None, why: str) -> int:
    """Take all jobs of one dead worker and close its row; returns how many there were."""
    rescued = 0
    while True:
        with dialect.turn() as now:
            taken = ledger.rescue(worker_id, silent_since=silent_since, now=now, why=why)
        if not taken:
            return rescued
        rescued += taken
