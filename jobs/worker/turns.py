"""The ledger process: the only one of a worker that talks to the database about jobs.

It waits, takes a turn (report, promote, claim, in one transaction), passes works to the
runners, and waits again. It may block in a database call as long as the bounds in `dialect`
allow: runners go on reading pipes and enforcing timeouts meanwhile.
"""

from __future__ import annotations

import logging
import math
import random
import selectors
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from .. import clock, conf, dialect, ledger, lockfile
from ..exceptions import LeaseLost, WorkerRefused
from ..execution import processes
from ..ledger import Report
from ..models import Setting, StopMode, Worker
from ..outcome import Captured, Kind, Outcome
from ..work import Work
from . import maintenance, wakeup, wire
from .hands import Hands
from .held import Held
from .maintenance import Maintenance
from .page import Page, sign_seconds
from .wire import Channel, Closed

logger = logging.getLogger(__name__)

DONE, REFUSED, LOST = 0, 3, 4
"""Exit codes of a ledger process: ended as asked; cannot start here; declared dead by another."""

MARK_SECONDS = 0.25
"""A job claimed ahead that still runs after this is recorded as started."""

WATCH_SECONDS = 1.0
"""Requests to stop or cancel are looked for at least this often, whatever the poll interval."""

PASSED_OVER_SECONDS = 0.01
"""A turn that gets nothing of what a look saw found it locked by another worker's, which may leave
some of it. Twice that later it looks again, and after each such turn twice as late."""

LONGEST_BACK_OFF = 30.0
ORPHANED = "its supervisor died"


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


def main(
    control: socket.socket, runners: Sequence[socket.socket], page: Page, options: Options
) -> int:
    """The whole life of a ledger process; returns its exit code."""
    dialect.bound_waits()
    process = LedgerProcess(Channel(control), [Channel(sock) for sock in runners], page, options)
    try:
        return process.run()
    except WorkerRefused as refusal:
        process.tell(wire.REFUSED, str(refusal), refusal.hint)
        lockfile.remove(options.lock)
        return REFUSED
    except LeaseLost as why:
        lockfile.remove(options.lock)
        logger.error("worker %s starts anew: %s", options.name, why)
        return LOST


class LedgerProcess:
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

        self.failures = 0
        self.retry_at = self.look_at = self.beat_at = self.pulse_at = self.lease_ends = 0.0
        self.gather_until = 0.0
        self.leave_by = math.inf
        """When to give up what cannot be written: nobody looks after an orphan, and its lease is over."""

        self.due_at: float | None = None
        self.passed_over = 0
        """Turns, one after the other, that got nothing of what had been seen."""

    def run(self) -> int:
        while not self.worker_id and not self.draining:
            self.attempt(self.register)
            self.wait()
        while self.worker_id and not (self.draining and not self.hands):
            if clock.monotonic() >= self.leave_by:
                logger.error("the database did not answer for a lease after %s: left", ORPHANED)
                break
            self.wait()
            if clock.monotonic() >= self.retry_at:
                self.attempt(self.look_and_turn)
        self.attempt(self.close)
        return DONE

    # Beginning and end

    def register(self) -> None:
        """Become a row; first the jobs of the ledger process we replace are rescued."""
        if clock.monotonic() < self.retry_at:
            return
        o = self.options
        if o.predecessor:
            # It has worked before: for whatever is going on it waits, like for an outage.
            maintenance.succeed(o.predecessor)
        else:
            _refuse_other_tables()
            _warn_of_weaknesses()
        began = clock.monotonic()
        with dialect.turn() as now:
            worker = ledger.register(
                Worker(
                    name=o.name, host=o.host, boot=o.boot, pid=o.pid, lock=o.lock, version=o.version,
                    slots=sum(o.runner_slots), queues=list(o.queues), started_at=now, heartbeat_at=now,
                )
            )  # fmt: skip
            self.policy = Setting.objects.policy()
        self.worker_id, self.file = worker.id, dialect.file_identity()
        self.maintenance = Maintenance(worker.id)
        self.renewed(began)
        self.tell(wire.READY, worker.id)

    def close(self) -> None:
        if self.worker_id:
            with dialect.turn() as now:
                ledger.close(self.worker_id, end=self.end, now=now)
        # No row needs it any more, to be rescued at once.
        lockfile.remove(self.options.lock)
        dialect.close()

    def drain(self, grace: float, end: str) -> None:
        """Claim no more; runners give back what has not started and end the rest after `grace`."""
        self.draining, self.end = True, end
        self.tell(wire.STOPPING, grace)
        self.hands.tell_all(wire.DRAIN, grace)
        self.hands.drain_tasks()

    # Waiting

    def wait(self) -> None:
        self.pulse()
        woken = False
        if (gathering := self.gather_until - clock.monotonic()) > 0 and not self.draining:
            # Not in the selector: there every single outcome would wake us.
            clock.pause(gathering)
        for key, mask in self.selector.select(self.patience()):
            if key.data is self.control:
                self.hear_supervisor()
            elif key.data is self.hints:
                woken = True
            else:
                alive = self.hands.hear(key.data, mask)
                if not alive and self.end == ORPHANED:
                    self.hands.lose(key.data)
        self.hinted = self.hints.hear(readable=woken) or self.hinted

    def patience(self) -> float:
        now = clock.monotonic()
        moments = [self.look_at, self.beat_at]
        if self.maintenance and not self.draining:
            moments.append(self.maintenance.due_at)
        if not self.draining and self.hands.room().any:
            moments += [now] if self.hinted else []
            moments += [self.due_at] if self.due_at is not None else []
        if unrecorded := self.hands.unrecorded():
            moments.append(_mark_at(unrecorded))
        if self.hands.waits():
            moments.append(self.hands.late_at)
        if self.hands.unwritten:
            moments.append(now)
        earliest = min(max(min(moments), self.retry_at), self.pulse_at)
        if (patience := self.hints.patience()) is not None:
            earliest = min(earliest, now + patience)
        return max(0.0, earliest - now)

    def hear_supervisor(self) -> None:
        try:
            frames = self.control.receive()
        except Closed:
            self.selector.unregister(self.control)
            # The task runners died with the supervisor, and nobody is left to adopt what they started.
            while processes.kill_marked(self.options.lock):
                clock.pause(0.005)
            self.leave_by = clock.monotonic() + self.settings.LEASE_SECONDS
            return self.drain(0.0, ORPHANED)
        for tag, *values in frames:
            match tag:
                case wire.STOP:
                    self.drain(values[0], "stopped" if values[0] else "interrupted")
                case wire.REPLACED:
                    self.hands.replace(values[0], self.control.passed.pop(0))
                    self.hands.send(values[0], wire.RENEW, self.lease_ends)
                case wire.TASK_RUNNER:
                    self.hands.welcome(values[0], self.control.passed.pop(0))
                case wire.TASK_RUNNER_GONE:
                    self.hands.bid_farewell(*values)

    # The turn

    def look_and_turn(self) -> None:
        """Take a turn if there is a reason. An idle worker only looks, and takes no write lock."""
        now = clock.monotonic()
        self.hands.recall_late(now)
        unrecorded = self.hands.unrecorded()
        reason = self.hands.unwritten or self.uncertain or now >= self.beat_at
        reason = reason or bool(unrecorded and now >= _mark_at(unrecorded))
        due = self.due_at is not None and now >= self.due_at
        watching, seen = now >= self.look_at, False
        # A turn claims and promotes by itself: with another reason for one, there is no need to look.
        if not reason and (watching or self.hinted or due):
            watching = True
            at_once = self.hinted and dialect.empty_turn_is_free() and self.hands.free()
            seen = not (at_once and self.turn()) and self.sees_work(now)
        moved = (reason or seen) and self.turn()
        self.passed_over = self.passed_over + 1 if seen and not moved else 0
        if self.passed_over:
            self.due_at = now + PASSED_OVER_SECONDS * 2 ** min(self.passed_over, 10)
        if watching:
            # After the turn: whoever has enqueued something waits for it to start.
            self.watch(now)
        if self.maintenance and now >= self.maintenance.due_at and not self.draining:
            self.hinted = self.maintenance.run(self.policy) or self.hinted
        self.failures = 0

    def sees_work(self, now: float) -> bool:
        """Whether there is something to claim or to promote; if not, when there will be."""
        self.hinted, self.due_at = False, None
        room = self.hands.room()
        if self.draining or not room.any:
            return False
        with dialect.look() as moment:
            there = ledger.survey(self.options.queues, moment)
            if there.due or ledger.is_claimable(there.queues, room):
                return True
            due = ledger.next_due()
            self.due_at = None if due is None else now + max(0.0, (due - moment).total_seconds())
            idle = self.options.until_empty and not self.hands
            over = idle and ledger.is_empty(self.options.queues)
        if over:
            self.drain(0.0, "the queue was empty")
        return False

    def watch(self, now: float) -> None:
        """Read what people ask of this worker and of the jobs it holds."""
        self.look_at = now + min(self.policy.worker_poll_interval, WATCH_SECONDS)
        if dialect.file_identity() not in (self.file, None):
            # SQLite would go on with the one that was there, and nobody would ever see what we do.
            raise LeaseLost("another database file is in the place of the one it worked on")
        with dialect.look():
            row = Worker.objects.live().filter(id=self.worker_id).first()
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
        began = clock.monotonic()
        ended, returned, begun = (
            list(self.hands.ended),
            list(self.hands.returned),
            self.hands.unrecorded(),
        )
        works: list[Work] = []
        with dialect.turn() as now:
            # Asked inside: who stood still before the transaction began may have been declared dead.
            beat = clock.monotonic() >= self.beat_at
            if beat and not ledger.heartbeat(self.worker_id, draining=self.draining, now=now):
                raise LeaseLost
            if beat:
                self.policy = Setting.objects.policy()
            if self.uncertain or beat:
                ledger.release_unknown(self.worker_id, known=self.hands.leases(), now=now)
            reports = [_report(held, outcome, now, began) for held, outcome in ended]
            ledger.report(reports, worker_id=self.worker_id, now=now)
            for suspect in (False, True):
                works_back = [held.work for held in returned if held.suspect is suspect]
                ledger.release(works_back, now=now, in_doubt=suspect)
            ledger.distrust([h.work for h in [*returned, *(h for h, _ in ended)] if h.suspect])
            ledger.mark_started([(h.work, _moment(h.started, now, began)) for h in begun], now)
            if not self.draining:
                works = self.claim(now, ahead=not returned)
        self.uncertain = False
        for held in begun:
            held.recorded = True
        self.hands.written(ended, returned)
        if beat:
            # Before the works: a runner that was idle through an outage would take them for fenced.
            self.renewed(began)
        self.hands.hand_out(works, began)
        over = clock.monotonic()
        self.gather_until = over + self.hands.gather(over - began)
        # Only after progress: what a look sees and a claim may not take would keep us turning. A hint
        # that came before stays one, until somebody has looked: what is there may have been locked.
        moved = bool(works or ended or returned)
        self.hinted = self.hinted or moved
        return moved

    def claim(self, now: datetime, *, ahead: bool) -> list[Work]:
        """Take what there is room for. What came back unstarted is left for others a moment."""
        room = self.hands.room() if ahead else replace(self.hands.room(), ahead=0)
        if not room.any:
            return []
        there = ledger.survey(self.options.queues, now)
        if there.due and ledger.promote(now):
            # Where there are many queues, only those are named in which something was pending.
            there = ledger.survey(self.options.queues, now)
        return ledger.claim(self.worker_id, there.queues, room, policy=self.policy, now=now)

    def set_apart(self) -> None:
        """After a turn that failed on data: what can be neither stored nor read is put aside."""
        self.report_singly()
        with dialect.turn() as now:
            ledger.bury_unreadable(now)

    def report_singly(self) -> None:
        """Each outcome alone, at worst without its output."""
        for held, outcome in list(self.hands.ended):
            bare = outcome._replace(
                stdout=Captured(), stderr=Captured(), error=ascii(outcome.error)
            )
            for version in (outcome, bare):
                began = clock.monotonic()
                try:
                    with dialect.turn() as now:
                        report = _report(held, version, now, began)
                        ledger.report([report], worker_id=self.worker_id, now=now)
                    break
                except Exception as error:
                    if not dialect.is_bad_data(error):
                        raise
                    logger.error(
                        "%s #%d cannot be stored: %s", held.work.key, held.work.number, error
                    )
            self.hands.written([(held, outcome)], [])

    # The lease

    def renewed(self, began: float) -> None:
        """A heartbeat that began then is committed: the runners may go on until it runs out."""
        self.lease_ends = began + self.settings.LEASE_SECONDS
        self.beat_at = began + self.settings.HEARTBEAT_SECONDS
        self.page.lease_ends = self.lease_ends
        self.hands.tell_all(wire.RENEW, self.lease_ends)
        self.hints.open()

    def pulse(self) -> None:
        """Tell the supervisor that this process moves.

        Where the lock file is the lease, that is also all the runners need to hear: there a
        database that does not answer does not make anybody else run their jobs.
        """
        now = clock.monotonic()
        if now < self.pulse_at:
            return
        self.pulse_at = now + sign_seconds(self.settings.LEASE_SECONDS)
        self.tell(wire.PULSE)
        if dialect.workers_share_a_host():
            self.page.lease_ends = self.lease_ends = now + self.settings.LEASE_SECONDS
            self.hands.tell_all(wire.RENEW, self.lease_ends)

    # Trouble with the database

    def attempt(self, step: Callable[[], None]) -> None:
        """Do one step with the database. On trouble everything is kept, and tried again later."""
        try:
            step()
        except (LeaseLost, WorkerRefused):
            raise
        except Exception as error:
            self.uncertain = True
            if dialect.is_not_migrated(error) and not self.worker_id:
                raise WorkerRefused(
                    "The database is not ready: its tables are missing, or not those of this version",
                    hint="run: python manage.py migrate",
                ) from None
            if dialect.is_bad_data(error) and step != self.set_apart:
                logger.exception("a turn failed on data; setting apart what it failed on")
                had_reports = bool(self.hands.ended)
                self.attempt(self.set_apart)
                if not had_reports:
                    self.back_off(error)
            elif dialect.is_trouble(error):
                self.back_off(error)
            else:
                raise

    def back_off(self, error: Exception) -> None:
        self.failures += 1
        delay = min(LONGEST_BACK_OFF, 0.05 * 2 ** min(self.failures, 10)) * random.uniform(0.5, 1.0)
        self.retry_at = clock.monotonic() + delay
        if self.failures in (3, 10) or self.failures % 50 == 0:
            logger.warning("the database does not answer, trying again: %s", str(error).strip())
        if dialect.is_disk_full(error):
            # The last connection that closes takes SQLite's mapped index with it. A new one, written
            # to where there is no room for it, would be a SIGBUS on file systems with small blocks.
            return
        self.hints.close()
        dialect.close()

    # Plumbing

    def tell(self, tag: str, *values: Any) -> None:
        with suppress(Closed):  # `hear_supervisor` finds the same, and drains
            self.control.send(tag, *values)


def _refuse_other_tables() -> None:
    """Raises WorkerRefused where the tables are not those of this version."""
    with dialect.look():
        missing = dialect.unapplied(Worker._meta.app_label)
    if missing:
        raise WorkerRefused(
            "The database is not ready: its tables are missing, or not those of this version"
            f" (migrations not applied: {', '.join(missing)})",
            hint="run: python manage.py migrate",
        )


def _warn_of_weaknesses() -> None:
    """Not the supervisor: with a connection of its own it could not fork."""
    with dialect.look():
        found = dialect.weaknesses()
    for weakness in found:
        logger.warning("%s", weakness)


def _report(held: Held, outcome: Outcome, now: datetime, began: float) -> Report:
    started = None if outcome.kind is Kind.NOT_STARTED else outcome.started or held.started
    return Report(
        held.work,
        outcome,
        None if started is None else _moment(started, now, began),
        _moment(outcome.ended or began, now, began),
    )


def _moment(then: float | None, now: datetime, monotonic: float) -> datetime:
    """A reading of the monotonic clock as a time of the database."""
    return now if then is None else now - timedelta(seconds=monotonic - then)


def _mark_at(unrecorded: Sequence[Held]) -> float:
    return min(held.started or 0.0 for held in unrecorded) + MARK_SECONDS
