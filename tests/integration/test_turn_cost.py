"""What a ledger process costs its database, counted: no clock is involved."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs import dialect
from jobs.models import Attempt, Job, Setting, Worker
from jobs.worker.turns import PASSED_OVER_SECONDS
from tests.integration.builders import NOW, another_session, make_queues, make_worker, new_job
from tests.integration.ledgers import Busy

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_thousand_short_jobs_cost_few_transactions_and_statements(busy: Busy) -> None:
    Job.objects.bulk_create([new_job(state="pending") for _ in range(1000)])
    with CaptureQueriesContext(connection) as captured:
        turns = busy.drain()
    assert Job.objects.filter(state="completed").count() == Attempt.objects.count() == 1000
    said = [query["sql"] for query in captured]
    assert turns <= 8, "they are claimed in batches that grow"
    assert sum(sql.startswith("COMMIT") for sql in said) <= turns, "a turn is one transaction"
    per_turn = len(said) / turns
    assert per_turn <= 10, "what a turn asks does not grow with its jobs"


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
    with CaptureQueriesContext(connection) as captured:
        busy.process.sees_work(0.0)
        busy.process.watch(0.0)
    said = [query["sql"] for query in captured]
    assert len(said) <= (7 if dialect.workers_share_a_host() else 11)
    frame = () if dialect.workers_share_a_host() else ("BEGIN", "COMMIT")
    assert [sql for sql in said if not sql.lstrip("(").startswith(("SELECT", *frame))] == []


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
