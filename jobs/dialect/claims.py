"""The statements of every turn, in plain SQL.

Compiled anew by Django each time they were most of a turn that claims few jobs: one of 22 took 4.7
to 5.5 ms, one of 44 no more than 1.4 ms longer. And a state that is a parameter makes SQLite
compile a second time, since its partial indexes serve a word, not a variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models

from .base import connection, fields_of, is_postgresql, quoted
from .values import as_json


def pending(
    jobs: type[models.Model],
    columns: Sequence[str],
    queue: str,
    limit: int,
    *,
    below_losses: int | None = None,
    tasks: bool = True,
    lock: bool = False,
) -> list[tuple[Any, ...]]:
    """The first pending jobs of a queue, as the driver gives them, see `values`.

    Of commands those lost less often than `below_losses`; only commands without `tasks`. With `lock`
    they are locked as they are read, passing over those that another transaction holds.
    """
    wanted = ["state = 'pending'", "queue = %s"]
    wanted += [] if below_losses is None else [f"(losses < {below_losses:d} OR task IS NOT NULL)"]
    wanted += [] if tasks else ["task IS NULL"]
    table = jobs._meta.db_table
    # With the table's name before it: a quoted name alone that is no column SQLite takes for a text.
    found = [f"{table}.{column}" for column in quoted(fields_of(jobs, columns))]
    statement = (
        f"SELECT {', '.join(found)} FROM {table}"
        f" WHERE {' AND '.join(wanted)} ORDER BY priority DESC, due_at, id LIMIT {limit:d}"
    )
    return _rows(statement + (" FOR UPDATE SKIP LOCKED" if lock and is_postgresql() else ""), queue)


def take(
    jobs: type[models.Model],
    ids: Sequence[int],
    *,
    lease: UUID,
    worker_id: int,
    started_at: datetime | None,
    now: datetime,
) -> int:
    """Make pending jobs a worker's, by one lease; returns how many."""
    if not ids:
        return 0
    fields = fields_of(jobs, ["lease", "worker", "started_at", "updated_at"])
    assignments = ", ".join(f"{column} = %s" for column in quoted(fields))
    written = zip(fields, [lease, worker_id, started_at, now], strict=True)
    values = [field.get_db_prep_save(value, connection()) for field, value in written]
    with connection().cursor() as cursor:
        cursor.execute(
            f"UPDATE {jobs._meta.db_table} SET state = 'processing', {assignments}"
            f" WHERE id IN ({', '.join(f'{id:d}' for id in ids)}) AND state = 'pending'",
            values,
        )
        return int(cursor.rowcount)


MANY_QUEUES, MOST_NAMES = 16, 500


def survey(
    jobs: type[models.Model],
    queues: type[models.Model],
    *,
    states: Sequence[str],
    only: Sequence[str],
    now: datetime,
) -> tuple[bool, list[str]]:
    """Whether a job of one of these states is due, and which queues are not paused: of `only`, else of
    all, or where there are many, of those in which something is pending.

    Asked at once: each question of its own is a way to the server and back, in every turn.
    What is due by LIMIT in the order of the index, not EXISTS: PostgreSQL may read the table up to the
    first match then, past every finished job (70 ms instead of 3 with half a million of them).
    """
    moment = _time(now)
    looks = [
        f"(SELECT 1 FROM {jobs._meta.db_table} WHERE state = '{state}' AND due_at <= %s"
        " ORDER BY due_at LIMIT 1)"
        for state in states
    ]
    among = f" AND name IN ({', '.join(['%s'] * len(only))})" if only else ""
    some = f"{_active(queues)}{among}" + ("" if only else f" LIMIT {MANY_QUEUES + 1:d}")
    statement = f"SELECT {', '.join([*looks, f'(SELECT {_all_names()} FROM ({some}) AS first)'])}"
    [(*due, found)] = _rows(statement, *[moment] * (len(looks) + 1), *only)
    names = as_json(found) or []
    if not only and len(names) > MANY_QUEUES:
        names = _waiting(jobs, queues, moment)
    return any(due), sorted(names)


def _waiting(jobs: type[models.Model], queues: type[models.Model], moment: Any) -> list[str]:
    """The queues, not paused, in which something is pending, by a probe of the claim's index for each.

    A site may have a queue for each of its customers: a claim that asks 200 of them takes 5 ms on SQLite
    and 60 on PostgreSQL, this and one that asks those three that matter 0.3 and 3. For a few queues
    it is dearer than not to ask (20 and 200 us).
    """
    among = "SELECT queue FROM waiting WHERE queue IS NOT NULL"
    rows = _rows(f"{_with_waiting(jobs)} {_active(queues)} AND name IN ({among})", moment)
    return [name for (name,) in rows]


def queues_without_rows(jobs: type[models.Model], queues: type[models.Model]) -> list[str]:
    """The first names under which something is pending and that are no queue's, by a probe for each queue."""
    known = f"SELECT name FROM {queues._meta.db_table}"
    rows = _rows(
        f"{_with_waiting(jobs)} SELECT queue FROM waiting"
        f" WHERE queue IS NOT NULL AND queue NOT IN ({known}){_a_text('queue')} LIMIT {MOST_NAMES:d}"
    )
    return [name for (name,) in rows]


def queues_with_pending(jobs: type[models.Model]) -> set[str]:
    """The names under which something is pending, by a probe for each; not those that are no UTF-8."""
    name = "queue" if is_postgresql() else "CAST(queue AS BLOB)"
    rows = _rows(f"{_with_waiting(jobs)} SELECT {name} FROM waiting WHERE queue IS NOT NULL")
    return {name if isinstance(name, str) else name.decode(errors="replace") for (name,) in rows}


def longest_pending(jobs: type[models.Model], queue: str) -> int | None:
    """The id of the job of a queue that is pending for longest, by a probe of the claim's index for each
    priority: the first of each stands there in the order of time.

    In the order of time alone all of the queue's would be read and sorted.
    """
    ours = f"FROM {jobs._meta.db_table} WHERE state = 'pending' AND queue = %s"
    lower, last = f"(SELECT priority {ours} AND priority < levels.priority", "DESC LIMIT 1)"
    first = f"{ours} AND priority = levels.priority ORDER BY due_at, id LIMIT 1"
    rows = _rows(
        f"WITH RECURSIVE levels(priority) AS (SELECT (SELECT priority {ours} ORDER BY priority {last}"
        f" UNION ALL SELECT {lower} ORDER BY priority {last} FROM levels WHERE priority IS NOT NULL)"
        f" SELECT (SELECT id {first}) FROM levels WHERE priority IS NOT NULL"
        f" ORDER BY (SELECT due_at {first}) LIMIT 1",
        *[queue] * 4,
    )
    return rows[0][0] if rows else None


def _with_waiting(jobs: type[models.Model]) -> str:
    following = f"(SELECT queue FROM {jobs._meta.db_table} WHERE state = 'pending'%s ORDER BY queue LIMIT 1)"
    return (
        f"WITH RECURSIVE waiting(queue) AS (SELECT {following % ''} UNION ALL"
        f" SELECT {following % ' AND queue > waiting.queue'} FROM waiting WHERE queue IS NOT NULL)"
    )


def _active(queues: type[models.Model]) -> str:
    table = queues._meta.db_table
    return (
        f"SELECT name FROM {table} WHERE (paused_at IS NULL OR paused_until <= %s){_a_text('name')}"
    )


def _a_text(column: str) -> str:
    """What a hand has put there instead SQLite keeps, and fails on when it is to be said as JSON."""
    return "" if is_postgresql() else f" AND typeof({column}) = 'text'"


def _all_names() -> str:
    return "json_agg(name)" if is_postgresql() else "json_group_array(name)"


def _rows(statement: str, *params: Any) -> list[tuple[Any, ...]]:
    with connection().cursor() as cursor:
        cursor.execute(statement, params)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _time(moment: datetime) -> Any:
    return connection().ops.adapt_datetimefield_value(moment)
