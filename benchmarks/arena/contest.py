"""What every queue is put through, by the same code: `python program.py VERB ARGUMENTS`.

    load N         make its tables, enqueue N jobs, refresh the database's statistics
    drain N        start its workers, wait until N completions are recorded, end them
    latency N      with idle workers, enqueue N jobs one at a time from this process

The last line printed is a JSON object. Whatever differs between queues is a method of `Queue`.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import tally

PATIENCE_SECONDS = 60.0
"""A queue that records nothing for this long is given up."""


class Queue:
    """One queue in its best documented configuration."""

    look_every = 0.002
    """Seconds between looks whether all is done; looking at the tally costs nothing."""

    def prepare(self) -> None:
        """Make its tables in an empty database."""

    def enqueue(self, number: int) -> None:
        """Commit one job that calls `tally.mark(number)`."""
        raise NotImplementedError

    def enqueue_many(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.enqueue(number)

    def analyze(self) -> None:
        """Refresh the database's statistics, without which PostgreSQL plans badly."""

    def workers(self) -> list[list[str]]:
        """The commands that make up a worker with two slots."""
        raise NotImplementedError

    def recorded(self) -> int:
        """How many completions are durably recorded."""
        raise NotImplementedError

    def all_recorded(self, count: int) -> bool:
        """Asked often, so the tally is looked at before the database is."""
        return tally.started() >= count and self.recorded() >= count

    def starts(self) -> list[tuple[int, int]]:
        """(number, moment in nanoseconds) of every run."""
        return tally.read()

    def progress(self) -> int:
        return tally.started()


def load(queue: Queue, count: int) -> dict[str, Any]:
    queue.prepare()
    began = time.perf_counter()
    queue.enqueue_many(range(count))
    seconds = time.perf_counter() - began
    queue.analyze()
    return {"enqueued": count, "seconds": seconds}


def drain(queue: Queue, count: int) -> dict[str, Any]:
    """`seconds` runs from the first job's start to the last completion's record, for every queue.

    So start-up, which `with_start` includes, weighs the same whatever the size.
    """
    launched = time.time_ns()
    with running(queue.workers()) as alive:
        wait_for(queue, lambda: queue.all_recorded(count), alive)
        ended = time.time_ns()
    starts = queue.starts()
    return {
        "seconds": (ended - min(moment for _, moment in starts)) / 1e9,
        "with_start": (ended - launched) / 1e9,
        "recorded": queue.recorded(),
        "each_once": sorted(number for number, _ in starts) == list(range(count)),
    }


REST_SECONDS = 0.01
"""After an enqueue. To look at once whether the task has run takes a processor from the worker."""


def latency(queue: Queue, count: int) -> dict[str, Any]:
    """Milliseconds from the return of the enqueue's commit to the first line of the task."""
    rng = random.Random(17)
    committed = {}
    queue.prepare()
    queue.analyze()
    with running(queue.workers()) as alive:
        queue.enqueue(0)
        wait_for(queue, lambda: queue.all_recorded(1), alive)
        for number in range(1, count + 1):
            time.sleep(rng.uniform(0.05, 0.15))
            queue.enqueue(number)
            committed[number] = time.time_ns()
            time.sleep(REST_SECONDS)
            wait_for(queue, lambda: queue.progress() > number, alive)  # noqa: B023
        wait_for(queue, lambda: queue.all_recorded(count + 1), alive)
    started = dict(queue.starts())
    # A worker may be so quick that the task runs before the enqueue has returned.
    waits = [max(0, started[number] - moment) / 1e6 for number, moment in committed.items()]
    return {"milliseconds": waits}


@contextmanager
def running(commands: Sequence[Sequence[str]]) -> Iterator[Callable[[], bool]]:
    """The workers, each in a session of its own; gives a function that says whether all live."""
    with open(os.environ["BENCH_LOG"], "ab") as log:
        processes = [
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            for command in commands
        ]
    try:
        yield lambda: all(process.poll() is None for process in processes)
    finally:
        for process in processes:
            end(process)


def end(process: subprocess.Popen[bytes], patience: float = 15.0) -> None:
    """Ask by SIGTERM; then kill the process and what it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(queue: Queue, is_done: Callable[[], bool], alive: Callable[[], bool]) -> None:
    """Look again and again; give up when nothing moves, or a worker has died."""
    last, moved = -1, time.monotonic()
    while not is_done():
        if (now := queue.progress()) != last:
            last, moved = now, time.monotonic()
        if time.monotonic() - moved > PATIENCE_SECONDS:
            sys.exit(f"nothing moved for {PATIENCE_SECONDS:g} s; {last} jobs had run")
        if not alive():
            sys.exit(f"a worker died; {last} jobs had run")
        time.sleep(queue.look_every)


def main(queue: Queue, **more: Callable[..., Any]) -> None:
    """Be the program of a queue; `more` are verbs that only it knows."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its workers are ended too
    verb, *arguments = sys.argv[1:]
    common: dict[str, Callable[..., Any]] = {
        "load": lambda count: load(queue, int(count)),
        "drain": lambda count: drain(queue, int(count)),
        "latency": lambda count: latency(queue, int(count)),
    }
    print(json.dumps((common | more)[verb](*arguments)))
