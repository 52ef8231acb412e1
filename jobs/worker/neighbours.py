"""Looking after the jobs of workers that died. Any live worker does; there is no leader."""

from __future__ import annotations

from datetime import datetime, timedelta

from .. import conf, dialect, ledger, lockfile
from ..lockfile import Lock
from ..models import Worker


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
    return rescued


def rescue(worker_id: int, *, silent_since: datetime | None, why: str) -> int:
    """Take all jobs of one dead worker and close its row; returns how many there were."""
    rescued = 0
    while True:
        with dialect.turn() as now:
            taken = ledger.rescue(worker_id, silent_since=silent_since, now=now, why=why)
        if not taken:
            return rescued
        rescued += taken
