"""What `worker start` becomes: parent of the ledger process and of the runners.

It has no database connection and no work of its own. It starts the others, starts them again
when they die, passes on the wish to stop, and as their subreaper kills what a dead runner left.

Who is alive, and what was left to us, `crew` knows; who has to be killed for what he runs, `overdue`;
who for saying nothing any more, `hung`; who is to be started, `vacancies`; who wants us to stop, `stopping`.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from secrets import token_hex

from .. import __version__, clock, conf, dialect, lockfile
from ..exceptions import QueueCTLError, WorkerRefused
from ..execution import confine, processes, shell
from . import birth, child, hung, ledger_process, runner, turns, wire
from .crew import Crew
from .hung import Hung
from .overdue import Overdue
from .page import Page
from .silence import ROUND_SECONDS
from .stopping import LEAVE_SECONDS, Stopping
from .vacancies import Vacancies, pair
from .wire import Channel, Closed

logger = logging.getLogger(__name__)

FAILED = 1
"""Exit code of a worker, or of a life of its ledger, that did not end as it should."""

FIRST_BACK_OFF, LONGEST_BACK_OFF, HEALTHY_SECONDS = 1.0, 60.0, 60.0


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
    return Supervisor(plan, announce).run()


class Supervisor:
    def __init__(self, plan: Plan, announce: Callable[[str], None]) -> None:
        self.plan, self.announce = plan, announce
        self.identity = f"{socket.gethostname()}-{os.getpid()}-{token_hex(3)}"
        self.name = plan.name or self.identity
        self.settings = conf.get()
        self.runner_slots = _share(plan.slots, self.settings.COMMAND_RUNNERS)
        self.page = Page.new()
        self.crew = Crew()
        self.overdue = Overdue(self.crew, self.page)
        self.hung = Hung(self.crew, self.page)
        self.stopping = Stopping()
        self.vacancies = Vacancies(
            self.crew,
            self.hung,
            self.page,
            self.stopping,
            worker=self.name,
            slots=self.runner_slots,
        )
        self.lock, self.lock_path, self.lives = -1, "", 0
        self.control: Channel | None = None
        self.registered = ""
        """Lock file of the last life whose ledger became a row."""

        self.refusal: QueueCTLError | None = None
        self.announced = False
        self.selector = selectors.DefaultSelector()

    def run(self) -> int:
        processes.become_subreaper()
        if not self.settings.DUMPABLE:
            birth.conceal()
        self.selector.register(self.stopping.watch_signals(), selectors.EVENT_READ, "signal")
        back_off = FIRST_BACK_OFF
        while True:
            born = clock.monotonic()
            code = self.live()
            if self.refusal:
                raise self.refusal
            if code == ledger_process.DONE or self.stopping.is_late:
                return (
                    130 if self.stopping.said > 1 else 0 if code == ledger_process.DONE else FAILED
                )
            if clock.monotonic() - born > HEALTHY_SECONDS:
                back_off = FIRST_BACK_OFF
            if code != ledger_process.LOST and not self.stopping.is_wanted:
                how = "the ledger process died (%s), starting another in %g s"
                logger.error(how, _ending(code), back_off)
                self.pause(back_off)
                back_off = min(LONGEST_BACK_OFF, back_off * 2)

    def live(self) -> int:
        """One life of a ledger, until nothing is left of it and its runners; returns its exit code.

        Each has a lock of its own, free when it is over: while we wait for the next to begin,
        others may take its jobs. Raises WorkerRefused if the first cannot have one.
        """
        self.lives += 1
        try:
            self.lock, path = lockfile.acquire(f"{self.identity}-{self.lives}")
        except WorkerRefused as refusal:
            if not self.announced:
                raise
            logger.error("%s; %s", refusal, refusal.hint)
            self._nothing_to_drain()
            return FAILED
        self.lock_path = str(path)
        code = self.watch() if self._has_begun() else FAILED
        self.end_runners()
        os.close(self.lock)
        return code

    def _has_begun(self) -> bool:
        """Start all processes; False where the system has none to spare, and those started leave."""
        try:
            self.start_all()
        except OSError as error:
            logger.error("its processes cannot be started: %s", error)
            self._nothing_to_drain()
            return False
        return True

    def _nothing_to_drain(self) -> None:
        """A life has not begun: whoever wants us to stop need not wait for another."""
        if self.stopping.is_wanted:
            self.stopping.leave_by = clock.monotonic()

    def start_all(self) -> None:
        """Runners first, then the ledger that holds the other ends of their sockets.

        Raises OSError where the system has no process or descriptor to spare.
        """
        self.vacancies.begin(self.lock, self.lock_path)
        with ExitStack() as stack:
            *pairs, control = [pair(stack) for _ in (*self.runner_slots, "control")]
            ours = [end for both in [*pairs, control] for end in both]
            for index, (_, far) in enumerate(pairs):
                close = [sock for sock in ours if sock is not far]
                self.crew.runners.append(self.vacancies.start_runner(index, far, close=close))
            near = [end for end, _ in pairs]
            keep = [control[1], *near]
            self.crew.ledger = child.start_ledger(
                self._options(),
                control[1],
                near,
                page=self.page.fd,
                lock=self.lock,
                close=[s for s in ours if s not in keep],
            )
            self.control = Channel(socket.socket(fileno=control[0].detach()))
        self.selector.register(self.control, selectors.EVENT_READ)
        self.hung.heard(hung.LEDGER)
        if self.stopping.is_wanted:
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
            predecessor=self.registered,
        )

    def end_runners(self) -> None:
        """The ledger is gone: runners see that, end their commands and leave, or are killed."""
        self.crew.end_runners(LEAVE_SECONDS + self.settings.KILL_SECONDS)
        self.overdue.killed.clear()
        self.page.clear()
        self.hung.forget()
        self.crew.kill_leftovers()

    # While it lives

    def watch(self) -> int:
        """Look after the processes until the ledger has ended; returns its exit code."""
        code: int | None = None
        while code is None:
            patience = self.overdue.next_moment() - clock.monotonic()
            self.sleep(min(ROUND_SECONDS, max(0.0, patience)))
            if self.stopping.is_news:
                self._pass_on_stop()
            self._listen()
            code = self._reap()
            if code is None:
                if self.control:
                    self.vacancies.fill(self.control)
                self.overdue.end()
                self.hung.end(late=self.stopping.is_late)
        if self.control:
            self.selector.unregister(self.control)
            self.control.close()
            self.control = None
        return code

    def pause(self, seconds: float) -> None:
        """Wait for that long, or until asked to stop."""
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0 and not self.stopping.is_wanted:
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
            self.hung.heard(hung.LEDGER)
            match tag:
                case wire.READY:
                    self.registered = self.lock_path
                    if not self.announced:
                        self.announced = True
                        self.announce(self.name)
                case wire.REFUSED:
                    self.refusal = WorkerRefused(values[0], hint=values[1])
                case wire.STOPPING:
                    self.stopping.leave_within(values[0])
                    self.overdue.tasks_end = clock.monotonic() + values[0]
                case wire.WANT_TASK_RUNNER:
                    self.vacancies.make_task_runner(self.control, values[0])
                case wire.KILL:
                    self.overdue.kill(*values)

    def _pass_on_stop(self) -> None:
        grace = self.stopping.pass_on()
        if self.control:
            with suppress(Closed):
                self.control.send(wire.STOP, grace)

    # Deaths

    def _reap(self) -> int | None:
        """Collect what has exited; a runner is replaced. The ledger's exit code, if that was it."""
        code: int | None = None
        crew = self.crew
        while True:
            self.page.supervisor.give(clock.monotonic())  # what one left may take a second to kill
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return FAILED if code is None else code
            if pid == 0:
                return code
            if os.WIFSTOPPED(status):  # a task may ask to be traced by us
                continue
            if pid == crew.ledger:
                self._listen()
                code = os.waitstatus_to_exitcode(status)
            elif pid in crew.task_runners.values():
                self._lost_task_runner(pid, os.waitstatus_to_exitcode(status))
            elif pid in crew.runners:
                # A runner that saw its ledger go is gone before we hear of the ledger itself.
                left = os.waitstatus_to_exitcode(status) == runner.LEDGER_GONE
                self.vacancies.open(crew.runners.index(pid), after=1.0 if left else 0.0)

    def _lost_task_runner(self, pid: int, code: int) -> None:
        """One has died, by our hand or by itself: kill what it left, then tell the ledger why."""
        index = next(i for i, runner in self.crew.task_runners.items() if runner == pid)
        del self.crew.task_runners[index]
        why = self.overdue.why(index)
        self.crew.kill_leftovers()
        if self.control:
            with suppress(Closed):
                self.control.send(wire.TASK_RUNNER_GONE, index, why, code)


def _ending(code: int) -> str:
    """How a process ended, for people."""
    return f"exit code {code}" if code >= 0 else f"signal {-code}, {shell.signal_name(-code)}"


def _share(slots: int, runners: int) -> tuple[int, ...]:
    """Slots for each runner, as even as can be; never a runner without any."""
    count = min(slots, runners)
    return tuple(slots // count + (index < slots % count) for index in range(count))
