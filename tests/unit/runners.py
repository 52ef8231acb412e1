"""A real command runner in a process of its own, driven over its wire; no database anywhere."""

import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs import clock
from jobs.execution import processes
from jobs.outcome import Outcome
from jobs.work import Work
from jobs.worker import birth, wire
from jobs.worker.page import Page
from jobs.worker.wire import Channel

ROOT = Path(__file__).resolve().parents[2]
KILL_SECONDS = 1.0
OUTPUT_LIMIT = 65_536


def newborn(
    role: dict[str, Any],
    environment: Mapping[str, str],
    fds: Sequence[int],
    *,
    prefix: Sequence[str] = (),
    **streams: Any,
) -> subprocess.Popen[bytes]:
    """A process of a worker, started afresh."""
    near, far = socket.socketpair()
    with near, far:
        told = {"dumpable": False, **role, "environment": far.fileno()}
        process = subprocess.Popen(
            [*prefix, *birth.program(told)],
            cwd=ROOT,
            env=birth.bare(),
            pass_fds=[far.fileno(), *fds],
            **streams,
        )
        far.close()
        birth.give(near, {os.fsencode(n): os.fsencode(v) for n, v in environment.items()})
    return process


class Runner:
    """What a ledger process sees of one."""

    def __init__(
        self,
        slots: int = 16,
        *,
        prefix: Sequence[str] = (),
        fds: Sequence[int] = (),
        **settings: Any,
    ) -> None:
        near, far = wire.pair()
        lock, page = os.open(os.devnull, os.O_RDONLY), Page.new()
        role = {"role": "runner", "index": 0, "slots": slots, "page": page.fd}
        role |= {"fds": [far.fileno()], "lock": lock, "dumpable": settings.get("DUMPABLE", False)}
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.unit.runner_settings",
            "SHOWN_TO_COMMANDS": "yes",
            "SHOWN_SECRET": "hunter2",
            "HIDDEN_FROM_COMMANDS": "hunter2",
            "TEST_QUEUECTL": json.dumps(settings),
        }
        self.process = newborn(
            role,
            environment,
            [far.fileno(), lock, page.fd, *fds],
            prefix=prefix,
            stdin=subprocess.PIPE,  # of its own, which no command may read
        )
        far.close()
        for fd in (lock, page.fd):
            os.close(fd)
        self.channel = Channel(near)
        self.outcomes: dict[str, Outcome] = {}
        self.started: dict[str, float] = {}
        self.returned: set[str] = set()

    def tell(self, tag: str, *values: Any) -> None:
        self.channel.send(tag, *values)
        while self.channel.wants_write:
            select.select([], [self.channel], [], 5)
            self.channel.flush()

    def give(self, *works: Work) -> None:
        """Renew the lease, so that nothing is fenced off by accident, and hand the works over."""
        self.tell(wire.RENEW, clock.monotonic() + 60)
        self.tell(wire.RUN, [wire.from_work(work) for work in works])

    def run(self, work: Work, timeout: float = 20) -> Outcome:
        self.give(work)
        return self.outcome(work, timeout)

    def outcome(self, work: Work, timeout: float = 20) -> Outcome:
        """The outcome of a work, once it is there."""
        until = time.monotonic() + timeout
        while work.lease not in self.outcomes:
            self.listen(until)
        return self.outcomes[work.lease]

    def wait_for_start(self, *works: Work) -> None:
        """Only works claimed ahead are announced."""
        until = time.monotonic() + 10
        while not self.started.keys() >= {work.lease for work in works}:
            self.listen(until)

    def listen(self, until: float) -> None:
        """Take what the runner says next; fails when it says nothing until then."""
        left = until - time.monotonic()
        ready = select.select([self.channel], [], [], max(0, left))[0]
        assert ready, f"the runner said nothing more; outcomes so far: {self.outcomes}"
        for tag, *values in self.channel.receive():
            if tag == wire.ENDED:
                for lease, packed in values[0]:
                    assert lease not in self.outcomes, "one work has two outcomes"
                    self.outcomes[lease] = found = wire.to_outcome(packed)
                    self.tell(wire.TAKEN, found.stdout.kept + found.stderr.kept)
            elif tag == wire.STARTED:
                self.started |= dict(values[0])
            elif tag == wire.RETURNED:
                self.returned |= set(values[0])

    def close(self) -> int:
        """Leave the runner alone; returns its exit code."""
        self.channel.close()
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(20)


def lives(pid: int) -> bool:
    return pid in processes.processes()
