"""How fast jobs are stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from ..databases import Database
from ..measuring import Figures, Measurement, alternate, series
from ..stage import Stage


def enqueue(stage: Stage) -> Iterator[Measurement]:
    single, bulk = stage.some(2_000, 100), stage.some(20_000, 500)
    for database in stage.databases.values():
        singly = partial(_inside, stage, database, "enqueue-singly", single)
        in_bulk = partial(_inside, stage, database, "enqueue-in-bulk", bulk)
        lines = partial(_lines, stage, database, bulk)
        with_start = f"{bulk:,} jobs; with the start of the process, which the ORM's is without"
        for what, ours, rival, bare, note in (
            ("one at a time", partial(singly, "ours"), "save()", singly, f"{single:,} jobs"),
            ("one call", partial(in_bulk, "ours"), "bulk_create()", in_bulk, f"{bulk:,} jobs"),
            ("`queuectl enqueue -`", lines, "bulk_create()", in_bulk, with_start),
        ):
            taken, theirs = alternate(ours, partial(bare, "bare"), stage.pairs)
            yield Measurement(
                f"{what}, {database.name}",
                "jobs/s",
                series("QueueCTL", taken, "rate"),
                series(rival, theirs, "rate"),
                notes=(note,),
            )


def _inside(stage: Stage, database: Database, verb: str, size: int, how: str) -> Figures:
    with database.fresh() as url:
        return stage.program(verb, how, size, url=url)


def _lines(stage: Stage, database: Database, size: int) -> Figures:
    """JSON lines into the command, as a pipe would bring them."""
    lines = "".join(
        json.dumps({"id": f"n{number}", "command": "true"}) + "\n" for number in range(size)
    )
    with database.fresh() as url:
        stage.program("prepare", url=url)
        finished = stage.queuectl("enqueue", "-", url=url, stdin=lines)
    assert f"{size:,} jobs" in finished.output, finished.output
    return {"rate": size / finished.seconds}
