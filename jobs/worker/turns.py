"""The turn of a ledger process: report, promote, claim, in one transaction."""

from __future__ import annotations

import selectors
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from .. import clock, conf, dialect, ledger
from ..exceptions import LeaseLost
from ..ledger import Room
from ..models import Setting, StopMode, Worker
from ..work import Work
from . import wakeup, wire
from .bite import Bite
from .hands import Hands
from .held import Held
from .maintenance import Maintenance
from .page import Page
from .unwritten import Unwritten, write_alone
from .wire import Channel, Closed

MARK_SECONDS = 0.25
"""A job claimed ahead that still runs after this is recorded as started."""

WATCH_SECONDS = 1.0
"""Requests to stop or cancel are looked for at least this often, whatever the poll interval."""

PASSED_OVER_SECONDS = 0.01
"""A turn that gets nothing of what a look saw found it locked by another worker's, which may leave
some of it. Twice that later it looks again, and after each such turn twice as late."""

MOST_AT_ONCE = 16
"""In more queues than this nothing is taken without a look: each is asked for its first job."""

WITHHELD_SECONDS = 0.1
"""What stands in rows that somebody else has locked is tried again after this."""


@dataclass(frozen=True, slots=True)
class Options:
    name: str
    host: str
    boot: str
    pid: int
    lock: str
    version: str
    queues: Sequence[str]
    runner_slots: Sequence[int]
    task_runners: int
    until_empty: bool
    predecessor: str
    """Lock file of the ledger before this one, whose jobs are rescued first; "" where there was none.

    Not the number of its row: in another database, restored or put in its place, that is somebody else's.
    """


class Turns:
    """What a worker and its rows do to each other."""

    def __init__(
        self, control: Channel, channels: Sequence[Channel], page: Page, options: Options
    ) -> None:
        self.control, self.options, self.settings = control, options, conf.get()
        self.page = page
        self.selector = selectors.DefaultSelector()
        self.selector.register(control, selectors.EVENT_READ, control)
        self.hands = Hands(
            channels, options.runner_slots, self.selector, page, options.task_runners, self.tell
        )
        self.hints = wakeup.Hints(self.selector)
        self.worker_id = 0
        self.file: tuple[int, int] | None = None
        """The database file in which we are a row."""

        self.maintenance: Maintenance | None = None
        self.policy = conf.policy({})
        self.draining, self.end = False, ""
        self.hinted = True
        self.uncertain = False
        """A transaction may have committed without our knowing: claims we never heard of may exist."""

        self.queues: list[str] = []
        """Where something may be taken at once; others are found by the next look."""

        self.careful = False
        """A lock of somebody else's stopped the last turn, or withheld some of what it had to write."""

        self.bite = Bite()
        self.look_at = self.beat_at = self.lease_ends = self.gather_until = self.retry_at = 0.0
        self.due_at: float | None = None
        self.passed_over = 0
        """Turns, one after the other, that got nothing of what had been seen."""

    # The turn

    def look_and_turn(self) -> None:
        """Take a turn if there is a reason. An idle worker only looks, and takes no write lock."""
        now = clock.monotonic()
        self.hands.recall_late(now)
        unrecorded = self.hands.unrecorded()
        reason = self.hands.unwritten or self.uncertain or now >= self.beat_at
        reason = reason or bool(unrecorded and now >= mark_at(unrecorded))
        due = self.due_at is not None and now >= self.due_at
        watching, seen = now >= self.look_at, False
        # A turn claims and promotes by itself: with another reason for one, there is no need to look.
        if not reason and (watching or self.hinted or due):
            watching = True
            seen = not (self.hinted and self.takes_at_once()) and self.sees_work(now)
        moved = (reason or seen) and self.turn()
        self.passed_over = self.passed_over + 1 if seen and not moved else 0
        if self.passed_over:
            self.due_at = clock.monotonic() + PASSED_OVER_SECONDS * 2 ** min(self.passed_over, 10)
        if watching:
            # After the turn: whoever has enqueued something waits for it to start.
            self.watch(now)
        if self.maintenance and now >= self.maintenance.due_at and not self.draining:
            self.hinted = self.maintenance.run(self.policy) or self.hinted

    def takes_at_once(self) -> bool:
        """Whether what a hint told of could be taken without a look: somebody waits for it to start."""
        works = None
        if not (self.hands or self.draining or self.careful):
            _, room = self.bite.of([], self.hands.room())
            works = ledger.claim_at_once(self.worker_id, self.queues, room, policy=self.policy)
        if works is None:
            return bool(self.hands.free()) and dialect.empty_turn_is_free() and self.turn()
        if clock.monotonic() >= self.beat_at:
            self.beat_or_give_back(works)
        self.hands.hand_out(works, clock.monotonic())
        return bool(works)

    def beat_or_give_back(self, works: list[Work]) -> None:
        """Who stood still meanwhile may have been declared dead: then what it took is as it was."""
        try:
            self.beat_alone()
        except LeaseLost:
            with dialect.turn() as now:
                ledger.release(works, now=now)
            raise

    def sees_work(self, now: float) -> bool:
        """Whether there is something to claim or to promote; if not, when there will be."""
        self.hinted, self.due_at = False, None
        room = self.hands.room()
        if self.draining or not room.any:
            return False
        with dialect.look() as moment:
            there = ledger.survey(self.options.queues, moment)
            self.queues = there.queues if len(there.queues) <= MOST_AT_ONCE else []
            if there.due or ledger.is_claimable(there.queues, room):
                return True
            due = ledger.next_due()
            self.due_at = None if due is None else now + max(0.0, (due - moment).total_seconds())
            idle = self.options.until_empty and not self.hands
            over = idle and ledger.is_empty(self.options.queues, moment)
        if over:
            self.drain(0.0, "the queue was empty")
        return False

    def watch(self, now: float) -> None:
        """Read what people ask of this worker and of the jobs it holds."""
        self.look_at = now + min(self.policy.worker_poll_interval, WATCH_SECONDS)
        self.hinted = self.hints.open() or self.hinted
        if dialect.file_identity() not in (self.file, None):
            # SQLite would go on with the one that was there, and nobody would ever see what we do.
            raise LeaseLost("another database file is in the place of the one it worked on")
        with dialect.look():
            row = Worker.objects.live().filter(id=self.worker_id, lock=self.options.lock).first()
            cancelled = ledger.cancel_requests(self.worker_id) if self.hands.held else set()
        if row is None:
            raise LeaseLost
        self.obey(row)
        self.hands.cancel(cancelled)

    def obey(self, row: Worker) -> None:
        """Do what a person asked of this worker through its row."""
        if row.stop_requested == StopMode.NOW and self.end != "interrupted":
            self.drain(0.0, "interrupted")
        elif row.stop_requested and not self.draining:
            self.drain(self.settings.GRACE_SECONDS, "stopped")

    def turn(self) -> bool:
        """One transaction, however many jobs; whether it moved any.

        What it wrote is let go only after the commit.
        """
        if (self.careful or self.bite.is_small) and clock.monotonic() >= self.beat_at:
            self.beat_alone()
        began = clock.monotonic()
        ended, room = self.bite.of(self.hands.ended, self.hands.room())
        whole = written = Unwritten(ended, list(self.hands.returned), self.hands.to_record())
        works: list[Work] = []
        promoted = 0
        with dialect.turn() as now:
            read_at = clock.monotonic()  # beside the database's time: a turn may wait to begin
            self.bite.begins(read_at)
            # Asked inside: who stood still before the transaction began may have been declared dead, and
            # after an outage the database may be another, in which our number is somebody else's.
            beat = self.uncertain or clock.monotonic() >= self.beat_at
            if beat:
                self.beat(now)
                ledger.release_unknown(self.worker_id, known=self.hands.leases(), now=now)
            if self.careful:
                written = whole.unlocked()
            written.write(self.worker_id, now, read_at)
            if not self.draining:
                works, promoted = self.claim(room, now, ahead=not written.returned)
        self.uncertain = False
        self.bite.went_through()
        for held in written.begun:
            held.recorded = True
        self.hands.written(written.ended, written.returned)
        if beat:
            # Before the works: a runner that was idle through an outage would take them for fenced.
            self.renewed(began)
        over = clock.monotonic()
        self.hands.hand_out(works, over, began=read_at)
        self.careful = written != whole
        if self.careful:
            self.retry_at = over + WITHHELD_SECONDS
        self.gather_until = over + self.hands.gather(over - began)
        # Only after progress: what a look sees and a claim may not take would keep us turning. A hint
        # that came before stays one, until somebody has looked: what is there may have been locked.
        moved = bool(works or written.ended or written.returned or promoted)
        self.hinted = self.hinted or moved
        return moved

    def claim(self, room: Room, now: datetime, *, ahead: bool) -> tuple[list[Work], int]:
        """Take what there is room for; how many were promoted for that, too.

        What came back unstarted is left for others a moment.
        """
        room = room if ahead else replace(room, ahead=0)
        if not room.any:
            return [], 0
        there = ledger.survey(self.options.queues, now)
        promoted = ledger.promote(now) if there.due else 0
        if promoted:
            # Where there are many queues, only those are named in which something was pending.
            there = ledger.survey(self.options.queues, now)
        queues, policy = there.queues, self.policy
        return ledger.claim(self.worker_id, queues, room, policy=policy, now=now), promoted

    def set_apart(self) -> None:
        """After a turn that failed on data: what can be neither stored nor read is put aside."""
        for held, outcome in list(self.hands.ended):
            write_alone(held, outcome, self.worker_id)
            self.hands.written([(held, outcome)], [])
        with dialect.turn() as now:
            ledger.bury_unreadable(now)

    # The lease

    def renewed(self, began: float) -> None:
        """A heartbeat that began then is committed: the runners may go on until it runs out."""
        self.lease_ends = began + self.settings.LEASE_SECONDS
        self.beat_at = began + self.settings.HEARTBEAT_SECONDS
        self.page.lease_ends = self.lease_ends
        self.hands.tell_all(wire.RENEW, self.lease_ends)

    def beat(self, now: datetime) -> None:
        """Renew the lease, and read what people have set since the last time. Raises LeaseLost."""
        lock, draining = self.options.lock, self.draining
        if not ledger.heartbeat(self.worker_id, lock, draining=draining, now=now):
            raise LeaseLost
        self.policy = Setting.objects.policy()

    def beat_alone(self) -> None:
        """In a transaction of its own: somebody's lock on the table of jobs must end nothing that runs."""
        began = clock.monotonic()
        with dialect.turn() as now:
            self.beat(now)
        self.renewed(began)

    # Orders

    def drain(self, grace: float, end: str) -> None:
        """Claim no more; runners give back what has not started and end the rest after `grace`."""
        self.draining, self.end = True, end
        self.tell(wire.STOPPING, grace)
        self.hands.tell_all(wire.DRAIN, grace)
        self.hands.drain_tasks()

    def tell(self, tag: str, *values: Any) -> None:
        with suppress(Closed):  # `hear_supervisor` finds the same, and drains
            self.control.send(tag, *values)


def mark_at(unrecorded: Sequence[Held]) -> float:
    return min(held.started or 0.0 for held in unrecorded) + MARK_SECONDS
