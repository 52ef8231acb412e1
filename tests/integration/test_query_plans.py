"""Each hot query meets its index, and a turn's statements do not grow with its jobs."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from jobs import dialect, ledger, operations, stats
from jobs.dialect import at_once
from jobs.exceptions import JobNotFound
from jobs.models import Job, Queue, Worker
from jobs.operations.policy import must_have_room
from jobs.outcome import Kind
from jobs.states import ACTIVE, FINAL, JobState
from jobs.work import Work
from tests.integration.builders import (
    NOW,
    claim,
    make_jobs,
    make_queues,
    make_worker,
    new_job,
    reported,
    seconds,
)
from tests.integration.costs import spelled

pytestmark = pytest.mark.django_db

S = JobState
Statement = tuple[str, Any]
# As a year leaves it: nearly all have ended, a little of everything else.
MANY = {S.COMPLETED: 3000, S.CANCELLED: 300, S.PENDING: 1500, S.SCHEDULED: 1500, S.FAILED: 400}
FEW = {S.DEAD: 100, S.PROCESSING: 100}


@pytest.fixture(scope="module")
def crowd(django_db_setup: None, django_db_blocker: Any) -> Iterator[int]:
    """Thousands of jobs, of which the worker returned holds a few; the planner knows of the others.

    Statistics are made when they are made: often while nothing runs.
    """
    with django_db_blocker.unblock():
        workers = [make_worker() for _ in range(10)]
        jobs = []
        for state, number in (MANY | FEW).items():
            for index in range(number):
                fields: dict[str, Any] = {"due_at": NOW + seconds(index - 5)}
                if state == S.PROCESSING:
                    fields |= {"worker": workers[index % 10], "lease": uuid4()}
                elif state == S.PENDING:
                    fields["due_at"] = NOW - seconds(index)
                elif state in FINAL:
                    fields["finished_at"] = NOW - seconds(index)
                key, queue = f"{state}-{index}", f"q{index % 3}"
                jobs.append(new_job(key=key, state=state, queue=queue, **fields))
        waiting = [job for job in jobs if job.worker is None]
        Job.objects.bulk_create(waiting, batch_size=500)
        make_queues("q0", "q1", "q2")
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        Job.objects.bulk_create([job for job in jobs if job.worker is not None])
        yield workers[0].id
        for model in (Job, Worker, Queue):
            model.objects.all().delete()


@pytest.fixture
def worker_id(crowd: int, db: None) -> int:
    return crowd


@contextmanager
def recorded() -> Iterator[list[Statement]]:
    """Statements as they are sent: parameters apart, as a plan on SQLite depends on that."""
    statements: list[Statement] = []

    def record(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        params = list(params) if many else params
        statements.append((sql, params[0] if many else params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(record):
        yield statements


def plan(statement: Statement) -> str:
    sql, params = statement
    prefix = "EXPLAIN" if dialect.can_notify() else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        cursor.execute(f"{prefix} {sql}", params)
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def full_scans(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    return [
        line
        for line in lines
        if "Seq Scan on queuectl_job" in line
        or (line.startswith("SCAN queuectl_job") and " USING " not in line)
        or ("SCAN TABLE queuectl_job" in line and " USING " not in line)
    ]


CLAIM, SCHEDULED, FAILED = "queuectl_job_claim", "queuectl_job_scheduled", "queuectl_job_failed"
COMMAND, UNIQUE_KEY = "queuectl_job_command", "queuectl_job_unique_key"
PROCESSING, KEY, FINISHED = (
    "queuectl_job_processing",
    "queuectl_job_key",
    "queuectl_job_finished_at",
)
OF_ONE_STATE = (CLAIM, COMMAND, SCHEDULED, FAILED, PROCESSING, "queuectl_job_blocked")
PRIMARY = "queuectl_job_pkey" if connection.vendor == "postgresql" else "INTEGER PRIMARY KEY"


def _survey_of_many() -> None:
    make_queues(*(f"idle-{number}" for number in range(50)))
    assert ledger.survey((), NOW).queues == ["q0", "q1", "q2"]


def _queues_with_pending() -> None:
    make_queues("idle")
    assert len(dialect.queues_with_pending(Job)) == 3


def _claimed(worker_id: int) -> list[Work]:
    found = claim(Worker.objects.get(id=worker_id), ["q1"], free=8)
    assert len(found) == 8
    return found


def _taken_at_once(worker_id: int) -> None:
    """Inside the test's transaction, where it leaves the work to a turn."""
    first = dialect.FirstInLine(Job, Queue, ("id",), ["q1", "q2"], 2, uuid4(), worker_id)
    if dialect.can_notify():
        rows = at_once.taken_from_server(first)
    else:
        rows = at_once.taken_from_file(first, lambda row: True)
    assert len(rows) == 2


HOT: dict[str, tuple[Callable[[int], Any], set[str]]] = {
    "claim": (lambda w: dialect.pending(Job, ["id"], "q1", 8, lock=True), {CLAIM}),
    "claim, to its end": (lambda w: _claimed(w), {CLAIM}),
    "claim at once": (_taken_at_once, {CLAIM}),
    "mark started": (lambda w: ledger.mark_started([(e, NOW) for e in _claimed(w)], NOW), {CLAIM}),
    "queues without rows": (lambda w: ledger.queues_without_rows(), {CLAIM}),
    "queues with pending": (lambda w: _queues_with_pending(), {CLAIM}),
    "is anything claimable": (lambda w: ledger.is_claimable(["q1"], ledger.Room(free=1)), {CLAIM}),
    "survey": (lambda w: ledger.survey((), NOW - seconds(99)).due, {SCHEDULED, FAILED}),
    "survey of many queues": (lambda w: _survey_of_many(), {CLAIM}),
    "promote": (lambda w: ledger.promote(NOW - seconds(3), limit=50), {SCHEDULED, FAILED}),
    "next due": (lambda w: ledger.next_due(), {SCHEDULED, FAILED}),
    "longest pending": (lambda w: dialect.longest_pending(Job, "q1"), {CLAIM}),
    "cancel requests": (lambda w: ledger.cancel_requests(w), {PROCESSING}),
    "claims never heard of": (lambda w: ledger.release_unknown(w, known=set(), now=NOW), {PROCESSING}),
    "rescue": (lambda w: ledger.rescue(w, last_heard=None, now=NOW, why="gone"), {PROCESSING}),
    "strays": (lambda w: ledger.rescue_strays(NOW + seconds(999)), {PROCESSING}),
    "is any job stray": (lambda w: list(Job.objects.stray(NOW, seconds(60))[:1]), {PROCESSING}),
    "find by id": (lambda w: operations.find("completed-77"), {KEY}),
    "find by prefix": (lambda w: list(Job.objects.by_prefix("completed-299")[:6]), {KEY}),
    "stream": (lambda w: next(iter(stats.stream())), {PRIMARY}),
    "list of the dead": (lambda w: list(stats.stream(state=S.DEAD)), {FINISHED}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOT)
def test_a_hot_query_never_reads_the_whole_table(worker_id: int, name: str) -> None:
    run = HOT[name][0]
    with recorded() as statements:
        run(worker_id)
    touching = [s for s in statements if "queuectl_job" in s[0] and "INSERT" not in s[0]]
    assert touching
    scans = {sql: found for sql, p in touching if (found := full_scans(plan((sql, p))))}
    assert not scans


@pytest.mark.parametrize("name", HOT)
def test_a_hot_query_uses_the_index_made_for_it(worker_id: int, name: str) -> None:
    run, indexes = HOT[name]
    with recorded() as statements:
        run(worker_id)
    reads = [
        s for s in statements if s[0].startswith(("SELECT", "WITH")) and "queuectl_job" in s[0]
    ]
    plans = "\n".join(plan(statement) for statement in reads)
    assert all(index in plans for index in indexes), plans


def test_what_an_overview_counts_is_counted_in_an_index_alone(worker_id: int) -> None:
    """A state that is a variable SQLite reads in each row that the index led to: 25 times dearer."""
    with recorded() as statements:
        stats.snapshot()
    counts = [s for s in statements if s[0].startswith("SELECT COUNT(*)")]
    assert len(counts) == len(JobState) + 3 * 4, "of all, and four states in each of three queues"
    for statement in counts:
        found = plan(statement)
        assert full_scans(found) == [] or dialect.can_notify(), found
        if "('processing')" not in statement[0]:
            assert not _reads_rows(statement), statement[0]


def _reads_rows(statement: Statement) -> bool:
    """Whether SQLite takes a column out of a row; PostgreSQL chooses by what it holds for cheap."""
    if dialect.can_notify():
        return False
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement[0]}", statement[1])
        return "Column" in {operation for _, operation, *_ in cursor.fetchall()}


def test_a_claim_finds_what_it_writes_by_number(worker_id: int) -> None:
    with recorded() as statements:
        HOT["mark started"][0](worker_id)
    updates = [s for s in statements if re.search(r'UPDATE "?queuectl_job\b', s[0])]
    assert len(updates) == 2, "one that takes them, one that says they have started"
    assert all(PRIMARY in plan(update) for update in updates)


def test_a_claim_at_once_has_a_good_plan_for_any_values(worker_id: int) -> None:
    """The server keeps one plan for all values, once it holds that for as good."""
    if not dialect.can_notify():
        return
    numbers = iter(range(1, 9))
    text = re.sub("%s", lambda _: f"${next(numbers)}", at_once.on_server(Job, Queue, ("id",)))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute(f"PREPARE it (text[], int, int, uuid, int) AS {text}")
        try:
            cursor.execute(f"EXPLAIN EXECUTE it ('{{q1,q2}}', 2, 2, '{uuid4()}', {worker_id})")
            said = "\n".join(str(row[-1]) for row in cursor.fetchall())
        finally:
            cursor.execute("DEALLOCATE it")
    assert full_scans(said) == []
    assert f"Index Scan using {CLAIM}" in said


def test_a_quota_is_counted_past_nothing_that_has_ended(worker_id: int) -> None:
    ann = operations.Actor("ann", "web", user=User(username="ann"))
    with override_settings(QUEUECTL={"MOST_JOBS_OF_A_USER": 5}), recorded() as statements:
        must_have_room(ann, 1, "enqueue", "a new job")
    assert len(statements) == len(ACTIVE)
    if dialect.can_notify():  # where a state holds a good part of all, the server may read them all
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    for statement in statements:
        assert any(index in plan(statement) for index in OF_ONE_STATE), plan(statement)


def test_commands_behind_many_tasks_are_found_by_an_index(worker_id: int) -> None:
    task = {"task": "a.b", "command": None, "args": {"args": [], "kwargs": {}}}
    Job.objects.bulk_create(new_job(state=S.PENDING, queue="tasks", **task) for _ in range(2000))
    make_jobs(3, queue="tasks")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    with recorded() as statements:
        assert len(dialect.pending(Job, ["id"], "tasks", 8, tasks=False, lock=True)) == 3
    # PostgreSQL goes by what it expects of the whole table, and may take the other one.
    indexes = (COMMAND, CLAIM) if dialect.can_notify() else (COMMAND,)
    assert any(index in plan(statements[0]) for index in indexes)


def test_a_retry_of_all_looks_each_unique_key_up(worker_id: int) -> None:
    if dialect.can_notify():
        return  # PostgreSQL may as well read all active keys once
    with recorded() as statements:
        operations.retry_many(Job.objects.dead(), operations.Actor("ann", "cli"))
    plans = [plan(statement) for statement in statements if "EXISTS" in statement[0]]
    assert len(plans) == 2 and all(UNIQUE_KEY in found for found in plans), plans


@pytest.mark.parametrize("number", [2, 100, dialect.bulk.MOST_ROWS])
def test_a_report_of_many_looks_each_row_up(worker_id: int, number: int) -> None:
    ids = list(Job.objects.order_by("-id").values_list("id", flat=True)[:number])
    rows = [(id, f"by {id}", None, uuid4(), S.PROCESSING) for id in ids]
    with recorded() as statements:
        columns, guard = ["last_error", "finished_at"], ["lease", "state"]
        dialect.update_rows(Job, columns=columns, guard=guard, rows=rows)
    (update,) = statements
    found = plan(update)
    assert not re.search(r"Seq Scan on queuectl_job|SCAN t\b|SCAN queuectl_job|BLOOM", found)
    assert re.search(r"Index Scan.* on queuectl_job|SEARCH t USING INTEGER PRIMARY KEY", found)


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda: dialect.pending(Job, ["id"], "q1", 8, lock=True), id="claim"),
        pytest.param(lambda: stats.newest(50), id="newest"),
    ],
)
def test_the_first_of_a_list_are_found_without_sorting_the_rest(
    worker_id: int, read: Callable[[], Any]
) -> None:
    with recorded() as statements:
        read()
    found = plan(statements[0])
    assert "Sort" not in found and "TEMP B-TREE" not in found


def test_neighbours_of_a_missing_id_are_a_hundred_and_not_sorted(worker_id: int) -> None:
    with recorded() as statements, pytest.raises(JobNotFound):
        operations.find("completed-x", by_prefix=False)
    found = plan(statements[-1])
    assert statements[-1][0].endswith("LIMIT 100")
    assert "Sort" not in found and "TEMP B-TREE" not in found


STEPS: dict[str, Callable[[int, list[Any]], Any]] = {
    "report": lambda w, works: ledger.report(
        [reported(work, Kind.FAILED) for work in works], worker_id=w, now=NOW
    ),
    "release": lambda w, works: ledger.release(works, now=NOW),
    "mark started": lambda w, works: ledger.mark_started([(work, NOW) for work in works], NOW),
    "rescue": lambda w, works: ledger.rescue(w, last_heard=None, now=NOW, why="gone"),
}


def statements_of(step: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        step()
    return len(spelled(captured))


@pytest.mark.parametrize("name", STEPS)
def test_the_statements_of_a_step_do_not_grow_with_its_jobs(name: str) -> None:
    counts = []
    for number in (2, 60):
        worker = make_worker()
        make_jobs(number)
        works = claim(worker, free=number)
        counts.append(statements_of(lambda: STEPS[name](worker.id, works)))  # noqa: B023
        Job.objects.all().delete()
    assert counts[1] == counts[0]


def test_the_statements_of_a_claim_do_not_grow_with_its_jobs() -> None:
    counts = []
    for number in (2, 60):
        worker = make_worker()
        make_jobs(number)
        counts.append(statements_of(lambda: claim(worker, free=number)))  # noqa: B023
        Job.objects.all().delete()
    assert counts[1] == counts[0]
