"""What enqueueing and a ledger process cost the database, counted: no clock is involved."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from jobs import dialect
from jobs.models import Attempt, Job, Output, Queue, Setting, Worker
from jobs.outcome import Captured, Kind, Outcome
from jobs.worker.turns import PASSED_OVER_SECONDS
from tests.integration.builders import NOW, another_session, make_queues, make_worker, new_job
from tests.integration.costs import counted
from tests.integration.ledgers import Busy
from tests.task_functions import noop

pytestmark = pytest.mark.django_db(transaction=True)


def commands() -> None:
    Job.objects.bulk_create([new_job(state="pending") for _ in range(1000)])


def tasks() -> None:
    noop.get_backend().enqueue_many([(noop, (), {})] * 1000)


SAID = Captured(head=b"done\n", total=5)
WELL = Outcome(kind=Kind.SUCCEEDED, stdout=SAID, stderr=SAID)
RETURNED = Outcome(kind=Kind.SUCCEEDED, result={"rows": 3})
BADLY = Outcome(kind=Kind.FAILED, error="Exited with code 1", stdout=SAID, traceback="Traceback …")
CASES = [(commands, WELL), (tasks, RETURNED), (commands, BADLY), (tasks, BADLY)]


@pytest.mark.parametrize(
    ("enqueue", "outcome"), CASES, ids=["said", "returned", "failed", "raised"]
)
def test_a_thousand_short_jobs_cost_few_transactions_and_statements(
    busy: Busy, enqueue: Callable[[], None], outcome: Outcome
) -> None:
    """With all that is kept of what became of them."""
    enqueue()
    Job.objects.update(max_retries=0)
    busy.outcome = outcome
    with counted() as cost:
        turns = busy.drain()
    state = "completed" if outcome.kind is Kind.SUCCEEDED else "dead"
    assert Job.objects.filter(state=state).count() == Attempt.objects.count() == 1000
    streams = [*filter(None, (outcome.stdout.total, outcome.stderr.total))]
    assert Output.objects.count() == 1000 * len(streams)
    assert Job.objects.filter(result__isnull=False).count() == 1000 * bool(outcome.result)
    assert turns <= 8, "they are claimed in batches that grow"
    assert cost.strays == [], "what a turn writes is in its transaction"
    assert cost.commits <= turns, "a turn is one transaction"
    assert cost.syncs <= turns, "and waits for the disk once"
    per_turn = len(cost.statements) / turns
    assert per_turn <= 12, "what a turn asks does not grow with its jobs"


def test_between_tasks_a_sound_connection_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it closed: a question for each task would be a way to the server and back."""

    def fails(*_: Any) -> None:
        raise AssertionError

    connection.ensure_connection()
    for name in ("is_usable", "close_if_unusable_or_obsolete", "cursor"):
        monkeypatch.setattr(connection, name, fails)
    before = connection.connection
    dialect.tidy(idle=False)
    assert connection.connection is before


def test_a_thousand_tasks_are_enqueued_by_few_statements_in_one_transaction() -> None:
    make_queues("default")
    with counted() as cost:
        tasks()
    assert Job.objects.filter(state="pending", task__isnull=False).count() == 1000
    assert cost.strays == []
    assert cost.commits == 1
    assert cost.syncs <= 1
    assert len(cost.statements) <= 6, "BEGIN, a question, an INSERT for every 500, COMMIT"


def test_a_task_alone_is_enqueued_by_one_statement() -> None:
    make_queues("default")
    with counted() as cost:
        noop.enqueue()
    assert Job.objects.count() == 1
    assert [sql[:6] for sql in cost.statements] == ["INSERT"]
    assert cost.commits == 1
    assert cost.syncs <= 1


def test_a_task_in_a_transaction_of_the_caller_commits_nothing_by_itself() -> None:
    make_queues("default")
    with counted() as cost, transaction.atomic():
        noop.enqueue()
    assert Job.objects.count() == 1
    said = [sql.split()[0] for sql in cost.statements]
    assert said == ["BEGIN", "SAVEPOINT", "INSERT", "RELEASE", "COMMIT"]
    assert cost.strays == []


def test_a_write_in_autocommit_is_counted_as_a_transaction() -> None:
    make_queues("default")
    with counted() as cost:
        Queue.objects.count()
        Queue.objects.update(paused_at=NOW)
        with transaction.atomic():
            Queue.objects.update(paused_at=None)
    assert [sql.split()[0] for sql in cost.strays] == ["UPDATE"]
    assert cost.commits == 2
    if connection.vendor == "sqlite":
        assert cost.syncs == 2
        with counted() as cost:
            connection.connection.execute("UPDATE queuectl_queue SET name = 'other'")
        assert cost.syncs == 1, "also one that Django has not heard of"


@pytest.mark.parametrize("value", ["abc", True, [1], 10**12, -1])
def test_a_setting_that_a_hand_has_spoilt_stops_no_heartbeat(busy: Busy, value: object) -> None:
    Setting.objects.create(key="max-retries", value=value, updated_at=NOW)
    before = Worker.objects.get().heartbeat_at
    busy.process.beat_at = 0.0
    busy.process.attempt(busy.process.look_and_turn)
    assert Worker.objects.get().heartbeat_at > before
    assert busy.process.policy.max_retries == 3


def test_an_idle_look_writes_nothing(busy: Busy) -> None:
    busy.process.turn()
    busy.process.hints.open()
    with counted() as cost:
        busy.process.sees_work(0.0)
        busy.process.watch(0.0)
    said = cost.statements
    assert len(said) <= (7 if dialect.workers_share_a_host() else 11)
    frame = () if dialect.workers_share_a_host() else ("BEGIN", "COMMIT")
    assert [sql for sql in said if not sql.lstrip("(").startswith(("SELECT", *frame))] == []
    assert cost.syncs == 0


def test_what_another_turn_holds_is_looked_for_again_soon(busy: Busy) -> None:
    """It may leave some of it, and whoever had nothing to do would not hear of that for a second."""
    if dialect.workers_share_a_host():
        return  # there turns never meet
    Job.objects.bulk_create([new_job(state="pending")])
    process = busy.process
    process.maintenance = None
    process.hints.open()

    def look() -> float:
        process.hinted = True
        process.look_and_turn()
        process.pulse()
        return process.patience()

    with another_session() as other, other.transaction():
        other.execute("SELECT 1 FROM queuectl_job FOR UPDATE")
        patiences = [look() for _ in range(9)]
    assert patiences[0] <= 2 * PASSED_OVER_SECONDS
    assert patiences[-1] > 0.5, "what cannot be had is no reason to turn for ever"
    look()
    assert busy.answer()
    assert process.passed_over == 0


def test_whatever_a_worker_asks_a_server_is_bounded() -> None:
    """A migration that holds a lock on a table must not keep a worker waiting inside one call."""
    if dialect.workers_share_a_host():
        return  # SQLite's bound is the connection's own
    make_queues("default")
    gone = make_worker(lock="/gone")
    with CaptureQueriesContext(connection) as captured:
        busy = Busy(predecessor=gone.lock)
        busy.process.beat_at = 0.0
        busy.process.look_and_turn()
        assert busy.process.maintenance is not None
        busy.process.maintenance._rescue_at = 0.0
        busy.process.maintenance.run(busy.process.policy)
    busy.close()
    assert _unbounded([query["sql"] for query in captured]) == []


def _unbounded(said: list[str]) -> list[str]:
    """Of these statements those outside a transaction that begins with its bounds."""
    found, inside, before = [], False, ""
    for sql in said:
        if sql == "BEGIN":
            inside = False
        elif before == "BEGIN":
            inside = "statement_timeout" in sql
        elif sql == "COMMIT":
            inside = False
        elif not inside and sql != "SELECT clock_timestamp()":
            found.append(sql)
        before = sql
    return found
