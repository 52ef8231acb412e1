"""A command runner: spawns, reads, times out and kills many commands in one thread.

It knows no database. Works come in by the wire, outcomes go out; when its ledger is gone, or
has not renewed the lease in time, it ends its commands before anybody else may run them.
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import socket
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .. import clock, conf, dialect
from ..execution import confine, descriptors, environment, masking, processes, shell
from ..outcome import Kind, Outcome
from ..work import Work
from . import wire
from .alarms import Alarms
from .page import Sign, sign_seconds
from .sweep import Sweep
from .wire import Channel, Closed

LEDGER_GONE = 5
"""Exit code of a runner that ended because its ledger did."""

STOOD_STILL_SECONDS = 1.0
YOUNG_SECONDS = 0.005
"""The streams of a command are read when it exits or, if it lives longer than this, as they come.

Most commands of a long queue are over by then, and what they said fits in a pipe: watching two streams
for each costs four system calls and as many wake-ups, a quarter of all that a runner does.
"""

CREDIT_BYTES = 1_048_576
"""Output under way to the ledger and not yet written down; the rest waits here."""


@dataclass(frozen=True, slots=True)
class Options:
    slots: int
    rules: shell.Rules
    lease_seconds: float
    fence_seconds: float
    """Commands get SIGTERM this long before the lease runs out."""

    lock_is_lease: bool
    """Whether the worker's lock file keeps its jobs, however long it stood still."""


def main(sock: socket.socket, slots: int, sign: Sign) -> int:
    """The whole life of a runner process; returns when its ledger is gone."""
    processes.become_subreaper()
    descriptors.keep_descriptors()
    descriptors.allow_open_files(3 * slots + 64)  # two pipes a command
    Runner(Channel(sock), _options(slots), sign).run()
    return LEDGER_GONE


def _options(slots: int) -> Options:
    settings = conf.get()
    rules = shell.Rules(
        shell=settings.SHELL,
        base_env=environment.allowed(
            os.environ, settings.COMMAND_ENV, settings.COMMAND_ENV_EXCLUDE
        ),
        output_limit=settings.OUTPUT_LIMIT_BYTES,
        kill_seconds=settings.KILL_SECONDS,
        confinements=confine.Confinements(settings.CONFINE) if settings.CONFINE else None,
        masks=masking.patterns(),
    )
    lease, fence = settings.LEASE_SECONDS, settings.fence_seconds
    return Options(slots, rules, lease, fence, dialect.workers_share_a_host())


class Runner:
    def __init__(self, channel: Channel, options: Options, sign: Sign) -> None:
        self.channel, self.options, self.sign = channel, options, sign
        self.sign_seconds = sign_seconds(options.lease_seconds)
        self.waiting: deque[Work] = deque()
        self.commands: dict[str, shell.Command] = {}
        self.by_pid: dict[int, shell.Command] = {}
        self.touched: set[shell.Command] = set()
        self.young: deque[shell.Command] = deque()
        """In the order of their start; their streams are not watched yet."""

        self.alarms, self.sweep = Alarms(), Sweep()
        self.started: list[tuple[str, float]] = []
        self.over: list[shell.Command] = []
        """What came of these is put together when the next have been started: their slots are free."""

        self.outbox: deque[tuple[str, Outcome]] = deque()
        self.in_flight = 0
        self.looked = clock.monotonic()
        self._renew(self.looked + options.lease_seconds)
        self.selector = selectors.DefaultSelector()
        self.selector.register(channel, selectors.EVENT_READ)
        self._watch_children()

    def run(self) -> None:
        try:
            while True:
                self.start_waiting()
                self.send()
                self.wait()
                self.reap()
                self.tick()
                self.sweep.kill_strays(clock.monotonic(), self.by_pid, self.commands)
        except Closed:
            self.end_everything()

    # The steps of the loop

    def start_waiting(self) -> None:
        while self.waiting and len(self.commands) < self.options.slots:
            if (now := clock.monotonic()) >= self.fence_at:
                return
            work = self.waiting.popleft()
            self.sign.give(now)
            try:
                command = shell.start(work, self.options.rules, now)
            except shell.NotStarted as refusal:
                self.outbox.append((work.lease, refusal.outcome))
                continue
            self.commands[work.lease] = self.by_pid[command.pid] = command
            self.young.append(command)
            self._set_alarm(command)
            if work.ahead:
                self.started.append((work.lease, now))

    def send(self) -> None:
        """Pass on what has started and ended, as far as the credit goes."""
        if self.started:
            self.channel.add(wire.STARTED, self.started)
            self.started = []
        for command in self.over:
            self.outbox.append((command.work.lease, command.outcome()))
            self.sign.give(clock.monotonic())  # masks may take their time
        self.over.clear()
        batch: list[Any] = []
        while self.outbox and self.in_flight < CREDIT_BYTES:
            lease, outcome = self.outbox.popleft()
            self.in_flight += outcome.kept
            batch.append((lease, wire.from_outcome(outcome)))
        if batch:
            self.channel.add(wire.ENDED, batch)
        self.channel.flush()
        self._watch_channel()

    def wait(self) -> None:
        patience = self._patience()
        self.sign.give(clock.monotonic())
        self._take(self.selector.select(patience))
        self._notice_standstill(patience)

    def _take(self, events: list[tuple[selectors.SelectorKey, int]]) -> None:
        for key, mask in events:
            if key.data is None:
                self._hear(mask)
            elif key.data is self:
                with suppress(BlockingIOError):
                    os.read(key.fd, 4096)
            else:
                self._read(key.fd, key.data)

    def reap(self) -> None:
        """Collect every child that has exited, our own and adopted ones."""
        while self.by_pid or self.sweep.is_awaited():
            try:
                if not self._collect():
                    return
            except ChildProcessError:
                self.sweep.expect_nothing()
                return

    def _collect(self) -> int:
        """One child that has exited; 0 if there is none by now. Raises ChildProcessError if never."""
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        # Of a child that asked to be traced we also hear each stop. It stays so until it is killed.
        if not os.WIFSTOPPED(status) and (command := self.by_pid.pop(pid, None)):
            command.exited(status, usage, clock.monotonic())
            self._read_the_rest(command)
            self.touched.add(command)
        return pid

    def tick(self) -> None:
        self._notice_standstill()
        now = clock.monotonic()
        self._fence(now)
        self._watch_grown(now)
        self.touched.update(self.alarms.passed(now))
        look = processes.Look(self.by_pid)
        for command in self.touched:
            open_streams = list(command.streams)
            command.tick(now, look)
            self.sign.give(clock.monotonic())
            if command.finished:
                self._finish(command, open_streams)
            else:
                self._set_alarm(command)
        self.touched.clear()

    # What the ledger says

    def _hear(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self.channel.flush()
        if not mask & selectors.EVENT_READ:
            return
        for tag, *values in self.channel.receive():
            now = clock.monotonic()
            match tag:
                case wire.RUN:
                    self.waiting += [wire.to_work(work) for work in values[0]]
                case wire.TAKEN:
                    self.in_flight -= values[0]
                case wire.RENEW:
                    self._renew(values[0])
                case wire.CANCEL:
                    self._cancel(values[0], now)
                case wire.RECALL:
                    self._give_back()
                case wire.DRAIN:
                    self._give_back()
                    self._stop_all(now, values[0])

    def _cancel(self, lease: str, now: float) -> None:
        if lease in self.commands:
            self.commands[lease].stop(Kind.CANCELLED, now)
            self._set_alarm(self.commands[lease])
        elif unstarted := [work for work in self.waiting if work.lease == lease]:
            self.waiting.remove(unstarted[0])
            self.channel.send(wire.RETURNED, [lease])

    def _give_back(self) -> None:
        self.channel.send(wire.RETURNED, [work.lease for work in self.waiting])
        self.waiting.clear()

    def _stop_all(self, now: float, grace: float) -> None:
        for command in self.commands.values():
            command.stop(Kind.INTERRUPTED, now, grace)
            self._set_alarm(command)

    def _notice_standstill(self, waited: float = 0.0) -> None:
        """Where more time has passed since the last look than this and what was done since may take,
        the process was stopped.

        Where the lock kept its jobs, the ledger, which may have been stopped too, gets its time anew;
        elsewhere somebody may run them by now.
        """
        now = clock.monotonic()
        before, self.looked = self.looked, now
        if now - before - waited <= STOOD_STILL_SECONDS:
            return
        # A wait that was stopped past its end comes back empty, whatever has arrived meanwhile;
        # unheard, renewals of the lease would not keep the fence away.
        self._take(self.selector.select(0))
        if self.options.lock_is_lease:
            self._renew(now + self.options.lease_seconds)

    def _renew(self, lease_ends: float) -> None:
        self.fence_at = lease_ends - self.options.fence_seconds

    def _fence(self, now: float) -> None:
        """The lease was not renewed in time: end the commands while they are still ours."""
        if now >= self.fence_at and (self.commands or self.waiting):
            self.fence_at = math.inf
            self._give_back()
            self._stop_all(now, 0)

    # One command

    def _read(self, fd: int, command: shell.Command) -> None:
        if fd in command.streams and not command.read(fd):
            self.selector.unregister(fd)
            self.touched.add(command)

    def _read_the_rest(self, command: shell.Command) -> None:
        """What a command that ended before its streams were watched has said; others may hold them yet."""
        if not command.watched:
            command.drain()
            self._watch(command)

    def _watch_grown(self, now: float) -> None:
        while self.young and self.young[0].started + YOUNG_SECONDS <= now:
            self._watch(self.young.popleft())

    def _watch(self, command: shell.Command) -> None:
        if not command.watched:
            command.watched = True
            for fd in command.streams:
                self.selector.register(fd, selectors.EVENT_READ, command)

    def _finish(self, command: shell.Command, open_streams: list[int]) -> None:
        for fd in open_streams:
            self.selector.unregister(fd)
        del self.commands[command.work.lease]
        self.over.append(command)
        self.sweep.expect(clock.monotonic())

    def _set_alarm(self, command: shell.Command) -> None:
        self.alarms.set(command, among=len(self.commands))

    def _patience(self) -> float:
        now = clock.monotonic()
        moments = [now + self.sign_seconds, self.alarms.next(), self.sweep.at]
        while self.young and self.young[0].watched:
            self.young.popleft()
        if self.young:
            moments.append(self.young[0].started + YOUNG_SECONDS)
        if self.commands or self.waiting:
            moments.append(self.fence_at)
        return max(0.0, min(moments) - now)

    def _watch_channel(self) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.channel.wants_write else 0)
        if self.selector.get_key(self.channel).events != events:
            self.selector.modify(self.channel, events)

    def _watch_children(self) -> None:
        reading, writing = os.pipe()
        for fd in (reading, writing):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self.selector.register(reading, selectors.EVENT_READ, self)

    def end_everything(self) -> None:
        """The ledger is gone, and with it whoever could hear of these commands: SIGKILL, then leave."""
        patience = clock.monotonic() + max(1.0, self.options.rules.kill_seconds)
        while clock.monotonic() < patience:
            look = processes.Look(self.by_pid)
            for command in self.commands.values():
                command.kill(look)
            left = processes.kill_strays(())
            with suppress(ChildProcessError):
                while self._collect():
                    pass
                clock.pause(0.005)
                continue
            if not left:
                return
