"""QueueCTL: one worker with two slots, or two with one. `program.py KIND VERB …`, see KINDS."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import contest
import tally
from django_queue import DjangoQueue

QUEUECTL = [sys.executable, "-c", "from jobs.cli.console import main; main()"]


class QueueCTL(DjangoQueue):
    def workers(self) -> list[list[str]]:
        return [[*QUEUECTL, "worker", "start", "--queue", "default", "--count", "2"]]

    def recorded(self) -> int:
        """Completions of jobs in this queue, each with the record of its one attempt."""
        return self._succeeded().filter(job__state="completed", job__queue="default").count()

    def all_recorded(self, count: int) -> bool:
        """By the attempts alone: a join with a million rows, asked often, costs the worker its core.

        An attempt's record and its job's completion are one commit, and `drain` counts both at the end.
        """
        return tally.started() >= count and self._succeeded().count() >= count

    def _succeeded(self) -> Any:
        from jobs.models import Attempt

        return Attempt.objects.filter(outcome="succeeded", number=1)


class Tasks(QueueCTL):
    """No-op Django tasks."""

    def enqueue_chunk(self, numbers: Sequence[int]) -> None:
        from tasks import noop

        backend = noop.get_backend()
        if hasattr(backend, "enqueue_many"):
            backend.enqueue_many([(noop, [number], {}) for number in numbers])
        else:
            super().enqueue_chunk(numbers)


class TwoWorkers(Tasks):
    """The same tasks, two workers with one slot each."""

    def workers(self) -> list[list[str]]:
        return [[*QUEUECTL, "worker", "start", "--queue", "default", "--count", "1"]] * 2


class Commands(QueueCTL):
    """`true`, run by /bin/sh -c: it cannot tally, so the attempts' records tell."""

    command = os.environ.get("BENCH_COMMAND", "true")
    look_every = 0.05  # a look costs two queries

    def enqueue(self, number: int) -> None:
        from jobs import operations

        operations.enqueue({"id": f"n{number}", "command": self.command})

    def enqueue_chunk(self, numbers: Sequence[int]) -> None:
        from jobs import operations

        operations.enqueue_many([{"id": f"n{n}", "command": self.command} for n in numbers])

    def all_recorded(self, count: int) -> bool:
        return not self._left() and self._succeeded().count() >= count

    def _left(self) -> bool:
        from jobs.models import Job

        mine = Job.objects.filter(queue="default").order_by()
        # One partial index each.
        return mine.filter(state="pending").exists() or mine.filter(state="processing").exists()

    def progress(self) -> int:
        from jobs.models import Attempt

        return Attempt.objects.order_by("-id").values_list("id", flat=True).first() or 0

    def starts(self) -> list[tuple[int, int]]:
        from jobs.models import Attempt

        rows = Attempt.objects.filter(job__queue="default").values_list("job__key", "started_at")
        return [(int(key[1:]), round(moment.timestamp() * 1e9)) for key, moment in rows]


# Enqueueing, against the bare ORM


WARM_UP = 10


def rows(numbers: Sequence[int]) -> list[Any]:
    """Unsaved rows such as `enqueue` makes of the same commands."""
    from django.utils import timezone

    from jobs.models.job import fresh

    now = timezone.now()
    return [fresh(now, key=f"n{number}", command="true") for number in numbers]


def enqueue_singly(how: str, count: str) -> dict[str, float]:
    """Jobs a second, a transaction each."""
    queue, numbers = Commands(), range(int(count))
    queue.prepare()

    def store(some: Sequence[int]) -> None:
        if how == "bare":
            for row in rows(some):
                row.save(force_insert=True)
        else:
            for number in some:
                queue.enqueue(number)

    return _rate_of(store, numbers)


def enqueue_in_bulk(how: str, count: str) -> dict[str, float]:
    """Jobs a second, one transaction for all."""
    queue, numbers = Commands(), range(int(count))
    queue.prepare()
    from django.db import transaction

    from jobs.models import Job

    def store(some: Sequence[int]) -> None:
        if how == "bare":
            with transaction.atomic():
                Job.objects.bulk_create(rows(some), batch_size=500)
        else:
            queue.enqueue_chunk(some)

    return _rate_of(store, numbers)


def _rate_of(store: Callable[[Sequence[int]], None], numbers: range) -> dict[str, float]:
    store(range(-WARM_UP, 0))
    began = time.perf_counter()
    store(numbers)
    return {"rate": len(numbers) / (time.perf_counter() - began)}


def prepare() -> dict[str, str]:
    QueueCTL().prepare()
    return {}


# A crowd of rows that are none of the worker's business


def crowd(kind: str, count: str) -> dict[str, int]:
    """Copy one job a million times by SQL: pending in another queue, scheduled, or finished."""
    queue = Commands()
    queue.prepare()
    from datetime import timedelta

    from django.db import connection
    from django.utils import timezone

    from jobs.models import Job

    now = timezone.now()
    fields: dict[str, dict[str, Any]] = {
        "pending": {"queue": "other"},
        "scheduled": {"state": "scheduled", "due_at": now + timedelta(days=30)},
        "finished": {"state": "completed", "finished_at": now},
    }
    first = rows([0])[0]
    first.key = "crowd"
    for name, value in fields[kind].items():
        setattr(first, name, value)
    first.save(force_insert=True)
    columns = [f.column for f in Job._meta.concrete_fields if not f.primary_key]
    quoted = [connection.ops.quote_name(name) for name in columns]
    key = Job._meta.get_field("key").column
    copied = [
        f"t.{q} || n.i" if name == key else f"t.{q}"
        for name, q in zip(columns, quoted, strict=True)
    ]
    table = connection.ops.quote_name(Job._meta.db_table)
    numbers = (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {int(count)})"
    )
    into, what = ", ".join(quoted), ", ".join(copied)
    with connection.cursor() as cursor:
        cursor.execute(f"{numbers} INSERT INTO {table} ({into}) SELECT {what} FROM {table} t, n")
    queue.analyze()
    return {"rows": Job.objects.count()}


# What became of the jobs


def history() -> dict[str, Any]:
    """Slots of every worker from its first run on, and every run of every job, in seconds."""
    Commands()
    from django.db.models import Min

    from jobs.models import Attempt, Worker

    firsts = dict(Attempt.objects.values_list("worker_id").annotate(Min("started_at")))
    workers = [
        (worker.slots, firsts[worker.id].timestamp(), _end(worker.stopped_at))
        for worker in Worker.objects.filter(id__in=firsts)
    ]
    runs = Attempt.objects.values_list("job__due_at", "started_at", "finished_at")
    return {
        "workers": workers,
        "runs": [[moment.timestamp() for moment in run] for run in runs],
        "succeeded": Attempt.objects.filter(outcome="succeeded").count(),
    }


def first_claim() -> dict[str, float]:
    """When the first of the jobs that run now was claimed, in seconds."""
    Commands()
    from django.db.models import Min

    from jobs.models import Job

    found = Job.objects.processing().aggregate(at=Min("started_at"))["at"]
    return {"at": found.timestamp()}


def _end(moment: Any) -> float:
    return moment.timestamp() if moment else time.time()


ALONE = {
    "enqueue-singly": enqueue_singly,
    "enqueue-in-bulk": enqueue_in_bulk,
    "prepare": prepare,
    "crowd": crowd,
    "first-claim": first_claim,
    "history": history,
}

KINDS = {"commands": Commands, "tasks": Tasks, "two-workers": TwoWorkers}

if __name__ == "__main__":
    if sys.argv[1] in KINDS:
        contest.main(KINDS[sys.argv.pop(1)]())
    else:
        contest.main(contest.Queue(), **ALONE)
