"""What `worker start` becomes: parent of the ledger process and of the runners.

It has no database connection and no work of its own. It starts the others, starts them again
when they die, passes on the wish to stop, and as their subreaper kills what a dead runner left.
"""

from __future__ import annotations

import logging
import math
import os
import selectors
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from types import FrameType

from .. import __version__, clock, conf, dialect, lockfile
from ..exceptions import QueueCTLError, WorkerRefused
from ..execution import confine, processes
from . import child, runner, turns, wire
from .page import Page
from .wire import Channel, Closed

logger = logging.getLogger(__name__)

FIRST_BACK_OFF, LONGEST_BACK_OFF, HEALTHY_SECONDS = 1.0, 60.0, 60.0
STOOD_STILL_SECONDS = 3.0
LEAVE_SECONDS = 5.0
"""How long runners may take to end their commands once their ledger is gone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a person asked for."""

    slots: int
    queues: tuple[str, ...] = ()
    name: str = ""
    until_empty: bool = False


def run(plan: Plan, announce: Callable[[str], None]) -> int:
    """Be a worker until told to stop; returns the exit code: 0 drained, 130 cut short.

    `announce` is given the worker's name once it is ready to work. Raises WorkerRefused when
    a worker cannot start here.
    """
    if dialect.is_in_memory():
        raise WorkerRefused(
            "A database in memory cannot be shared with a worker",
            hint="set DATABASE_URL to a SQLite file or to PostgreSQL",
        )
    if old := dialect.is_too_old():
        raise WorkerRefused(old, hint="upgrade it, or use a Python that brings a later one")
    given = conf.get().CONFINE
    if wrong := confine.unknown(given, plan.queues) + confine.forbidden(given, plan.queues):
        raise WorkerRefused(
            f"A worker cannot start here: {'; '.join(wrong)}",
            hint="see QUEUECTL['CONFINE'], or let it serve other queues",
        )
    identity = f"{socket.gethostname()}-{os.getpid()}-{token_hex(3)}"
    lock, path = lockfile.acquire(identity)
    try:
        return Supervisor(plan, announce, lock, str(path), plan.name or identity).run()
    finally:
        lockfile.remove(path)
        os.close(lock)


class Supervisor:
    def __init__(
        self, plan: Plan, announce: Callable[[str], None], lock: int, lock_path: str, name: str
    ) -> None:
        self.plan, self.announce = plan, announce
        self.lock, self.lock_path, self.name = lock, lock_path, name
        self.settings = conf.get()
        self.runner_slots = _share(plan.slots, self.settings.COMMAND_RUNNERS)
        self.others = set(processes.strays((), processes.processes()))
        self.ledger = self.condemned = 0
        """Pids; the condemned one we have killed ourselves, and wait for."""

        self.runners: list[int] = []
        self.page = Page.new()
        self.task_runners: dict[int, int] = {}
        """Pids by number; made when the ledger wants one."""

        self.killed: dict[int, str] = {}
        """Task runners we have killed, and why."""

        self.tasks_end: float | None = None
        """When the grace of running tasks is over."""

        self.vacant: dict[int, float] = {}
        """Runners that died, and when to put another in their place."""

        self.control: Channel | None = None
        self.worker_id: int | None = None
        self.refusal: QueueCTLError | None = None
        self.announced = False
        self.bell = -1
        """Writing to it wakes this process."""

        self.stops = self.passed_on = 0
        self.leave_by: float | None = None
        self.heard_at = clock.monotonic()
        self.selector = selectors.DefaultSelector()

    def run(self) -> int:
        processes.become_subreaper()
        if not self.settings.DUMPABLE:
            processes.conceal()
        self._watch_signals()
        back_off = FIRST_BACK_OFF
        while True:
            born = clock.monotonic()
            self.start_all()
            code = self.watch()
            self.end_runners()
            if self.refusal:
                raise self.refusal
            if code == turns.DONE or self._is_late():
                return 130 if self.stops > 1 else 0 if code == turns.DONE else 1
            if clock.monotonic() - born > HEALTHY_SECONDS:
                back_off = FIRST_BACK_OFF
            if code != turns.LOST and not self.stops:
                logger.error("the ledger process died, starting another in %g s", back_off)
                self.pause(back_off)
                back_off = min(LONGEST_BACK_OFF, back_off * 2)

    # One life of a ledger

    def start_all(self) -> None:
        """Runners first, then the ledger that holds the other ends of their sockets."""
        self.vacant.clear()
        pairs = [wire.pair() for _ in self.runner_slots]
        control = wire.pair()
        ours = [end for pair in [*pairs, control] for end in pair]
        self.runners = [
            child.start_runner(slots, far, lock=self.lock, close=[s for s in ours if s is not far])
            for slots, (_, far) in zip(self.runner_slots, pairs, strict=True)
        ]
        near = [end for end, _ in pairs]
        keep = [control[1], *near]
        self.ledger = child.start_ledger(
            self._options(),
            control[1],
            near,
            page=self.page.fd,
            lock=self.lock,
            close=[s for s in ours if s not in keep],
        )
        for sock in ours:
            if sock is not control[0]:
                sock.close()
        self.control = Channel(control[0])
        self.selector.register(self.control, selectors.EVENT_READ)
        self.heard_at = clock.monotonic()
        if self.stops:
            self._pass_on_stop()

    def _options(self) -> turns.Options:
        return turns.Options(
            name=self.name,
            host=socket.gethostname(),
            boot=lockfile.boot(),
            pid=os.getpid(),
            lock=self.lock_path,
            version=__version__,
            queues=self.plan.queues,
            runner_slots=self.runner_slots,
            task_runners=min(self.plan.slots, self.settings.TASK_RUNNERS),
            until_empty=self.plan.until_empty,
            predecessor=self.worker_id,
        )

    def watch(self) -> int:
        """Look after the processes until the ledger has ended; returns its exit code."""
        code: int | None = None
        while code is None:
            self.look_round()
            if self.stops != self.passed_on:
                self._pass_on_stop()
            self._listen()
            code = self._reap()
            if code is None:
                self._fill_vacancies()
                self._end_overdue_tasks()
                self._end_the_silent()
        if self.control:
            self.selector.unregister(self.control)
            self.control.close()
            self.control = None
        return code

    def look_round(self) -> None:
        """Wait for something to happen, at most a second.

        If that took much longer this process itself stood still, and so may have the ledger: its
        silence meanwhile says nothing.
        """
        began = clock.monotonic()
        self.sleep(min(1.0, max(0.0, self._next_overdue() - began)))
        if clock.monotonic() - began > STOOD_STILL_SECONDS:
            self.heard_at = clock.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait for that long, or until asked to stop."""
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0 and not self.stops:
            self.sleep(left)

    def sleep(self, seconds: float) -> None:
        """Wait for a signal or a frame, at most that long."""
        for key, _ in self.selector.select(seconds):
            if key.data == "signal":
                with suppress(BlockingIOError):
                    os.read(key.fd, 4096)

    def _listen(self) -> None:
        if self.control is None:
            return
        try:
            frames = self.control.receive()
        except Closed:
            return
        for tag, *values in frames:
            self.heard_at = clock.monotonic()
            match tag:
                case wire.READY:
                    self.worker_id = values[0]
                    if not self.announced:
                        self.announced = True
                        self.announce(self.name)
                case wire.REFUSED:
                    self.refusal = WorkerRefused(values[0], hint=values[1])
                case wire.STOPPING:
                    self._leave_within(values[0])
                    self.tasks_end = self.heard_at + values[0]
                case wire.WANT_TASK_RUNNER:
                    self._start_task_runner(values[0])
                case wire.KILL:
                    self._kill_task(*values)

    def _reap(self) -> int | None:
        """Collect what has exited; a runner is replaced. The ledger's exit code, if that was it."""
        code: int | None = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1 if code is None else code
            if pid == 0:
                return code
            if pid == self.ledger:
                self._listen()
                code = os.waitstatus_to_exitcode(status)
            elif pid in self.task_runners.values():
                self._lost_task_runner(pid, os.waitstatus_to_exitcode(status))
            elif pid in self.runners:
                index = self.runners.index(pid)
                self.runners[index] = 0
                # A runner that saw its ledger go is gone before we hear of the ledger itself.
                left = os.waitstatus_to_exitcode(status) == runner.LEDGER_GONE
                self.vacant[index] = clock.monotonic() + (1.0 if left else 0.0)

    def _fill_vacancies(self) -> None:
        for index, moment in list(self.vacant.items()):
            if clock.monotonic() >= moment:
                del self.vacant[index]
                self._replace(index)

    def _replace(self, index: int) -> None:
        """A runner died: kill what it left, and only then let the ledger give its jobs up."""
        logger.error("a command runner died; its commands are killed and it is replaced")
        self._kill_strays()
        near, far = wire.pair()
        control = self.control
        assert control is not None
        self.runners[index] = child.start_runner(
            self.runner_slots[index], far, lock=self.lock, close=[near, control.socket]
        )
        far.close()
        with suppress(Closed):
            control.send_with_fd(near.fileno(), wire.REPLACED, index)
        near.close()

    def _kill_strays(self) -> None:
        patience = clock.monotonic() + 1.0
        while processes.kill_strays(self._known()) and clock.monotonic() < patience:
            clock.pause(0.005)

    def _known(self) -> set[int]:
        return {self.ledger, *self.runners, *self.task_runners.values(), *self.others}

    # Task runners

    def _start_task_runner(self, index: int) -> None:
        control = self.control
        if control is None or index in self.task_runners:
            return
        self.page.cells(index).reset()
        near, far = wire.pair()
        self.task_runners[index] = child.start_task_runner(
            index,
            far,
            page=self.page.fd,
            bell=self.bell,
            worker=self.name,
            mark=self.lock_path,
            lock=self.lock,
            close=[near, control.socket],
        )
        far.close()
        with suppress(Closed):
            control.send_with_fd(near.fileno(), wire.TASK_RUNNER, index)
        near.close()

    def _lost_task_runner(self, pid: int, code: int) -> None:
        """One has died, by our hand or by itself: kill what it left, then tell the ledger why."""
        index = next(i for i, runner in self.task_runners.items() if runner == pid)
        del self.task_runners[index]
        why = self.killed.pop(index, "")
        self._kill_strays()
        if self.control:
            with suppress(Closed):
                self.control.send(wire.TASK_RUNNER_GONE, index, why, code)

    def _next_overdue(self) -> float:
        """When a running task has to be ended, as far as is known."""
        cells = [self.page.cells(index) for index in self.task_runners]
        moments = [each.kill_at for each in cells]
        if any(each.since for each in cells):
            moments += [self._fence_at()] + ([] if self.tasks_end is None else [self.tasks_end])
        return min(moments, default=math.inf)

    def _fence_at(self) -> float:
        return self.page.lease_ends - self.settings.FENCE_MARGIN_SECONDS

    def _end_overdue_tasks(self) -> None:
        now = clock.monotonic()
        over = now >= self._fence_at() or (self.tasks_end is not None and now >= self.tasks_end)
        for index in list(self.task_runners):
            cells = self.page.cells(index)
            if cells.kill_at <= now:
                self._kill_task(index, cells.begun, "timed_out")
            elif over and cells.since:
                self._kill_task(index, cells.begun, "interrupted")

    def _kill_task(self, index: int, number: int, why: str) -> None:
        """Kill a runner for the sake of what it runs, unless that has ended meanwhile.

        It is stopped for the second look: between a look and a kill it would go on to the next.
        """
        pid, cells = self.task_runners.get(index), self.page.cells(index)
        if pid is None or index in self.killed:
            return
        processes.send([pid], signal.SIGSTOP)
        clock.pause(0.001)  # what it was writing is to be seen
        still = cells.begun == number and cells.since is not None
        if still and why == "timed_out":
            still = cells.kill_at <= clock.monotonic()
        if still:
            self.killed[index] = why
            processes.send([pid], signal.SIGKILL)
        else:
            processes.send([pid], signal.SIGCONT)

    def end_runners(self) -> None:
        """The ledger is gone: runners see that, end their commands and leave, or are killed."""
        patience = clock.monotonic() + LEAVE_SECONDS + self.settings.KILL_SECONDS
        # Inside a task nobody notices that a ledger is gone.
        processes.send(self.task_runners.values(), signal.SIGKILL)
        while any(self.runners) or self.task_runners:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            self.runners = [0 if runner == pid else runner for runner in self.runners]
            self.task_runners = {i: p for i, p in self.task_runners.items() if p != pid}
            if pid == 0:
                if clock.monotonic() > patience:
                    processes.send(filter(None, self.runners), signal.SIGKILL)
                clock.pause(0.005)
        self.ledger = 0
        self.killed.clear()
        self.page.clear()
        self._kill_strays()

    def _end_the_silent(self) -> None:
        """Kill a ledger that has said nothing for as long as its leases last, less the margin."""
        now = clock.monotonic()
        silence = self.settings.LEASE_SECONDS - self.settings.FENCE_MARGIN_SECONDS
        if self.ledger == self.condemned:
            return
        if now - self.heard_at > silence or self._is_late():
            logger.error("the ledger process does not answer and is killed")
            processes.send([self.ledger], signal.SIGKILL)
            self.heard_at, self.condemned = now, self.ledger

    # Stopping

    def _watch_signals(self) -> None:
        reading, writing = os.pipe()
        self.bell = writing
        for fd in (reading, writing):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._asked_to_stop)
        self.selector.register(reading, selectors.EVENT_READ, "signal")

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        # Only a flag: a handler runs between any two steps, in the middle of a frame too.
        self.stops += 1

    def _pass_on_stop(self) -> None:
        self.passed_on = self.stops
        grace = self.settings.GRACE_SECONDS if self.stops == 1 else 0.0
        self._leave_within(grace)
        if self.control:
            with suppress(Closed):
                self.control.send(wire.STOP, grace)

    def _leave_within(self, grace: float) -> None:
        limit = clock.monotonic() + grace + self.settings.KILL_SECONDS + LEAVE_SECONDS
        self.leave_by = limit if self.leave_by is None else min(self.leave_by, limit)

    def _is_late(self) -> bool:
        return self.leave_by is not None and clock.monotonic() > self.leave_by


def _share(slots: int, runners: int) -> tuple[int, ...]:
    """Slots for each runner, as even as can be; never a runner without any."""
    count = min(slots, runners)
    return tuple(slots // count + (index < slots % count) for index in range(count))
