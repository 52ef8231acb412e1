"""A real ledger process, driven by the test, which plays its runners."""

import socket
from typing import Any

from jobs.outcome import Kind, Outcome
from jobs.worker import wire
from jobs.worker.ledger_process import LedgerProcess
from jobs.worker.page import Page
from jobs.worker.turns import Options
from jobs.worker.wire import Channel

SLOTS = (1, 1)


class Busy:
    """A ledger process whose runners are the test: whatever they are given has ended at once."""

    def __init__(self, predecessor: str = "") -> None:
        pairs = [wire.pair() for _ in (*SLOTS, "control")]
        self.sockets: list[socket.socket] = [end for pair in pairs for end in pair]
        self.runners = [Channel(far) for _, far in pairs[:-1]]
        near = [Channel(near) for near, _ in pairs]
        options = Options(
            name="busy", host="host", boot="boot", pid=1, lock="/nowhere", version="0", queues=[],
            runner_slots=SLOTS, task_runners=0, until_empty=False, predecessor=predecessor,
        )  # fmt: skip
        self.process = LedgerProcess(near[-1], near[:-1], Page.new(), options)
        self.process.register()

    def close(self) -> None:
        self.process.hints.close()
        self.process.selector.close()
        for sock in self.sockets:
            sock.close()

    def answer(self) -> bool:
        """Say of everything that was handed out that it has ended; whether there was any."""
        said = False
        for index, runner in enumerate(self.runners):
            while runner.is_readable():
                for tag, *values in runner.receive():
                    if tag == wire.RUN:
                        runner.send(
                            wire.ENDED, [_ended(wire.to_work(work).lease) for work in values[0]]
                        )
                        said = True
            while self.process.hands.runners[index].channel.is_readable():  # type: ignore[union-attr]
                self.process.hands.hear(index, 1)
        return said

    def drain(self) -> int:
        """Take turns until nothing is left; returns how many."""
        turns = 0
        while True:
            self.process.turn()
            turns += 1
            if not self.answer() and not self.process.hands:
                return turns


def _ended(lease: str) -> tuple[str, Any]:
    outcome = Outcome(kind=Kind.SUCCEEDED, exit_code=0, started=1.0, ended=1.0)
    return lease, wire.from_outcome(outcome)
