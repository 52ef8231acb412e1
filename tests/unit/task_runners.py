"""A real task runner in a process of its own, driven over its wire; no database anywhere."""

import json
import os
import select
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from jobs.outcome import Outcome
from jobs.work import About, Work
from jobs.worker import wire
from jobs.worker.page import Page
from jobs.worker.wire import Channel
from tests.unit.builders import work
from tests.unit.runners import newborn


class TaskRunner:
    """What a ledger process sees of one; `said` is where its stderr goes, `bell` its supervisor's end."""

    def __init__(self, said: Path, bell: int | None = None) -> None:
        near, far = wire.pair()
        fds, page = [os.open(os.devnull, os.O_RDWR) for _ in range(2)], Page.new()
        if bell is not None:
            os.dup2(bell, fds[0])
        self.page = page
        role = {"role": "tasks", "index": 0, "page": page.fd, "bell": fds[0], "lock": fds[1]}
        role |= {"worker": "worker1", "supervisor": os.getpid(), "lock_path": uuid4().hex}
        with said.open("wb") as stderr:
            self.process = newborn(
                {**role, "fds": [far.fileno()]},
                os.environ | {"DJANGO_SETTINGS_MODULE": "tests.unit.runner_settings"},
                [far.fileno(), page.fd, *fds],
                stderr=stderr,
            )
        far.close()
        for fd in (*fds, page.fd):
            os.close(fd)
        self.channel = Channel(near)
        self.ended: list[tuple[str, Outcome]] = []

    def run(self, *works: Work, timeout: float = 10) -> list[Outcome]:
        """Their outcomes as they come, one for each; fails when they do not."""
        before = len(self.ended)
        for leases_ended in self.answers(wire.ENDED, works, timeout):
            self.ended += [(lease, wire.to_outcome(packed)) for lease, packed in leases_ended]
        found = self.ended[before:]
        assert [lease for lease, _ in found] == [work.lease for work in works]
        return [outcome for _, outcome in found]

    def answers(self, expected: str, works: Sequence[Work], timeout: float = 10) -> Iterator[Any]:
        """What it says of each of these works, all of this one sort."""
        self.channel.send(wire.RUN, [wire.from_work(work) for work in works])
        until, said = time.monotonic() + timeout, 0
        while said < len(works):
            assert select.select([self.channel], [], [], max(0, until - time.monotonic()))[0]
            for tag, *values in self.channel.receive():
                assert tag == expected
                said += len(values[0])
                yield values[0]

    def close(self) -> int:
        """Leave the runner alone; returns its exit code."""
        self.channel.close()
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()


def task_work(name: str, *args: Any) -> Work:
    return work(
        command=None,
        task=f"tests.task_functions.{name}",
        args=json.dumps({"args": args, "kwargs": {}}),
        about=About("default", 5, None, time.time(), ()),
    )
