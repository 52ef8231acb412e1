"""Chores of a worker: the jobs of workers that died, what they left, rows that are missing or no longer kept.

Any live worker rescues; there is no leader.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from .. import clock, conf, dialect, ledger, lockfile, validation
from ..lockfile import Lock
from ..models import Job, Queue, Worker

logger = logging.getLogger(__name__)

SET_SECONDS = 2.0
"""The database's clock was set if it and ours have gone on by amounts that differ by more."""

ROUND_SECONDS, AGAIN_SECONDS = 1.0, 0.1
"""Rescuing is left for heartbeats and reports after so long, and gone on with so much later."""

PRUNE_SECONDS, PRUNE_PAUSE_SECONDS = 60.0, 0.1

LOCK_FILE_SECONDS = 3600.0
"""A lock file that nobody has held for so long is removed, never before a lease is over. Far longer than
leases are: several sites may share the directory, and a file that is free tells the worker's own at once that
it is dead, for as long as nobody there has given it up.
"""


class Maintenance:
    """When which chore is due, by the monotonic clock; spread, so that workers do not march in step."""

    def __init__(self, worker_id: int) -> None:
        self.worker_id = worker_id
        self._rescue_at = clock.monotonic()
        self._prune_at = clock.monotonic() + PRUNE_SECONDS * random.random()
        self._sweeper = lockfile.Sweeper()
        self._ahead: float | None = None
        """The database's clock less the monotonic one, at the last look."""

        self._believe_at = clock.monotonic() + conf.get().LEASE_SECONDS
        """Not before: the clock may have been set just before our first look too."""

        self._heartbeats = Heartbeats()

    @property
    def due_at(self) -> float:
        return min(self._rescue_at, self._prune_at)

    def run(self, policy: conf.Policy) -> bool:
        """Do what is due; whether jobs have become claimable by it."""
        now = clock.monotonic()
        found = self._rescue(late=now - self._rescue_at) if now >= self._rescue_at else 0
        if now >= self._prune_at:
            self._prune(policy)
        return found > 0

    def _rescue(self, late: float) -> int:
        """A rescuer that was itself held up skips a round: so may have been those it would judge."""
        interval = conf.get().RESCUE_SECONDS
        self._rescue_at = clock.monotonic() + interval * random.uniform(0.8, 1.0)
        patience = max(LOCK_FILE_SECONDS, conf.get().LEASE_SECONDS)
        self._sweeper.sweep(clock.monotonic(), patience)
        if late > 2 * interval:
            return 0
        rescued, cut_short = rescue_all(
            self.worker_id, believes=self._believes_silence, heartbeats=self._heartbeats
        )
        if cut_short:
            self._rescue_at = min(self._rescue_at, clock.monotonic() + AGAIN_SECONDS)
        return rescued + open_queues()

    def _believes_silence(self, now: datetime, began: float) -> bool:
        """Whether `now`, read of the database since `began`, tells how long a worker has been silent.

        Not for a lease after the database's clock was set, which looks as if all had fallen silent
        at once; by then those that live have been heard again.
        """
        ahead = now.timestamp() - began
        before, self._ahead = self._ahead, ahead
        took = clock.monotonic() - began
        if before is not None and abs(ahead - before) > SET_SECONDS + took:
            logger.warning("the database's clock was set by %+.0f s", ahead - before)
            self._believe_at = began + conf.get().LEASE_SECONDS
        return began >= self._believe_at

    def _prune(self, policy: conf.Policy) -> None:
        """Delete a bite of what is no longer kept; the next soon, if there was that much."""
        # Set before: one that fails is not tried again at once, since it holds up all else.
        self._prune_at = clock.monotonic() + PRUNE_SECONDS
        if not policy.keep:
            return
        with dialect.turn() as now:
            pruned = ledger.prune(policy, now)
        if pruned >= ledger.PRUNE_BITE:
            self._prune_at = clock.monotonic() + PRUNE_PAUSE_SECONDS


class Heartbeats:
    """For how long, by our own clock, each of the others has shown the heartbeat that it shows.

    Who has shown another meanwhile lives, whatever was done to the database's clock. It may be set, and
    set again, between two looks of ours, and heartbeats are dated by what it said in between.
    """

    def __init__(self) -> None:
        self._shown: dict[int, tuple[datetime, float]] = {}

    def unchanged(self, workers: Iterable[Worker], now: float) -> dict[int, float]:
        """Take in what they show; for how many seconds each has shown that. 0 for one not seen before."""
        before, self._shown = self._shown, {}
        for worker in workers:
            shown, since = before.get(worker.id, (None, now))
            since = since if shown == worker.heartbeat_at else now
            self._shown[worker.id] = (worker.heartbeat_at, since)
        return {worker_id: now - since for worker_id, (_, since) in self._shown.items()}


def unchanged_seconds() -> float:
    """So long has a heartbeat to be the same: less than a lease by a round of ours, since we may have seen
    it that much later; never less than it takes until the next.
    """
    settings = conf.get()
    return max(settings.HEARTBEAT_SECONDS, settings.LEASE_SECONDS - settings.RESCUE_SECONDS)


Believes = Callable[[datetime, float], bool]


def rescue_all(
    me: int,
    *,
    believes: Believes = lambda now, began: True,
    heartbeats: Heartbeats | None = None,
) -> tuple[int, bool]:
    """Rescue every job of every dead worker, in bites of one transaction; returns how many, and whether
    it was cut short.

    It stops after `ROUND_SECONDS`: what it has not come to is found by the next round, in another
    order, since one that cannot be rescued now is not to be in the way of all others. Where the
    database's clock is not believed, or `heartbeats` tells of a new one, only those are rescued whose
    lock file tells that they are dead.
    """
    rescued, began = 0, clock.monotonic()
    with dialect.look() as now:
        others = list(Worker.objects.live().exclude(id=me))
    # The same reading of the clock is judged that is used: it may be set between two.
    believed = believes(now, began)
    unchanged = heartbeats.unchanged(others, began) if heartbeats else {}
    lease = timedelta(seconds=conf.get().LEASE_SECONDS)
    random.shuffle(others)
    for worker in others:
        stands = unchanged.get(worker.id, math.inf) >= unchanged_seconds()
        silent = believed and stands and worker.is_silent(now, lease)
        if lockfile.is_alive(worker.boot, worker.lock, silent=silent):
            continue
        free = worker.boot == lockfile.boot() and lockfile.look(worker.lock) is Lock.FREE
        why = "none of its processes is left" if free else "its heartbeat stopped"
        heard = worker.heartbeat_at if silent and not free else None
        rescued += rescue(worker.id, last_heard=heard, why=why, until=began + ROUND_SECONDS)
        if free:
            _remove_if_over(worker.lock)
        if clock.monotonic() >= began + ROUND_SECONDS:
            return rescued, True
    if not believed:
        return rescued, False
    with dialect.look():
        strays = list(Job.objects.stray(now, lease)[:1])
    if strays:
        with dialect.turn() as now:
            rescued += ledger.rescue_strays(now)
    return rescued, False


def succeed(predecessor: str) -> None:
    """Take the jobs of the ledger process that had this lock file, of which nothing is left."""
    with dialect.look():
        found = list(Worker.objects.filter(lock=predecessor))
    for worker in found:
        rescue(worker.id, last_heard=None, why="its ledger process died")
    _remove_if_over(predecessor)


def open_queues() -> int:
    """Make the rows of queues that only jobs know, which no worker would look into; of how many, and of how
    many jobs whose queue was put as bytes.
    """
    with dialect.look():
        in_bytes = dialect.queues_in_bytes(Job)
        names = ledger.queues_without_rows()
    if names:
        logger.warning("jobs wait in queues without a row, made now: %s", validation.shown(names))
    if names or in_bytes:
        with dialect.turn() as now:
            ledger.name_queues(in_bytes)
            Queue.objects.ensure([*names, *(name for _, name in in_bytes)], now)
    return len(names) + len(in_bytes)


def _remove_if_over(lock: str) -> None:
    """The file stays as long as a live row names it: by it the next rescuer sees at once who is dead."""
    with dialect.look():
        lives = Worker.objects.filter(lock=lock)
        is_over = lives.exists() and not lives.live().exists()
    if is_over:
        lockfile.remove(lock)


def rescue(
    worker_id: int, *, last_heard: datetime | None, why: str, until: float = math.inf
) -> int:
    """Take all jobs of one dead worker, those that there is time for, and close its row; returns how many."""
    rescued, taken = 0, 1
    while taken and (not rescued or clock.monotonic() < until):
        with dialect.turn() as now:
            taken = ledger.rescue(worker_id, last_heard=last_heard, now=now, why=why)
        rescued += taken
    return rescued
