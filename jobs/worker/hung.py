"""Members of a worker that have said nothing for too long. They are killed, and others replace them."""

from __future__ import annotations

import logging
import signal

from .. import clock, conf
from ..execution import processes
from .crew import Crew, kill_if
from .page import Page, Sign, sign_seconds
from .silence import Silence

logger = logging.getLogger(__name__)

LEDGER = "ledger"
Member = str | tuple[str, int]


class Hung:
    """Hears of signs of life: the ledger's by frames, the runners' by the shared page."""

    def __init__(self, crew: Crew, page: Page) -> None:
        self.crew, self.page = crew, page
        settings = conf.get()
        self.ledger_patience = settings.LEASE_SECONDS - settings.FENCE_MARGIN_SECONDS
        # Who stands still for less than a lease is to come back to his jobs.
        self.runner_patience = settings.LEASE_SECONDS + sign_seconds(settings.LEASE_SECONDS)
        self.silence = Silence(clock.monotonic())
        self.condemned = 0
        """Pid of a ledger that we have killed, and wait for."""

    def heard(self, who: Member) -> None:
        """It has said something, or is just beginning."""
        self.silence.heard(who)

    def forget(self) -> None:
        """Others come now."""
        self.silence.forget()

    def end(self, *, late: bool) -> None:
        """Kill who has been silent for too long; a ledger also when it should have left by now."""
        self.silence.passes(clock.monotonic())
        self._end_ledger(late)
        for index, pid in enumerate(self.crew.runners):
            if pid:
                self._end_runner(command_runner(index), pid, self.page.sign(index))
        for index, pid in self.crew.task_runners.items():
            cells = self.page.cells(index)
            if cells.since is not None:  # inside a task nobody can give signs
                self.heard(task_runner(index))
            else:
                self._end_runner(task_runner(index), pid, cells.sign)

    def _end_ledger(self, late: bool) -> None:
        pid = self.crew.ledger
        if pid == self.condemned:
            return
        if late or self.silence.of(LEDGER) > self.ledger_patience:
            processes.send([pid], signal.SIGKILL)
            self.condemned = pid
            logger.error("the ledger process does not answer and is killed")

    def _end_runner(self, who: Member, pid: int, sign: Sign) -> None:
        seen = sign.last
        self.silence.saw(who, seen)
        if self.silence.of(who) <= self.runner_patience:
            return
        if kill_if(pid, lambda: sign.last == seen):
            logger.error("a runner gave no sign of life for a lease and is killed")
        self.heard(who)


def command_runner(index: int) -> Member:
    return ("command runner", index)


def task_runner(index: int) -> Member:
    return ("task runner", index)
