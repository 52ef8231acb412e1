"""A full queue is emptied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

from ..databases import Database, installed
from ..environments import QUEUECTL, Peer
from ..measuring import Figures, Measurement, alternate, series
from ..processes import Failed, run
from ..stage import Stage

CROWD = 1_000_000
RIVAL_DATABASE = {"redis": "postgres"}
"""Which of ours a peer elsewhere is compared with."""

BEST = {"sqlite": "tasks", "postgres": "two-workers"}
"""What of ours is drained in turn with a peer: on SQLite one writer is fastest, on PostgreSQL two
workers keep two cores busier than one, as the ledger of one and its server take turns.
"""

RIVALS = {
    "xargs -P2": ["xargs", "-P2", "-I{}", "sh", "-c", "true"],
    "GNU parallel -j2": ["parallel", "-j2", "sh -c true #{}"],
}


def commands(stage: Stage) -> Iterator[Measurement]:
    for key, database in stage.databases.items():
        one_of_ours = partial(drain, stage, "commands", database)
        size = stage.calibrated(("queuectl", "commands", key), one_of_ours)
        for name, command in RIVALS.items():
            try:
                program = installed(command[0], package=command[0])
            except Failed as failure:
                stage.skip(f"Commands against {name}", str(failure))
                continue
            one_of_theirs = partial(without_queue, [program, *command[1:]])
            their_size = stage.calibrated((name,), one_of_theirs)
            ours, theirs = alternate(
                partial(one_of_ours, size), partial(one_of_theirs, their_size), stage.pairs
            )
            yield _row(f"commands, {database.name}", ours, name, theirs, size)


def without_queue(command: list[str], size: int) -> Figures:
    """Commands a second of a program that reads a line for each."""
    lines = "".join(f"{number}\n" for number in range(size))
    seconds = run(command, stdin=lines).seconds
    return {"rate": size / seconds}


def tasks(stage: Stage) -> Iterator[Measurement]:
    if not stage.can_run_tasks():
        return
    for key, database in stage.databases.items():
        size = _task_size(stage, key, database)
        two, one = alternate(
            partial(drain, stage, "two-workers", database, size),
            partial(drain, stage, "tasks", database, size),
            stage.pairs,
        )
        what = f"tasks, {database.name}, two workers of one slot"
        yield _row(what, two, "one of two", one, size)


def task_peers(stage: Stage) -> Iterator[Measurement]:
    if not stage.can_run_tasks():
        return
    for peer, _ in stage.peers.values():
        for key in peer.databases:
            try:
                yield _against(stage, peer, key)
            except Failed as failure:
                stage.skip(f"Tasks against {peer.title} ({key})", str(failure))


def _against(stage: Stage, peer: Peer, key: str) -> Measurement:
    theirs_on = stage.database(key)
    ours_key = RIVAL_DATABASE.get(key, key)
    ours_on = stage.database(ours_key)
    assert ours_on is not None
    kind = BEST[ours_key]
    our_size = _task_size(stage, ours_key, ours_on, kind)
    one_of_theirs = partial(drain, stage, "", theirs_on, peer=peer)
    their_size = stage.calibrated((peer.name, key), one_of_theirs)
    ours, theirs = alternate(
        partial(drain, stage, kind, ours_on, our_size),
        partial(one_of_theirs, their_size),
        stage.pairs,
    )
    row = _row(f"tasks, {ours_on.name}", ours, peer.title, theirs, our_size)
    notes = (*row.notes, f"{peer.version}: {their_size:,} jobs; {peer.shape}")
    return Measurement(row.what, row.unit, row.ours, row.rival, notes=notes)


def crowd(stage: Stage) -> Iterator[Measurement]:
    """Tasks where they can run, as they show a slow claim better than commands do."""
    kind = "tasks" if stage.can_run_tasks() else "commands"
    for key, database in stage.databases.items():
        size = stage.calibrated(("queuectl", kind, key), partial(drain, stage, kind, database))
        alone = partial(drain, stage, kind, database, size)
        for sort in ("pending", "scheduled", "finished"):
            with database.fresh() as template:
                rows = stage.some(CROWD, 20_000)
                stage.program("crowd", sort, rows, url=template)
                beside, without = alternate(partial(alone, template=template), alone, stage.pairs)
            where = " in another queue" if sort == "pending" else ""
            what = f"{kind}, {database.name}, beside {rows:,} {sort}{where}"
            yield _row(what, beside, "without", without, size)


def drain(
    stage: Stage,
    kind: str,
    database: Database | None,
    size: int,
    peer: Peer = QUEUECTL,
    template: str = "",
) -> Figures:
    """Jobs a second of one queue in a new database. Raises Failed unless each job ran once."""
    words = [kind] if kind else []
    with database.fresh(template) if database else nullcontext("redis:") as url:
        stage.program(*words, "load", size, url=url, peer=peer)
        found = stage.program(*words, "drain", size, url=url, peer=peer)
    if found["recorded"] != size or not found["each_once"]:
        raise Failed(
            f"{peer.title} recorded {found['recorded']:,} completions of {size:,} jobs;"
            f" each ran once: {'yes' if found['each_once'] else 'no'}"
        )
    return {"rate": size / found["seconds"], "with_start": size / found["with_start"]}


def _task_size(stage: Stage, key: str, database: Database, kind: str = "tasks") -> int:
    return stage.calibrated(("queuectl", kind, key), partial(drain, stage, kind, database))


def _row(
    what: str, ours: list[Figures], rival: str, theirs: list[Figures], size: int
) -> Measurement:
    whole = series("", ours, "with_start")
    notes = (f"{size:,} jobs; with QueueCTL's start-up {whole.median:,.0f}/s",)
    return Measurement(
        what, "jobs/s", series("QueueCTL", ours, "rate"), series(rival, theirs, "rate"), notes=notes
    )
