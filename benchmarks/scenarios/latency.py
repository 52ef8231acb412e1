"""How soon an idle worker takes up a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

from ..databases import Database
from ..environments import QUEUECTL, Peer
from ..measuring import Figures, Measurement, alternate, percentile, series
from ..processes import Failed
from ..stage import Stage
from .drains import RIVAL_DATABASE

PERCENTS = (50, 95, 99)


def idle_worker(stage: Stage) -> Iterator[Measurement]:
    kinds = ["commands", "tasks"] if stage.can_run_tasks() else ["commands"]
    for database in stage.databases.values():
        for kind in kinds:
            taken = [_wait(stage, kind, database) for _ in range(stage.pairs)]
            for percent in PERCENTS:
                ours = series("QueueCTL", taken, f"p{percent}")
                what = f"{kind}, {database.name}, p{percent}"
                yield Measurement(what, "ms", ours, more_is_better=False, notes=(_many(stage),))


def peers(stage: Stage) -> Iterator[Measurement]:
    if not stage.can_run_tasks():
        return
    for peer, _ in stage.peers.values():
        for key in peer.databases:
            try:
                theirs_on = stage.database(key)
                ours_on = stage.database(RIVAL_DATABASE.get(key, key))
                ours, theirs = alternate(
                    partial(_wait, stage, "tasks", ours_on),
                    partial(_wait, stage, "", theirs_on, peer),
                    stage.pairs,
                )
            except Failed as failure:
                stage.skip(f"Pick-up against {peer.title} ({key})", str(failure))
                continue
            assert ours_on is not None
            for percent in PERCENTS:
                yield Measurement(
                    f"tasks, {ours_on.name}, p{percent}",
                    "ms",
                    series("QueueCTL", ours, f"p{percent}"),
                    series(peer.title, theirs, f"p{percent}"),
                    more_is_better=False,
                    notes=(f"{_many(stage)}; {peer.version}: {peer.shape}",),
                )


def _wait(stage: Stage, kind: str, database: Database | None, peer: Peer = QUEUECTL) -> Figures:
    words = [kind] if kind else []
    with database.fresh() if database else nullcontext("redis:") as url:
        found = stage.program(*words, "latency", _jobs(stage), url=url, peer=peer)
    # Not below the clock's own resolution, or a ratio would mean nothing.
    waits = [max(0.01, wait) for wait in found["milliseconds"]]
    return {f"p{percent}": percentile(waits, percent) for percent in PERCENTS}


def _jobs(stage: Stage) -> int:
    return stage.some(200, 20)


def _many(stage: Stage) -> str:
    return f"{_jobs(stage)} jobs, 50 to 150 ms apart"
