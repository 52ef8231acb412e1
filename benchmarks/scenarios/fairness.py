"""Many at once, and the short beside the long."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from subprocess import Popen

from .. import processes
from ..databases import Database
from ..measuring import Figures, Measurement, series
from ..processes import Failed
from ..stage import CONSOLE, Stage

Span = tuple[float, float]


def thousand(stage: Stage) -> Iterator[Measurement]:
    number = stage.some(1000, 50)
    for database in stage.databases.values():
        taken = [_all_at_once(stage, database, number) for _ in range(stage.pairs)]
        for name, unit in (("all started within", "s"), ("PSS of the worker", "MB")):
            ours = series("QueueCTL", taken, name)
            what = f"{number:,} commands, {database.name}, {name}"
            yield Measurement(what, unit, ours, more_is_better=False)


def _all_at_once(stage: Stage, database: Database, number: int) -> Figures:
    seconds = stage.some(10, 3)
    with database.fresh() as url:
        _enqueue(stage, url, [f"exec sleep {seconds}"] * number)
        with ExitStack() as workers:
            worker = workers.enter_context(_worker(stage, url, slots=number))
            most, memory, claimed = 0, 0.0, 0.0
            while worker.poll() is None:
                running = processes.commands_under(worker.pid)
                if running > most:
                    most = running
                    memory = processes.pss_megabytes(processes.of_worker(worker.pid))
                if running == number and not claimed:
                    claimed = stage.program("first-claim", url=url)["at"]
                time.sleep(0.2)
        history = stage.program("history", url=url)
    if history["succeeded"] != number:
        raise Failed(f"{history['succeeded']} of {number} commands succeeded")
    if most < number:
        raise Failed(f"only {most} of {number} commands were seen running at once")
    starts = [begin for _, begin, _ in history["runs"]]
    return {"all started within": max(starts) - claimed, "PSS of the worker": memory}


def mixed(stage: Stage) -> Iterator[Measurement]:
    long_seconds = stage.some(5, 1)
    longs, shorts = stage.some(16, 6), stage.some(400, 60)
    for database in stage.databases.values():
        taken = []
        for number in range(stage.pairs):
            jobs = [f"sleep {long_seconds}"] * longs + ["sleep 0.001"] * shorts
            random.Random(number).shuffle(jobs)
            taken.append(_neglect(stage, database, jobs))
        yield Measurement(
            f"longest neglect, {database.name}",
            "ms",
            series("QueueCTL", taken, "ms"),
            more_is_better=False,
            notes=(f"{shorts} jobs of 1 ms and {longs} of {long_seconds} s, in random order",),
        )


def _neglect(stage: Stage, database: Database, jobs: Sequence[str]) -> Figures:
    with database.fresh() as url:
        _enqueue(stage, url, jobs)
        with ExitStack() as stack:
            pair = [stack.enter_context(_worker(stage, url, slots=2)) for _ in range(2)]
            for worker in pair:
                worker.wait()
        history = stage.program("history", url=url)
    if history["succeeded"] != len(jobs):
        raise Failed(f"{history['succeeded']} of {len(jobs)} jobs succeeded")
    return {"ms": 1000 * longest_neglect(history["workers"], history["runs"])}


def longest_neglect(
    workers: Sequence[tuple[int, float, float]], runs: Sequence[tuple[float, float, float]]
) -> float:
    """The longest stretch in which a slot was free throughout and a job waited throughout.

    Workers are (slots, start, end), runs (ready, start, end). One slot, free from 1 to 3 while the
    second job waits:

    >>> longest_neglect([(1, 0, 9)], [(0, 0, 1), (0, 3, 4)])
    2
    """
    last_start = max(start for _, start, _ in runs)
    return max(
        (
            min(start, free_until) - max(ready, free_from)
            for free_from, free_until in _free_spans(workers, runs)
            if free_from < last_start
            for ready, start, _ in runs
            if ready < free_until and start > free_from
        ),
        default=0,
    )


def _free_spans(
    workers: Sequence[tuple[int, float, float]], runs: Sequence[tuple[float, float, float]]
) -> Iterator[Span]:
    """When at least one slot of a live worker was free."""
    changes = [(start, slots) for slots, start, _ in workers]
    changes += [(end, -slots) for slots, _, end in workers]
    changes += [(start, -1) for _, start, _ in runs] + [(end, 1) for _, _, end in runs]
    free, since = 0, None
    for moment, change in sorted(changes):
        free += change
        if free > 0 and since is None:
            since = moment
        elif free <= 0 and since is not None:
            yield since, moment
            since = None
    if since is not None:
        yield since, max(moment for moment, _ in changes)


def _enqueue(stage: Stage, url: str, commands: Sequence[str]) -> None:
    lines = "".join(json.dumps({"command": command}) + "\n" for command in commands)
    stage.program("prepare", url=url)
    stage.queuectl("enqueue", "-", url=url, stdin=lines)


def _worker(stage: Stage, url: str, *, slots: int) -> AbstractContextManager[Popen[bytes]]:
    words = ["worker", "start", "--count", str(slots), "--until-empty"]
    return processes.started(
        [stage.python, "-c", CONSOLE, *words],
        environment=stage.environment(url),
        cwd=stage.directory,
        log=stage.directory / "worker.log",
    )
