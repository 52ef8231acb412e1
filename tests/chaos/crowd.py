"""Fifty workers that start in one moment on one small queue: nobody dies, everybody gets a share.

    python -m tests.chaos.crowd --database sqlite

They have the timings of a worker that is told none, not the short ones of the other runs, with
which fifty would do little else than tell that they live.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import psutil
import psycopg

from tests.acceptance.site import Site, Worker, alive
from tests.chaos.place import place
from tests.postgres import Cluster
from tests.support import wait_until

T = TypeVar("T")
COMMAND = """
who="$QUEUECTL_JOB_ID $QUEUECTL_ATTEMPT $$ 0"
echo "start $who" >>{log}; sleep 0.5; echo "end $who" >>{log}
"""
SHARES = "SELECT worker_id, count(*) FROM queuectl_attempt GROUP BY worker_id"
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"


OTHERS = 20
"""Connections that are nobody's of the crowd."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.crowd", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--patience", type=float, default=120, help="seconds for each step")
    asked = parser.parse_args()
    with ExitStack() as stack:
        there = stack.enter_context(place(asked.database))
        if there.cluster is not None:
            allow_connections(there.cluster, 2 * asked.workers + OTHERS)
        directory = stack.enter_context(TemporaryDirectory(prefix="queuectl-crowd-"))
        site = Site(there.source, Path(directory))
        stack.callback(site.close)
        complaints = Crowd(site, asked.workers, asked.jobs, asked.patience).complaints()
    sys.stdout.write("".join(f"  {line}\n" for line in complaints) or "  all held\n")
    return 1 if complaints else 0


def allow_connections(cluster: Cluster, number: int) -> None:
    """Each worker has two, its listener's being one; what a server allows by itself are 100."""
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET max_connections = {number}")
    cluster.crash()
    cluster.start_again()


class Crowd:
    def __init__(self, site: Site, workers: int, jobs: int, patience: float) -> None:
        self.site, self.size, self.patience = site, workers, patience
        self.keys = [f"job{number}" for number in range(jobs)]
        self.workers: list[Worker] = []
        self.parts: set[psutil.Process] = set()

    def complaints(self) -> list[str]:
        """Starts, gives work to and stops all of them; what should not be."""
        try:
            self._step("started", self._start)
            self._step("had all jobs enqueued", self._enqueue)
            self._step("had done them", self._wait)
            found = [*self._deaths(), *self._jobs(), *self._shares()]
            return found + self._step("stopped", lambda: list(self._stop()))
        except AssertionError as late:
            return [str(late)]

    def _step(self, name: str, step: Callable[[], T]) -> T:
        began = time.monotonic()
        found = step()
        self._say(f"{name} after {time.monotonic() - began:.1f} s")
        return found

    def _say(self, line: str) -> None:
        sys.stdout.write(f"  {line}\n")
        sys.stdout.flush()

    def _start(self) -> None:
        self.workers = [self.site.spawn_worker("--count", "1") for _ in range(self.size)]

        def is_settled(worker: Worker) -> bool:
            return "Started" in worker.output or worker.poll() is not None

        wait_until(
            lambda: all(map(is_settled, self.workers)),
            timeout=self.patience,
            message=lambda: f"{sum(map(is_settled, self.workers))} of {self.size} started",
        )
        living = [worker for worker in self.workers if worker.poll() is None]
        self.parts = {part for worker in living for part in worker.supervisor().children()}

    def _enqueue(self) -> None:
        command = COMMAND.format(log=self.site.effects_file)
        jobs = [json.dumps({"id": key, "command": command}) for key in self.keys]
        self.site.run("enqueue", "-", input="\n".join(jobs), timeout=self.patience)

    def _wait(self) -> None:
        self.site.wait_for("completed", timeout=self.patience)

    def _deaths(self) -> Iterator[str]:
        ended = [worker for worker in self.workers if worker.poll() is not None]
        yield from (f"a worker ended by itself:\n{worker.log}" for worker in ended)
        if died := [part.pid for part in self.parts if not alive(part)]:
            yield f"parts of workers died: {died}"

    def _jobs(self) -> Iterator[str]:
        for what in ("start", "end"):
            told = Counter(effect.job for effect in self.site.effects(what))
            if told != Counter(self.keys):
                yield f"not every job has one {what}: {(told - Counter(self.keys)) or 'some none'}"
        rows = self.site.sql("SELECT number, outcome FROM queuectl_attempt")
        if others := Counter(rows) - Counter([(1, "succeeded")] * len(self.keys)):
            yield f"attempts that none should need: {others}"

    def _shares(self) -> Iterator[str]:
        shares = dict(self.site.sql(SHARES))  # type: ignore[arg-type]
        self._say(f"{min(shares.values())} to {max(shares.values())} jobs by each of {len(shares)}")
        if self.site.is_postgresql:
            self._say(f"{self.site.sql(CONNECTIONS)[0][0]} connections")
        if len(shares) < self.size:
            yield f"{self.size - len(shares)} workers got nothing to do"

    def _stop(self) -> Iterator[str]:
        for worker in self.workers:
            worker.terminate()
        codes = Counter(worker.wait(self.patience) for worker in self.workers)
        if codes != {0: self.size}:
            yield f"asked to stop they ended with {dict(codes)}"
        warned = Counter(
            line.split(" ", 1)[1]
            for worker in self.workers
            for line in worker.log.splitlines()
            if " WARNING " in line or " ERROR " in line
        )
        for line, times in warned.items():
            self._say(f"{times} times: {line}")
        if any("Traceback" in worker.log for worker in self.workers):
            yield "a traceback in a worker's log"


if __name__ == "__main__":
    sys.exit(main())
