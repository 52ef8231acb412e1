"""A worker with empty hands takes what a hint told of in one statement; all else is left to a turn."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from jobs import dialect, ledger
from jobs.exceptions import LeaseLost
from jobs.models import Job, Queue, Worker
from jobs.states import JobState
from jobs.work import Work
from jobs.worker.turns import MOST_AT_ONCE
from tests.integration.builders import (
    NOW,
    POLICY,
    another_session,
    claim,
    keys,
    make_job,
    make_jobs,
    make_queues,
    make_worker,
    seconds,
)
from tests.integration.costs import PREPARED, counted, spelled
from tests.integration.ledgers import Busy
from tests.integration.test_concurrency import at_once
from tests.integration.test_spoilt_rows import SPOILT, spoil

pytestmark = pytest.mark.django_db(transaction=True)

POSTGRESQL = connection.vendor == "postgresql"


def take(
    worker: Worker | None = None, *queues: str, free: int = 9, **room: int
) -> list[Work] | None:
    which = ledger.Room(free=free, ahead=0, **room)
    worker = worker or make_worker()
    return ledger.claim_at_once(worker.id, queues or ("default",), which, policy=POLICY)


def taken(*queues: str, free: int = 9) -> list[str]:
    found = take(None, *queues, free=free)
    assert found is not None
    return keys(found)


def test_it_is_one_statement_and_one_commit() -> None:
    make_queues("default")
    make_job(key="it")
    taken()  # so that the server has been told its bounds
    Job.objects.update(state=JobState.PENDING, lease=None, worker=None)
    worker = make_worker()
    with counted() as cost:
        works = take(worker)
    assert works is not None and keys(works) == ["it"]
    said = [sql.split()[0] for sql in cost.statements]
    assert said == ([PREPARED] if POSTGRESQL else ["SELECT", "UPDATE"])
    assert cost.commits == 1
    assert cost.syncs <= 1
    with counted() as cost:
        assert take(worker) == []
    assert POSTGRESQL or cost.commits == 0, "a look for nothing takes no lock"


RICH: list[dict[str, Any]] = [
    {"command": "echo \u00e9", "cwd": "/", "env": {"A": "b"}, "timeout": 1.5, "backoff_base": 3.0},
    {"argv": ["a", "b"], "attempts": 1, "runs": 4, "losses": 1, "interruptions": 2},
    {
        "task": "tests.task_functions.add",
        "args": {"args": [1, 1e23], "kwargs": {}},
        "run_at": NOW - seconds(5),
        "put_off_since": NOW - seconds(9),
        "priority": 70,
    },
]


@pytest.mark.parametrize("fields", RICH)
def test_what_it_gives_is_what_a_turn_gives(fields: dict[str, Any]) -> None:
    make_queues("default")
    job, worker = make_job(**fields), make_worker()
    [by_turn] = claim(worker, free=1)
    Job.objects.update(state=JobState.PENDING, lease=None, worker=None)
    found = take(worker)
    assert found is not None
    [by_itself] = found
    assert by_itself == by_turn._replace(lease=by_itself.lease)
    row = Job.objects.get()
    assert (row.state, row.worker_id) == (JobState.PROCESSING, worker.id)
    assert by_itself.lease == f"{row.lease.hex if row.lease else ''}-{job.id}"
    assert row.started_at is not None and row.started_at == row.updated_at


def test_the_first_in_line_of_all_queues_come_first() -> None:
    make_queues("a", "b")
    for key, queue, priority, age in (
        ("third", "a", 5, 1), ("first", "b", 6, 0), ("second", "b", 5, 9), ("fourth", "b", 5, 0),
    ):  # fmt: skip
        make_job(key=key, queue=queue, priority=priority, due_at=NOW - seconds(age))
    assert taken("a", "b", free=2) == ["first", "second"]
    assert taken("a", "b") == ["third", "fourth"]


@pytest.mark.parametrize(
    ("free", "tasks", "wary", "number"), [(3, 9, 9, 3), (9, 2, 9, 2), (9, 9, 1, 1)]
)
def test_it_takes_no_more_than_there_is_room_for_of_any_kind(
    free: int, tasks: int, wary: int, number: int
) -> None:
    make_queues("default")
    make_jobs(5, losses=2)
    assert len(take(None, free=free, tasks=tasks, wary=wary) or ()) == number


@pytest.mark.parametrize("room", [{"free": 0}, {"tasks": 0}, {"wary": 0}])
def test_without_such_room_it_is_left_to_a_turn(room: dict[str, int]) -> None:
    make_queues("default")
    make_job()
    assert take(None, **room) is None


def test_what_is_paused_wanted_cancelled_elsewhere_or_for_later_stays() -> None:
    make_queues("default", "other", "paused", "resumed")
    Queue.objects.filter(name="paused").update(paused_at=NOW)
    Queue.objects.filter(name="resumed").update(paused_at=NOW, paused_until=NOW.replace(year=2001))
    make_job(cancel_requested_at=NOW)
    make_job(queue="other")
    make_job(queue="paused")
    make_job(state=JobState.SCHEDULED)
    make_job(queue="nowhere")
    make_job(key="it", queue="resumed")
    assert taken("default", "paused", "resumed", "nowhere") == ["it"]


@pytest.mark.parametrize(("column", "value"), SPOILT, ids=str)
def test_a_spoilt_row_ends_or_stays_for_a_turn_to_end(column: str, value: str) -> None:
    make_queues("default")
    spoilt = make_job(key="spoilt", **({"argv": ["true"]} if column == "argv" else {}))
    make_job(key="beside")
    spoil(spoilt, column, value)
    worker = make_worker()
    at_first = take(worker)
    if not POSTGRESQL:
        assert Job.objects.values_list("state", flat=True).get(key="spoilt") == JobState.PENDING
    works = [*(at_first or ()), *claim(worker)]
    assert keys(works) == ["beside"]
    row = Job.objects.get(key="spoilt")
    assert (row.state, row.lease, row.worker_id) == (JobState.DEAD, None, None)
    assert row.last_error.startswith(f"Could not start: its {column} is not ")


@pytest.mark.parametrize("column", ["due_at", "created_at", "run_at", "put_off_since"])
def test_a_time_that_python_cannot_read_is_not_ours(column: str) -> None:
    make_queues("default")
    spoilt = make_job(key="spoilt")
    spoil(spoilt, column, "'infinity'" if POSTGRESQL else "'2024-13-45 00:00:00'")
    if POSTGRESQL:
        assert taken() == []
    else:
        with pytest.raises(ValueError, match="month"):
            take()
    with connection.cursor() as cursor:
        cursor.execute("SELECT state FROM queuectl_job")
        assert cursor.fetchall() == [("pending",)]


def test_a_changed_command_is_dead_where_jobs_are_signed(settings: Settings) -> None:
    settings.QUEUECTL = {"SIGNATURES": "require"}
    make_queues("default")
    make_job(key="unsigned")
    assert taken() == claim(make_worker()) == []
    assert Job.objects.get().state == JobState.DEAD


def test_where_jobs_of_disabled_users_are_held_it_is_left_to_a_turn(settings: Settings) -> None:
    settings.QUEUECTL = {"HOLD_JOBS_OF_DISABLED_USERS": True}
    make_queues("default")
    make_job()
    assert take() is None


def test_inside_a_transaction_it_is_left_to_that() -> None:
    make_queues("default")
    make_job()
    with transaction.atomic():
        assert take() is None


@pytest.mark.parametrize("number", range(5))
def test_two_who_take_at_once_never_take_the_same(number: int) -> None:
    make_queues("default")
    jobs = make_jobs(6)
    workers = [make_worker(), make_worker()]
    found: list[str] = []

    def taking(worker: Worker) -> Callable[[], None]:
        def one_by_one() -> None:
            for _ in range(20):
                found.extend(keys(take(worker, free=1) or ()))

        return one_by_one

    at_once(*map(taking, workers))
    assert sorted(found) == sorted(job.key for job in jobs)


@contextmanager
def before(word: str, do: Callable[[], None]) -> Iterator[None]:
    """Do something once, before the first statement that begins so."""
    todo = [do]

    def run(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith(word) and todo:
            todo.pop()()
        return execute(sql, *rest)

    with connection.execute_wrapper(run):
        yield


@pytest.mark.skipif(POSTGRESQL, reason="one statement")
def test_a_job_that_somebody_changes_between_the_look_and_the_claim_stays() -> None:
    make_queues("default", "other")
    make_job(key="it")

    def move() -> None:
        Job.objects.update(queue="other", updated_at=NOW + seconds(1))

    with before("UPDATE", move):
        assert taken() == []
    assert Job.objects.get().state == JobState.PENDING
    assert taken("other") == ["it"]


if POSTGRESQL:

    def test_what_another_holds_is_passed_over() -> None:
        make_queues("default")
        make_job(key="first")
        make_job(key="second")
        with another_session() as other, other.transaction():
            other.execute("SELECT 1 FROM queuectl_job WHERE key = 'first' FOR UPDATE")
            assert taken() == ["second"]

    def test_it_waits_for_no_lock_longer_than_a_turn() -> None:
        make_queues("default")
        take()
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == (f"{dialect.STATEMENT_SECONDS}s",)
        with another_session() as other, other.transaction():
            other.execute("LOCK queuectl_job")
            with pytest.raises(OperationalError, match="lock timeout") as caught:
                take()
        assert dialect.is_lock_wait(caught.value)

    def test_a_new_connection_is_told_anew() -> None:
        make_queues("default")
        take()
        connection.close()
        take()
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            assert cursor.fetchone() == ("1s",)

    def test_through_a_pooler_it_is_left_to_a_turn_and_no_server_is_told_anything(
        settings: Settings,
    ) -> None:
        make_queues("default")
        make_job()
        connection.close()
        connection.ensure_connection()
        with patch.object(
            type(connection.connection.info),
            "backend_pid",
            connection.connection.info.backend_pid + 1,
        ):
            assert take() is None
            assert take() is None
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            assert cursor.fetchone() == ("0",)
        connection.close()
        settings.QUEUECTL = {"LISTEN_AT": "localhost"}
        assert take() is None

    def test_the_server_plans_it_once() -> None:
        make_queues("default")
        for _ in range(3):
            take()
        with connection.cursor() as cursor:
            cursor.execute("SELECT statement FROM pg_prepared_statements")
            [(statement,)] = cursor.fetchall()
        assert statement.startswith("WITH first AS")


# A ledger process


@pytest.fixture
def idle() -> Iterator[Busy]:
    """It has looked, and found nothing."""
    make_queues("default")
    busy = Busy()
    busy.process.maintenance = None
    busy.process.hints.open()
    busy.process.look_and_turn()
    busy.process.look_at = float("inf")
    yield busy
    busy.close()


def hint(busy: Busy) -> None:
    busy.process.hinted = True
    busy.process.attempt(busy.process.look_and_turn)


def test_a_hint_is_answered_without_a_look(idle: Busy) -> None:
    hint(idle)  # so that the server has been told its bounds
    make_job()
    with CaptureQueriesContext(connection) as said:
        hint(idle)
    first = [sql.split()[0] for sql in spelled(said)][:2]
    assert first == ([PREPARED, "BEGIN"] if POSTGRESQL else ["SELECT", "UPDATE"])
    assert idle.answer()
    idle.process.turn()
    assert Job.objects.get().state == JobState.COMPLETED


def test_what_it_may_not_take_is_found_by_the_look_that_follows(idle: Busy) -> None:
    make_queues("new")
    make_job(queue="new")
    hint(idle)
    assert idle.answer()


def test_with_work_in_hand_it_takes_turns(idle: Busy) -> None:
    make_job()
    hint(idle)
    make_job()
    with patch.object(ledger, "claim_at_once") as never:
        hint(idle)
    assert not never.called


def test_of_many_queues_none_is_asked_at_once(idle: Busy) -> None:
    names = [f"q{n}" for n in range(MOST_AT_ONCE)]
    make_queues(*names)
    idle.process.sees_work(0.0)
    assert idle.process.queues == []


def test_who_stood_still_meanwhile_asks_whether_it_still_lives(idle: Busy) -> None:
    make_job()
    Worker.objects.update(stopped_at=NOW)
    inner = ledger.claim_at_once

    def late(*args: Any, **options: Any) -> Any:
        idle.process.beat_at = 0.0
        return inner(*args, **options)

    with patch.object(ledger, "claim_at_once", late), pytest.raises(LeaseLost):
        hint(idle)
    assert not idle.process.hands
    job = Job.objects.get()
    assert (job.state, job.started_at, job.runs) == (JobState.PENDING, None, 0)


def test_a_claim_whose_answer_was_lost_is_given_back(idle: Busy) -> None:
    make_job()

    def cut(execute: Any, sql: str, *rest: Any) -> Any:
        result = execute(sql, *rest)
        if "processing" in sql and "UPDATE" in sql:
            raise OperationalError("the connection is lost")
        return result

    with connection.execute_wrapper(cut):
        hint(idle)
    assert Job.objects.get().state == JobState.PROCESSING
    assert idle.process.uncertain and not idle.process.hands
    idle.process.retry_at = 0.0
    idle.process.attempt(idle.process.go_on)
    assert idle.answer(), "and claimed again"


def test_leases_are_new_each_time() -> None:
    make_queues("default")
    make_jobs(2)
    worker = make_worker()
    first, second = take(worker, free=1), take(worker, free=1)
    assert first and second
    assert UUID(first[0].lease[:32]) != UUID(second[0].lease[:32])
