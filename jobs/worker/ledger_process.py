"""The ledger process: the only one of a worker that talks to the database about jobs.

It waits, takes a turn, passes works to the runners, and waits again. It may block in a database
call as long as the bounds in `dialect` allow: runners go on reading pipes and enforcing timeouts
meanwhile.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import random
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from .. import clock, dialect, ledger, lockfile
from ..exceptions import LeaseLost, WorkerRefused
from ..execution import forks, processes
from ..models import Setting, Worker
from . import maintenance, readiness, wire
from .crew import LEFTOVER_SECONDS, kill_if
from .maintenance import Maintenance
from .page import Page, sign_seconds
from .silence import Silence
from .turns import Options, Turns, mark_at
from .wire import Channel, Closed

logger = logging.getLogger(__name__)

DONE, REFUSED, LOST = 0, 3, 4
"""Exit codes of a ledger process: ended as asked; cannot start here; declared dead by another."""

LONGEST_BACK_OFF, HOLDING_BACK_OFF = 5.0, 1.0
"""Seconds between two tries while the database is away; the second with jobs in hand, whose lease runs."""

CLOSE_SECONDS = 2.0
"""How long a worker that has nothing left to do tries to close its row."""

SELECTOR_SECONDS = 0.001
"""A selector rounds up to these: of a wait that is shorter a job would wait for the rest."""

ORPHANED = "its supervisor died"
SUPERVISOR = "supervisor"
SUPERVISOR_LEASES = 2
"""For so many a supervisor may say nothing. Who stands still for less than one is to cost nobody a job."""


def main(
    control: socket.socket, runners: Sequence[socket.socket], page: Page, options: Options
) -> int:
    """The whole life of a ledger process; returns its exit code."""
    dialect.bound_waits()
    options = replace(options, task_runners=readiness.affordable(options.task_runners))
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


class LedgerProcess(Turns):
    """Waits for what may be a reason for a turn, and for the database when that is away."""

    def __init__(
        self, control: Channel, channels: Sequence[Channel], page: Page, options: Options
    ) -> None:
        super().__init__(control, channels, page, options)
        self.failures = 0
        self.pulse_at = 0.0
        self.closed = False
        self.silence = Silence(clock.monotonic())
        self.silence.heard(SUPERVISOR)
        self.leave_by = math.inf
        """When to give up what is still in hand: nobody looks after an orphan, and its lease is over."""

    @property
    def is_orphan(self) -> bool:
        return self.leave_by < math.inf

    def run(self) -> int:
        while not self.worker_id and not self.draining:
            self.attempt(self.register)
            self.wait()
        while self.worker_id and not (self.draining and not self.hands):
            if clock.monotonic() >= self.leave_by:
                self.end_remains(self.hands.held)
                count = len(self.hands.leases())
                logger.error("a lease after %s it leaves %d jobs to others", ORPHANED, count)
                break
            self.wait()
            if clock.monotonic() >= self.retry_at:
                self.attempt(self.go_on)
        self.leave()
        return DONE

    def go_on(self) -> None:
        """Look and turn. Where that was done the database answers."""
        self.look_and_turn()
        if self.failures:
            # The cursor of a failed statement and its traceback hold each other, and the descriptors
            # of a connection that was closed with it.
            gc.collect()
        self.failures = 0

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
            readiness.refuse_other_tables()
            readiness.warn_of_weaknesses()
        began = clock.monotonic()
        with dialect.turn() as now:
            worker = ledger.register(
                Worker(
                    name=o.name, host=o.host, boot=o.boot, pid=o.pid, lock=o.lock, version=o.version,
                    slots=sum(o.runner_slots), queues=list(o.queues), started_at=now, heartbeat_at=now,
                ),
                o.predecessor,
            )  # fmt: skip
            self.policy = Setting.objects.policy()
        self.worker_id, self.file = worker.id, dialect.file_identity()
        self.maintenance = Maintenance(worker.id)
        self.renewed(began)
        self.tell(wire.READY, worker.id)
        self.obey(worker)

    def leave(self) -> None:
        """Close our row, by a few tries if need be: open it looks like that of a worker that was killed."""
        until = clock.monotonic() + CLOSE_SECONDS
        self.attempt(self.close)
        while not self.closed and max(self.retry_at, clock.monotonic()) < until:
            clock.pause(max(0.0, self.retry_at - clock.monotonic()))
            self.attempt(self.close)

    def close(self) -> None:
        if self.worker_id:
            with dialect.turn() as now:
                lock = self.options.lock
                if self.uncertain and ledger.heartbeat(
                    self.worker_id, lock, draining=True, now=now
                ):
                    # What an orphan leaves to others may have started.
                    ledger.release_unknown(self.worker_id, known=self.hands.leases(), now=now)
                ledger.close(self.worker_id, lock, end=self.end, now=now)
        self.closed = True
        # No row needs it any more, to be rescued at once.
        lockfile.remove(self.options.lock)
        dialect.close()

    # Waiting

    def wait(self) -> None:
        self.pulse()
        self.look_after_supervisor()
        woken = False
        if (gathering := self.gather_until - clock.monotonic()) > 0 and not self.draining:
            # Not in the selector: there every single outcome would wake us.
            clock.pause(gathering)
        patience = self.patience()
        if 0 < patience < SELECTOR_SECONDS and not self.hands:
            clock.pause(patience)
            patience = 0.0
        for key, mask in self.selector.select(patience):
            if key.data is self.control:
                self.hear_supervisor()
            elif key.data is self.hints:
                woken = True
            else:
                alive = self.hands.hear(key.data, mask)
                if not alive and self.is_orphan:
                    self.give_up([key.data])
        self.hinted = self.hints.hear(readable=woken) or self.hinted

    def patience(self) -> float:
        now = clock.monotonic()
        moments = [self.look_at, self.beat_at]
        if self.maintenance and not self.draining:
            moments.append(self.maintenance.due_at)
        if not self.draining and self.hands.has_room():
            moments += [now] if self.hinted else []
            moments += [self.due_at] if self.due_at is not None else []
        if unrecorded := self.hands.unrecorded():
            moments.append(mark_at(unrecorded))
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
            self.leave_by = clock.monotonic() + self.settings.LEASE_SECONDS
            self.drain(0.0, ORPHANED)
            return self.give_up(self.hands.gone())
        for tag, *values in frames:
            match tag:
                case wire.STOP:
                    self.drain(values[0], "stopped" if values[0] else "interrupted")
                case wire.RUNNER_GONE:
                    self.hands.bury(values[0])
                case wire.REPLACED:
                    self.hinted = True  # one that came while there was no room has been spent
                    if (fd := self.take_passed()) is not None:
                        self.hands.replace(values[0], fd)
                        self.hands.send(values[0], wire.RENEW, self.lease_ends)
                case wire.TASK_RUNNER:
                    if (fd := self.take_passed()) is not None:
                        self.hands.welcome(values[0], fd)
                case wire.TASK_RUNNER_GONE:
                    self.hands.bid_farewell(*values)

    def take_passed(self) -> int | None:
        """The end of a runner's socket. None where we cannot have it open: the runner, whose other end is
        closed by that, leaves, of which the supervisor tells us.
        """
        fd = self.control.passed.pop(0)
        if fd is None:
            logger.error("no descriptor for a runner: raise the limit of open files")
        return fd

    def look_after_supervisor(self) -> None:
        """Kill a supervisor that hangs, which makes us leave: nobody ends what runs too long, nor replaces
        who dies. One that cannot be killed, as process 1 from within, may go on.
        """
        self.silence.passes(clock.monotonic())
        if sign := self.page.supervisor.last:  # one of an earlier version gives none
            self.silence.saw(SUPERVISOR, sign)
        patience = SUPERVISOR_LEASES * self.settings.LEASE_SECONDS
        if not sign or self.silence.of(SUPERVISOR) <= patience or self.is_orphan:
            return
        self.silence.heard(SUPERVISOR)
        ours = os.getppid() == self.options.pid
        if ours and kill_if(self.options.pid, lambda: self.page.supervisor.last == sign):
            logger.error("killing the supervisor, which gave no sign of life for %g s", patience)

    def give_up(self, gone: Sequence[int]) -> None:
        """Lose what dead runners held, once nothing of it runs; the supervisor that saw to that is dead."""
        self.end_remains(lease for index in gone for lease in self.hands.runners[index].held)
        for index in gone:
            self.hands.lose(index)

    def end_remains(self, leases: Iterable[str]) -> None:
        """SIGKILL what is left of these commands, and of every task; task runners die with the supervisor."""
        marks = {self.options.lock, *leases}
        until = max(self.leave_by, clock.monotonic() + LEFTOVER_SECONDS)
        while self._kill_remains(marks) and clock.monotonic() < until:
            clock.pause(0.005)

    def _kill_remains(self, marks: set[str]) -> int:
        return processes.kill_marked(marks, forks.entered(self.page.fd))

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
                    hint=dialect.how_to_migrate(),
                ) from None
            if dialect.is_damaged(error) and not (self.worker_id or self.options.predecessor):
                why = str(error).strip().partition("\n")[0]
                raise WorkerRefused(
                    f"The database is damaged: {why}", hint="restore a backup"
                ) from None
            if dialect.is_bad_data(error) and step != self.set_apart:
                self.bite.was_not_the_cause()
                logger.exception("a turn failed on data; setting apart what it failed on")
                had_reports = bool(self.hands.ended)
                self.attempt(self.set_apart)
                if not had_reports:
                    self.back_off(error)
            elif dialect.is_trouble(error) or dialect.is_bad_data(error):
                self.back_off(error)
            else:
                raise

    def back_off(self, error: Exception) -> None:
        self.failures += 1
        if dialect.is_lock_wait(error) or dialect.has_no_room(error):
            self.bite.was_not_the_cause()
        elif self.bite.failed(clock.monotonic()):
            self.hands.lighten()
        longest = HOLDING_BACK_OFF if self.hands else LONGEST_BACK_OFF
        delay = min(longest, 0.05 * 2 ** min(self.failures, 10)) * random.uniform(0.5, 1.0)
        self.retry_at = clock.monotonic() + delay
        if self.failures in (3, 10) or self.failures % 50 == 0:
            logger.warning("the database does not answer, trying again: %s", str(error).strip())
        if dialect.is_disk_full(error):
            # The last connection that closes takes SQLite's mapped index with it. A new one, written
            # to where there is no room for it, would be a SIGBUS on file systems with small blocks.
            return
        if dialect.is_lock_wait(error):
            self.careful = True
            return
        self.hints.close()
        dialect.close()
