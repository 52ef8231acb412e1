from datetime import timedelta
from threading import Barrier, Thread
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import IntegrityError, connections, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from jobs import dialect, operations
from jobs.exceptions import (
    DuplicateId,
    DuplicateKey,
    InvalidField,
    NotPermitted,
    QueueCTLError,
)
from jobs.models import Event, Job, Queue, Setting
from jobs.operations import Actor, Enqueued
from jobs.signals import job_enqueued
from jobs.states import ACTIVE, FINAL, JobState
from tests.integration.builders import NOW, make_job, make_queues

pytestmark = pytest.mark.django_db

ANN = Actor("ann", "cli")


def enqueue(actor: Actor = ANN, **given: Any) -> Enqueued:
    return operations.enqueue({"command": "true"} | given, actor)


@pytest.fixture(params=["a new queue", "a known queue"])
def either_way(request: pytest.FixtureRequest, db: None) -> None:
    """Into a queue that is there, and without more ado, a job alone is stored by one statement."""
    if request.param == "a known queue":
        make_queues("default", "mail")


either = pytest.mark.usefixtures("either_way")


@either
def test_an_enqueued_job_is_pending_and_due_at_once() -> None:
    before = dialect.now()
    enqueue(id="job1")
    job = Job.objects.get(key="job1")
    assert job.state == JobState.PENDING
    assert before <= job.created_at == job.updated_at == job.due_at <= dialect.now()


@either
def test_an_enqueued_job_is_as_it_was_asked_for() -> None:
    env = {"A": "é"}
    operations.enqueue(
        {
            "argv": ["ls", "-l"], "queue": "mail", "priority": -7, "max_retries": 0, "timeout": 1.5,
            "backoff_base": 3, "cwd": "/tmp", "env": env, "unique_key": "k",
        },
        ANN,
    )  # fmt: skip
    job = Job.objects.get()
    assert (job.argv, job.command, job.queue, job.priority) == (["ls", "-l"], None, "mail", -7)
    assert (job.max_retries, job.timeout, job.backoff_base) == (0, 1.5, 3.0)
    assert (job.cwd, job.env, job.unique_key, job.enqueued_by) == ("/tmp", env, "k", "ann")


@either
def test_what_was_left_out_has_its_default() -> None:
    enqueue()
    job = Job.objects.get()
    assert (job.queue, job.priority, job.max_retries) == ("default", 5, 3)
    assert (job.timeout, job.backoff_base, job.run_at, job.unique_key) == (None, None, None, None)


@either
def test_a_new_job_takes_the_stored_number_of_retries() -> None:
    Setting.objects.create(key="max-retries", value=9, updated_at=NOW)
    enqueue()
    assert Job.objects.get().max_retries == 9


def test_an_id_that_is_left_out_is_made() -> None:
    key = enqueue().key
    assert len(key) == 12 and key.isalnum() and key == key.lower()
    assert key != enqueue().key


@either
def test_a_job_for_later_is_scheduled() -> None:
    run_at = dialect.now() + timedelta(days=1)
    enqueue(run_at=run_at.isoformat())
    job = Job.objects.get()
    assert (job.state, job.run_at, job.due_at) == (JobState.SCHEDULED, run_at, run_at)


def test_a_job_for_the_past_runs_now_and_keeps_what_was_asked() -> None:
    enqueue(run_at="2001-01-01T00:00:00Z")
    job = Job.objects.get()
    assert job.state == JobState.PENDING and job.due_at == job.created_at
    assert job.run_at is not None and job.run_at.year == 2001


@either
def test_a_delay_counts_from_the_databases_now() -> None:
    enqueue(delay=60)
    job = Job.objects.get()
    assert (job.state, job.due_at - job.created_at) == (JobState.SCHEDULED, timedelta(seconds=60))


def test_more_than_ten_years_ahead_stores_nothing() -> None:
    with pytest.raises(InvalidField):
        enqueue(run_at="2999-01-01T00:00:00Z")
    assert not Job.objects.exists()


def test_a_queue_row_appears_when_its_name_is_first_used() -> None:
    enqueue(queue="mail")
    enqueue(queue="mail")
    assert list(Queue.objects.values_list("name", flat=True)) == ["mail"]


def test_a_refused_job_makes_no_queue() -> None:
    with pytest.raises(InvalidField):
        enqueue(queue="mail", priority="high")
    assert not Queue.objects.exists()


def test_an_enqueue_leaves_no_event() -> None:
    enqueue()
    assert not Event.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_job_alone_is_stored_by_one_statement() -> None:
    make_queues("default")
    with CaptureQueriesContext(dialect.connection()) as captured:
        enqueue(id="a", unique_key="k")
    assert len(captured) == 1
    assert Job.objects.get().max_retries == 3


@either
@pytest.mark.parametrize(
    ("stored", "taken"), [(0, 0), (100, 100), (2.7, 2), (101, 3), ("9", 3), (True, 3), ([9], 3)]
)
def test_a_stored_number_of_retries_counts_only_if_it_is_one(stored: Any, taken: int) -> None:
    Setting.objects.create(key="max-retries", value=stored, updated_at=NOW)
    enqueue()
    assert Job.objects.get().max_retries == taken


def test_a_stored_number_of_retries_yields_to_the_one_that_was_asked_for() -> None:
    make_queues("default")
    Setting.objects.create(key="max-retries", value=9, updated_at=NOW)
    enqueue(max_retries=0)
    assert Job.objects.get().max_retries == 0


# The same id again


@either
def test_the_same_id_and_content_is_one_job() -> None:
    assert enqueue(id="a", priority=1) == Enqueued("a", True)
    assert enqueue(priority=1, id="a") == Enqueued("a", False)
    assert Job.objects.count() == 1


@pytest.mark.parametrize("state", JobState)
def test_the_same_id_and_content_leaves_the_job_as_it_is_in_any_state(state: JobState) -> None:
    enqueue(id="a")
    known = Job.objects.get().request_digest
    Job.objects.all().delete()
    make_job(key="a", state=state, request_digest=known)
    assert enqueue(id="a").created is False
    assert Job.objects.get().state == state


@either
@pytest.mark.parametrize(
    "other", [{"command": "false"}, {"priority": 6}, {"queue": "mail"}, {"env": {"A": "b"}}]
)
def test_the_same_id_with_other_content_is_refused(other: dict[str, Any]) -> None:
    enqueue(id="a")
    with pytest.raises(DuplicateId, match="Job with id 'a' already exists"):
        enqueue(id="a", **other)
    assert Job.objects.get().command == "true"


def test_ids_tell_upper_case_from_lower() -> None:
    assert enqueue(id="a").created and enqueue(id="A", command="false").created


@either
def test_a_request_stored_by_the_original_is_not_the_same_content() -> None:
    make_job(key="a", request_digest="")
    with pytest.raises(DuplicateId):
        enqueue(id="a")


# The caller's transaction


@pytest.mark.django_db(transaction=True)
def test_a_job_enqueued_in_a_transaction_that_is_rolled_back_is_not_stored() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        enqueue(queue="mail")
        raise ZeroDivisionError
    assert not Job.objects.exists() and not Queue.objects.exists()


@either
@pytest.mark.django_db(transaction=True)
def test_a_job_is_unseen_by_others_until_the_transaction_commits() -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(Job.objects.count())
        connections.close_all()

    with transaction.atomic():
        enqueue()
        thread = Thread(target=look)
        thread.start()
        thread.join()
    assert (seen, Job.objects.count()) == ([0], 1)


@either
def test_a_refusal_leaves_the_callers_transaction_usable() -> None:
    enqueue(id="a")
    with transaction.atomic():
        with pytest.raises(DuplicateId):
            enqueue(id="a", command="false")
        enqueue(id="b")
    assert Job.objects.count() == 2


def together(number: int, **given: Any) -> list[Enqueued | Exception]:
    """The same request from several threads at once."""
    results: list[Enqueued | Exception] = []
    barrier = Barrier(number)

    def run() -> None:
        barrier.wait()
        try:
            results.append(enqueue(**given))
        except Exception as error:
            results.append(error)
        finally:
            connections.close_all()

    threads = [Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@either
@pytest.mark.django_db(transaction=True)
def test_the_same_request_from_several_at_once_is_one_job() -> None:
    results = together(8, id="a", queue="mail")
    assert sorted(r.created for r in results if isinstance(r, Enqueued)) == [False] * 7 + [True]
    assert Job.objects.count() == 1


@either
@pytest.mark.django_db(transaction=True)
def test_a_unique_key_from_several_at_once_is_one_job() -> None:
    results = together(6, unique_key="k")
    assert sum(isinstance(r, Enqueued) for r in results) == 1
    assert sum(isinstance(r, DuplicateKey) for r in results) == 5
    assert Job.objects.count() == 1


# Unique keys


@either
@pytest.mark.parametrize("state", ACTIVE)
def test_a_unique_key_of_an_active_job_is_refused(state: JobState) -> None:
    make_job(state=state, unique_key="k")
    with pytest.raises(DuplicateKey, match="'k'"):
        enqueue(unique_key="k")


@either
@pytest.mark.parametrize("state", FINAL)
def test_a_unique_key_of_a_final_job_is_free(state: JobState) -> None:
    make_job(state=state, unique_key="k")
    assert enqueue(unique_key="k").created


# Many


def test_many_are_stored_in_the_order_given() -> None:
    results = operations.enqueue_many([{"id": f"j{i}", "command": "a"} for i in range(1200)], ANN)
    assert [result.key for result in results] == [f"j{i}" for i in range(1200)]
    stored = Job.objects.order_by("id").values_list("key", flat=True)
    assert list(stored) == [f"j{i}" for i in range(1200)]


BAD: dict[str, dict[str, Any]] = {
    "an invalid one": {"command": "a", "priority": "high"},
    "a taken id": {"id": "taken", "command": "other"},
    "an id given before": {"id": "j1", "command": "other"},
    "a taken unique key": {"command": "a", "unique_key": "taken"},
    "too far ahead": {"command": "a", "run_at": "2999-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("place", [0, 600, 1000])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_one_bad_request_among_many_stores_none(bad: dict[str, Any], place: int) -> None:
    make_job(key="taken", unique_key="taken")
    given: list[dict[str, Any]] = [{"id": f"j{i}", "command": "a"} for i in range(1000)]
    given.insert(place, bad)
    with pytest.raises(QueueCTLError):
        operations.enqueue_many(given, ANN)
    assert Job.objects.count() == 1


def test_a_request_repeated_among_many_is_stored_once() -> None:
    given = [{"id": "a", "command": "a"}, {"id": "b", "command": "b"}, {"command": "a", "id": "a"}]
    results = operations.enqueue_many(given, ANN)
    assert [result.created for result in results] == [True, True, False]


def test_a_request_repeated_far_apart_among_many_is_stored_once() -> None:
    given = [{"id": f"j{i % 900}", "command": "a"} for i in range(1000)]
    assert sum(result.created for result in operations.enqueue_many(given, ANN)) == 900


def test_a_repeated_batch_adds_nothing() -> None:
    given = [{"id": f"j{i}", "command": "a", "unique_key": f"k{i}"} for i in range(3)]
    operations.enqueue_many(given, ANN)
    assert not any(result.created for result in operations.enqueue_many(given, ANN))


@pytest.mark.parametrize("number", [5, 6])
def test_of_many_new_queues_at_once_none_is_taken_for_a_slip(number: int) -> None:
    make_queues("mail")
    given = [{"command": "a", "queue": f"mail{i}"} for i in range(number)]
    warned = [bool(result.warnings) for result in operations.enqueue_many(given, ANN)]
    assert warned == [number == 5] * number


def test_a_new_queue_is_compared_with_a_hundred_others_at_most() -> None:
    make_queues(*(f"q{i}" for i in range(101)))
    with CaptureQueriesContext(connections["default"]) as captured:
        operations.enqueue_many([{"command": "a", "queue": "qq"}] * 2, ANN)
    looks = [q["sql"] for q in captured if 'WHERE NOT ("queuectl_queue"' in q["sql"]]
    assert len(looks) == 1 and looks[0].endswith("LIMIT 100")


def test_none_is_no_job_and_no_error() -> None:
    assert operations.enqueue_many([], ANN) == []


def test_progress_ends_with_all_of_them() -> None:
    said: list[int] = []
    operations.enqueue_many([{"command": "a"}] * 1200, ANN, progress=said.append)
    assert said == sorted(said) and said[-1] == 1200 and len(said) > 1


# Observers and permissions


def test_observers_hear_of_what_was_stored_and_only_of_that() -> None:
    heard: list[list[str]] = []

    def receiver(**given: Any) -> None:
        heard.append(given["keys"])

    job_enqueued.connect(receiver)
    try:
        enqueue(id="a")
        enqueue(id="a")
        enqueue(id="b")
    finally:
        job_enqueued.disconnect(receiver)
    assert heard == [["a"], ["b"]]


@pytest.mark.django_db(transaction=True)
def test_an_observer_that_fails_leaves_no_job() -> None:
    make_queues("default")

    def receiver(**given: Any) -> None:
        raise ZeroDivisionError

    job_enqueued.connect(receiver)
    try:
        with pytest.raises(ZeroDivisionError):
            enqueue()
    finally:
        job_enqueued.disconnect(receiver)
    assert not Job.objects.exists()


def user_with(*codenames: str) -> User:
    user = User.objects.create_user("someone")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


@pytest.mark.parametrize("via", ["web", "admin", "api"])
def test_a_user_without_the_permission_may_not_submit_a_command(via: str) -> None:
    user = user_with("add_job", "view_job", "operate_job")
    with override_settings(QUEUECTL={"COMMAND_POLICY": "shell"}), pytest.raises(NotPermitted):
        enqueue(Actor("someone", via, user))
    assert not Job.objects.exists()


def test_a_user_with_the_permission_may_submit_a_command_where_the_policy_lets_them() -> None:
    user = user_with("submit_command")
    with override_settings(QUEUECTL={"COMMAND_POLICY": "shell"}):
        enqueue(Actor("someone", "web", user))
    assert Job.objects.get().enqueued_by == "someone"


@pytest.mark.parametrize("policy", ["disabled", "templates", "argv"])
def test_not_even_a_superuser_gets_a_shell_against_the_policy(policy: str) -> None:
    root = User.objects.create_superuser("root")
    with override_settings(QUEUECTL={"COMMAND_POLICY": policy}), pytest.raises(NotPermitted):
        enqueue(Actor("root", "web", root))
    assert not Job.objects.exists()


def test_what_a_listener_of_the_site_may_not_store_is_its_own_error() -> None:
    """Not that others enqueue the same ids; and the listener is called once."""
    calls = []

    def receiver(**said: Any) -> None:
        calls.append(said["keys"])
        Queue.objects.create(name="mail", created_at=NOW)

    make_queues("mail")
    job_enqueued.connect(receiver)
    try:
        with pytest.raises(IntegrityError), transaction.atomic():
            enqueue(id="one")
    finally:
        job_enqueued.disconnect(receiver)
    assert calls == [["one"]]
    assert not Job.objects.exists()


@pytest.mark.parametrize("column", ["key", "unique_key"])
def test_a_key_that_is_taken_is_told_from_other_errors_of_integrity(column: str) -> None:
    make_job(key="same", unique_key="same")
    twin = {"key": "other", "unique_key": None} | {column: "same"}
    with pytest.raises(IntegrityError) as taken, transaction.atomic():
        make_job(**twin)
    assert dialect.is_taken(taken.value, "queuectl_job")
    assert not dialect.is_taken(taken.value, "queuectl_queue")
    with pytest.raises(IntegrityError) as wrong, transaction.atomic():
        make_job(state="nothing")
    assert not dialect.is_taken(wrong.value, "queuectl_job")
