"""A real ledger process, driven by the test, which plays its runners."""

import socket
from typing import Any

from jobs import clock
from jobs.outcome import Kind, Outcome
from jobs.work import Work
from jobs.worker import wire
from jobs.worker.ledger_process import LedgerProcess
from jobs.worker.page import Page
from jobs.worker.turns import Options
from jobs.worker.wire import Channel

SLOTS = (1, 1)


class Busy:
    """A ledger process whose runners are the test: whatever they are given has ended at once."""

    outcome = Outcome(kind=Kind.SUCCEEDED)
    """Of all that."""

    def __init__(self, predecessor: str = "") -> None:
        self.begin(predecessor)
        self.process.register()

    def begin(self, predecessor: str, *, lock: str = "/nowhere", boot: str = "boot") -> None:
        """As it is before it has a row."""
        pairs = [wire.pair() for _ in (*SLOTS, "control")]
        self.sockets: list[socket.socket] = [end for pair in pairs for end in pair]
        self.runners = {index: Channel(far) for index, (_, far) in enumerate(pairs[:-1])}
        self.supervisor = Channel(pairs[-1][1])
        near = [Channel(near) for near, _ in pairs]
        options = Options(
            name="busy", host="host", boot=boot, pid=1, lock=lock, version="0", queues=[],
            runner_slots=SLOTS, task_runners=len(SLOTS), until_empty=False, predecessor=predecessor,
        )  # fmt: skip
        self.process = LedgerProcess(near[-1], near[:-1], Page.new(), options)

    def close(self) -> None:
        self.process.hints.close()
        self.process.selector.close()
        for held in self.process.hands.runners:
            if held.channel:
                held.channel.close()
        for sock in self.sockets:
            sock.close()

    def answer(self) -> bool:
        """Say of everything that was handed out that it has ended; whether there was any."""
        self._make_task_runners()
        said = False
        for index, runner in self.runners.items():
            while runner.is_readable():
                for tag, *values in runner.receive():
                    said = self.hears(index, tag, *values) or said
            while self.process.hands.runners[index].channel.is_readable():  # type: ignore[union-attr]
                self.process.hands.hear(index, 1)
        return said

    def hears(self, index: int, tag: str, *values: Any) -> bool:
        """A runner hears of this, and answers if it was given works; whether it was."""
        if tag == wire.RUN:
            works = [wire.to_work(work) for work in values[0]]
            self.end(index, *[(work, self.outcome) for work in works])
        return tag == wire.RUN

    def end(self, index: int, *ended: tuple[Work, Outcome]) -> None:
        """Say of these works what came of them."""
        self.runners[index].send(wire.ENDED, [self._ended(index, *each) for each in ended])

    def _make_task_runners(self) -> None:
        """Those that the ledger has asked its supervisor for."""
        while self.supervisor.is_readable():
            for tag, *values in self.supervisor.receive():
                if tag == wire.WANT_TASK_RUNNER:
                    near, far = wire.pair()
                    self.sockets.append(far)
                    self.runners[self.process.hands.task_runners[values[0]]] = Channel(far)
                    self.supervisor.send_with_fd(near.fileno(), wire.TASK_RUNNER, values[0])
                    near.close()
                    self.process.hear_supervisor()

    def _ended(self, index: int, work: Work, outcome: Outcome) -> tuple[str, Any]:
        if cells := self.process.hands.runners[index].cells:
            cells.begin(cells.begun + 1, clock.monotonic(), work.timeout)
            cells.end()
        exit_code = None if work.task else int(outcome.kind != Kind.SUCCEEDED)
        started, ended = outcome.started or 1.0, outcome.ended or 1.0
        whole = outcome._replace(exit_code=exit_code, started=started, ended=ended)
        return work.lease, wire.from_outcome(whole)

    def drain(self) -> int:
        """Take turns until nothing is left; returns how many."""
        turns = 0
        while True:
            self.process.turn()
            turns += 1
            if not self.answer() and not self.process.hands:
                return turns
