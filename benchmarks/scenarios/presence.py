"""What it costs to have QueueCTL there at all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

from .. import processes
from ..measuring import Figures, Measurement, alternate, series
from ..stage import CONSOLE, Stage

STARTS = 10


def idle(stage: Stage) -> Iterator[Measurement]:
    for database in stage.databases.values():
        with database.fresh() as url:
            stage.program("prepare", url=url)
            taken = [_rest(stage, url) for _ in range(stage.pairs)]
        note = f"2 slots; {stage.some(30, 3)} s each, of the worker's processes, not the server's"
        for name, unit in (("CPU", "% of a core"), ("PSS", "MB")):
            ours = series("QueueCTL", taken, name)
            what = f"{name}, {database.name}"
            yield Measurement(what, unit, ours, more_is_better=False, notes=(note,))


def _rest(stage: Stage, url: str) -> Figures:
    seconds = stage.some(30, 3)
    command = [stage.python, "-c", CONSOLE, "worker", "start", "--count", "2"]
    with processes.started(
        command,
        environment=stage.environment(url),
        cwd=stage.directory,
        log=stage.directory / "worker.log",
    ) as worker:
        time.sleep(3)  # until it has started
        members = processes.of_worker(worker.pid)
        before, began = processes.cpu_seconds(members), time.monotonic()
        time.sleep(seconds)
        used = processes.cpu_seconds(members) - before
        return {
            "CPU": 100 * used / (time.monotonic() - began),
            "PSS": processes.pss_megabytes(members),
        }


def start(stage: Stage) -> Iterator[Measurement]:
    for database in stage.databases.values():
        with database.fresh() as url:
            stage.program("prepare", url=url)
            ours, rival = alternate(
                partial(_typical, partial(stage.queuectl, "enqueue", "true", url=url)),
                partial(_typical, partial(_set_up, stage, url)),
                stage.pairs,
            )
        yield Measurement(
            f"process, {database.name}",
            "ms",
            series("queuectl enqueue true", ours, "ms"),
            series("django.setup()", rival, "ms"),
            more_is_better=False,
            notes=(f"each figure is the median of {STARTS} starts",),
        )


def _typical(start_once: Callable[[], processes.Finished]) -> Figures:
    return {"ms": statistics.median(start_once().seconds * 1000 for _ in range(STARTS))}


def _set_up(stage: Stage, url: str) -> processes.Finished:
    return processes.run(
        [stage.python, "-c", "import django; django.setup()"],
        environment=stage.environment(url),
        cwd=stage.directory,
    )
