"""The backend of Django tasks against the database: what is stored, and what is answered."""

import io
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from datetime import timezone as dt_timezone
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.core.checks import run_checks
from django.db import connection, connections, transaction
from django.test import modify_settings, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs import operations, transfer
from jobs.exceptions import NotPermitted
from jobs.execution import tasks
from jobs.jsontext import MAX_PLAIN_DEPTH
from jobs.models import Attempt, Job, Queue
from jobs.operations import Actor
from jobs.outcome import Kind
from jobs.states import JobState
from jobs.tasks import frameworks
from jobs.tasks import task as as_task
from tests import task_functions
from tests.integration.builders import (
    NOW,
    claim,
    claim_one,
    make_job,
    make_queues,
    make_worker,
    report,
    seconds,
)

pytestmark = pytest.mark.django_db

NATIVE = frameworks.native()
BOTH = find_spec("django.tasks") is not None and find_spec("django_tasks") is not None
PASSES_NONE_ON = pytest.mark.skipif(
    django.VERSION[:2] == (6, 0), reason="the decorator of Django 6.0 passes no options on"
)
FRAMEWORKS = [pytest.param("django.tasks", marks=PASSES_NONE_ON), "django_tasks"]


def stored() -> Job:
    return Job.objects.get()


def task_job(**fields: Any) -> Job:
    defaults = {"task": "tests.task_functions.add", "args": {"args": [1, 2], "kwargs": {}}}
    return make_job(**(defaults | fields))


def answer(job: Job) -> Any:
    return task_functions.add.get_backend().get_result(job.key)


# Enqueue


def test_a_task_becomes_a_job() -> None:
    result = task_functions.add.enqueue(1, b=2)
    job = stored()
    assert (job.key, job.task, job.state) == (result.id, "tests.task_functions.add", "pending")
    assert job.args == {"args": [1], "kwargs": {"b": 2}}
    assert (job.command, job.argv, job.timeout, job.max_retries) == (None, None, None, 3)
    assert result.enqueued_at == job.created_at
    assert str(result.status) == "READY"
    assert Queue.objects.filter(name="default").exists()


@pytest.mark.django_db(transaction=True)
def test_a_task_of_a_transaction_that_is_rolled_back_never_was() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        task_functions.noop.enqueue()
        raise ZeroDivisionError
    assert not Job.objects.exists()


def test_on_commit_a_task_is_stored_when_the_transaction_has_committed(
    django_capture_on_commit_callbacks: Any,
) -> None:
    options = {"BACKEND": "jobs.backend.QueueCTLBackend", "OPTIONS": {"ENQUEUE_ON_COMMIT": True}}
    with override_settings(TASKS={"default": options}):
        with django_capture_on_commit_callbacks(execute=True):
            result = task_functions.noop.enqueue()
            assert result.id and not Job.objects.exists()
        assert stored().key == result.id


def test_on_commit_of_the_database_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"BACKEND": "jobs.backend.QueueCTLBackend", "OPTIONS": {"ENQUEUE_ON_COMMIT": "data"}}
    asked: list[str | None] = []
    monkeypatch.setattr(transaction, "on_commit", lambda store, using: asked.append(using))
    with override_settings(TASKS={"default": options}):
        task_functions.noop.enqueue()
    assert asked == ["data"] and not Job.objects.exists()


def test_a_task_that_a_call_gives_to_us_keeps_its_options_and_is_answered_by_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    immediate = {"BACKEND": f"{NATIVE.name}.backends.immediate.ImmediateBackend"}
    ours = {"BACKEND": "jobs.backend.QueueCTLBackend"}
    with override_settings(TASKS={"default": immediate, "queue": ours}):
        made = as_task(max_retries=0, timeout=1)(task_functions.noop.func)
        monkeypatch.setattr(task_functions, "noop", made)
        result = made.using(backend="queue").enqueue()
        found = NATIVE.backends["queue"].get_result(result.id)
        assert (found.backend, found.task.backend) == ("queue", "queue")
        found.refresh()
    assert (stored().max_retries, stored().timeout) == (0, 1)


@pytest.mark.parametrize(("given", "kept"), [(0, 5), (-100, -95), (100, 105)])
def test_a_priority_ranks_with_those_of_commands(given: int, kept: int) -> None:
    result = task_functions.noop.using(priority=given).enqueue()
    assert stored().priority == kept
    assert task_functions.noop.get_result(result.id).task.priority == given


def test_a_task_for_later_is_scheduled() -> None:
    later = timezone.now() + timedelta(hours=1)
    result = task_functions.noop.using(run_after=later).enqueue()
    job = stored()
    assert (job.state, job.run_at, job.due_at) == ("scheduled", later, later)
    assert task_functions.noop.get_result(result.id).task.run_after == later


def test_the_options_of_a_task_are_its_jobs() -> None:
    task_functions.overtime.enqueue()
    assert (stored().timeout, stored().max_retries) == (0.5, 0)
    Job.objects.all().delete()
    task_functions.fail_twice.enqueue("/nowhere")
    assert (stored().max_retries, stored().backoff_base) == (2, 1)


def test_a_queue_the_backend_does_not_name_is_refused() -> None:
    with override_settings(
        TASKS={"default": {"BACKEND": "jobs.backend.QueueCTLBackend", "QUEUES": ["a"]}}
    ):
        assert task_functions.noop.using(queue_name="a").enqueue()
        with pytest.raises(NATIVE.InvalidTask):
            task_functions.noop.using(queue_name="b")
    assert stored().queue == "a"


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        10**309,
        -(10**5000),
        "a\0b",
        "\ud800",
        {1: 2},
        {"a": [{"b": "\0"}]},
    ],
    ids=["NaN", "infinity", "beyond", "5,000 digits", "NUL", "surrogate", "key", "deep NUL"],
)
def test_an_argument_that_would_not_come_back_is_refused(value: Any) -> None:
    with pytest.raises(NATIVE.InvalidTask, match="args"):
        task_functions.echo.enqueue(value)
    assert not Job.objects.exists()


def nested(levels: int) -> Any:
    return "[" * levels + "]" * levels


def test_arguments_may_be_nested_as_deep_as_an_import_reads_them() -> None:
    deepest = json.loads(nested(MAX_PLAIN_DEPTH - 1))
    assert_an_import_brings_back(deepest)


def test_numbers_may_be_as_large_as_an_import_reads_them() -> None:
    largest = sys.float_info.max
    for value in (largest, -largest, int(largest), -int(largest), 1e150, 10**150, 1e-300):
        assert_an_import_brings_back(value)


def assert_an_import_brings_back(value: Any) -> None:
    """As an argument, and as what a task has returned."""
    task_functions.echo.enqueue(value, b=value)
    task_job(key="done", state=JobState.COMPLETED, finished_at=NOW, result=[value])
    ann, file = Actor("ann", "cli"), io.BytesIO()
    transfer.export(file, "queuectl", ann)
    before = list(Job.objects.order_by("key").values("args", "result"))
    Job.objects.all().delete()
    transfer.import_file(io.BytesIO(file.getvalue()), ann)
    assert list(Job.objects.order_by("key").values("args", "result")) == before
    Job.objects.all().delete()


def test_arguments_nested_deeper_or_into_themselves_are_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for value in (json.loads(nested(MAX_PLAIN_DEPTH)), json.loads(nested(900)), circle):
        with pytest.raises(
            NATIVE.InvalidTask, match=r"args of tests\.task_functions\.echo.*nested"
        ):
            task_functions.echo.enqueue(value)
    assert not Job.objects.exists()


@pytest.mark.parametrize("zone", [UTC, dt_timezone(timedelta(hours=5))])
def test_a_time_that_some_zone_cannot_show_is_refused(zone: Any) -> None:
    with pytest.raises(NATIVE.InvalidTask, match="run_at takes a time that every zone can show"):
        task_functions.noop.using(run_after=datetime.min.replace(tzinfo=zone)).enqueue()
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("args", "kwargs"), [(["x" * 1_048_576], {}), (["x" * 600_000], {"b": "x" * 600_000})]
)
def test_arguments_too_long_to_be_handed_on_are_refused(
    args: list[str], kwargs: dict[str, str]
) -> None:
    with pytest.raises(NATIVE.InvalidTask, match=r"bytes of JSON; args and kwargs take 1,048,576"):
        task_functions.add.enqueue(*args, **kwargs)
    assert not Job.objects.exists()


@pytest.mark.parametrize("value", [{1}, object(), b"\xff"], ids=["set", "object", "bytes"])
def test_an_argument_that_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        task_functions.echo.enqueue(value)
    assert not Job.objects.exists()


def test_whoever_listens_is_told_of_a_new_task() -> None:
    heard: list[Any] = []

    def receive(sender: Any, task_result: Any, **_: Any) -> None:
        heard.append((sender, task_result.id))

    NATIVE.signals.task_enqueued.connect(receive)
    try:
        result = task_functions.noop.enqueue()
    finally:
        NATIVE.signals.task_enqueued.disconnect(receive)
    assert heard == [(type(task_functions.noop.get_backend()), result.id)]


@pytest.mark.django_db(transaction=True)
def test_many_tasks_are_stored_in_their_order_and_each_is_told_of() -> None:
    heard: list[Any] = []

    def receive(task_result: Any, **_: Any) -> None:
        heard.append(task_result)

    add, mail = task_functions.add, task_functions.noop.using(queue_name="mail")
    calls = [(add, [n], {"b": 1}) for n in range(600)]
    NATIVE.signals.task_enqueued.connect(receive)
    try:
        results = add.get_backend().enqueue_many([*calls, (mail, [], {})])
    finally:
        NATIVE.signals.task_enqueued.disconnect(receive)
    jobs = list(Job.objects.order_by("id"))
    assert [job.key for job in jobs] == [result.id for result in results]
    assert [job.args["args"] for job in jobs if job.args] == [*([n] for n in range(600)), []]
    assert (jobs[-1].queue, heard) == ("mail", results)
    assert {result.enqueued_at for result in results} == {jobs[0].created_at}


def test_of_many_tasks_of_which_one_is_wrong_none_is_stored() -> None:
    backend, echo = task_functions.echo.get_backend(), task_functions.echo
    with pytest.raises(NATIVE.InvalidTask):
        backend.enqueue_many([(echo, [1], {}), (echo, [chr(0)], {})])
    assert backend.enqueue_many([]) == [] and not Job.objects.exists()


def test_a_coroutine_may_enqueue_and_ask() -> None:
    async def both() -> Any:
        result = await task_functions.add.aenqueue(1, 2)
        found = await task_functions.add.aget_result(result.id)
        await Job.objects.aupdate(state=JobState.CANCELLED, finished_at=NOW)
        await found.arefresh()
        return result, found

    # In this thread: another one's connection would outlive the test.
    result, found = async_to_sync(both)()
    assert found.id == result.id == stored().key
    assert (str(result.status), str(found.status)) == ("READY", "FAILED")


# Results


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (JobState.PENDING, "READY"),
        (JobState.SCHEDULED, "READY"),
        (JobState.BLOCKED, "READY"),
        (JobState.FAILED, "READY"),
        (JobState.PROCESSING, "RUNNING"),
        (JobState.COMPLETED, "SUCCESSFUL"),
        (JobState.DEAD, "FAILED"),
        (JobState.CANCELLED, "FAILED"),
    ],
)
def test_every_state_has_its_status(state: JobState, status: str) -> None:
    assert str(answer(task_job(state=state)).status) == status


def test_a_result_tells_every_attempt() -> None:
    job = task_job(state=JobState.COMPLETED, result={"sum": 3}, runs=2)
    for number, outcome, error in ((1, Kind.FAILED, "ValueError: x"), (2, Kind.SUCCEEDED, "")):
        Attempt.objects.create(
            job=job, number=number, worker=make_worker(name=f"w{number}"), outcome=outcome, error=error,
            traceback=f"Traceback {number}" if error else "", started_at=NOW + seconds(number),
            finished_at=NOW + seconds(number + 0.5),
        )  # fmt: skip
    found = answer(job)
    assert found.return_value == {"sum": 3}
    assert (found.worker_ids, found.attempts) == (["w1", "w2"], 2)
    assert (found.started_at, found.last_attempted_at) == (NOW + seconds(1), NOW + seconds(2))
    assert found.finished_at == job.finished_at
    [error] = found.errors
    assert (error.exception_class, error.traceback) == (ValueError, "Traceback 1")


def test_a_result_with_many_attempts_is_two_queries() -> None:
    job = task_job(state=JobState.COMPLETED, result=1, runs=5)
    for number in range(1, 6):
        Attempt.objects.create(job=job, number=number, outcome=Kind.FAILED, finished_at=NOW)
    with CaptureQueriesContext(connection) as queries:
        answer(job)
    assert len(queries) == 2


if connection.vendor == "sqlite":

    @pytest.mark.parametrize(
        ("table", "column", "value"),
        [
            ("job", "runs", "2.5"),
            ("job", "args", "'[1]'"),
            ("job", "finished_at", "'2024-13-45 00:00:00'"),
            ("attempt", "started_at", "'2024-13-45 00:00:00'"),
        ],
    )
    def test_a_result_is_told_without_what_a_hand_has_spoilt(
        table: str, column: str, value: str
    ) -> None:
        job = task_job(key="j", state=JobState.COMPLETED, result={"sum": 3}, runs=2)
        Attempt.objects.create(
            job=job, number=2, outcome="succeeded", started_at=NOW, finished_at=NOW
        )
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE queuectl_{table} SET {column} = {value}")
        found = answer(job)
        assert (found.id, found.return_value) == ("j", {"sum": 3})


def test_a_running_task_names_its_worker() -> None:
    found = answer(task_job(state=JobState.PROCESSING, worker=make_worker(name="busy")))
    assert (found.worker_ids, found.last_attempted_at) == (["busy"], NOW)
    with pytest.raises(ValueError, match="not finished"):
        found.return_value  # noqa: B018


def once_asked_for_attempts(step: Callable[[], object]) -> AbstractContextManager[None]:
    """Take the step when the job has been read, and its attempts have not."""
    steps = [step]

    def execute(run: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if "queuectl_attempt" in sql and sql.startswith("SELECT") and steps:
            steps.pop()()
        return run(sql, *rest)

    return connection.execute_wrapper(execute)


def test_a_result_counts_an_attempt_once_that_ends_as_it_is_asked_for() -> None:
    job = task_job()
    work = claim_one(worker := make_worker(name="busy"))
    with once_asked_for_attempts(lambda: report(worker, work)):
        found = answer(job)
    assert (str(found.status), found.worker_ids, found.errors) == ("RUNNING", ["busy"], [])
    assert str(answer(job).status) == "SUCCESSFUL"


@pytest.mark.django_db(transaction=True)
def test_a_result_is_of_one_moment() -> None:
    job = task_job(state=JobState.DEAD, runs=1)
    Attempt.objects.create(
        job=job, number=1, worker=make_worker(name="w"), outcome=Kind.FAILED, finished_at=NOW
    )

    def discard() -> None:
        def in_a_connection_of_its_own() -> None:
            operations.discard(job, Actor("ann", "cli"))
            connections.close_all()

        thread = Thread(target=in_a_connection_of_its_own)
        thread.start()
        thread.join(10)

    with once_asked_for_attempts(discard):
        found = answer(job)
    assert (str(found.status), found.worker_ids) == ("FAILED", ["w"])
    assert not Job.objects.exists()


def test_a_result_counts_a_run_that_left_no_attempt_as_the_run_itself_did() -> None:
    job = task_job(state=JobState.COMPLETED, runs=2, finished_at=NOW)
    Attempt.objects.create(
        job=job, number=2, worker=make_worker(name="w"), outcome=Kind.SUCCEEDED, finished_at=NOW
    )
    assert (answer(job).worker_ids, answer(job).attempts) == (["", "w"], 2)


def test_a_result_can_be_looked_at_again() -> None:
    result = task_functions.add.enqueue(1, 2)
    Job.objects.update(state="completed", finished_at=NOW, result=3)
    result.refresh()
    assert (str(result.status), result.return_value) == ("SUCCESSFUL", 3)


def test_a_result_that_is_not_there_is_said_so() -> None:
    command = make_job()
    for key in ("nowhere", command.key):
        with pytest.raises(NATIVE.ResultDoesNotExist):
            task_functions.add.get_result(key)


def test_a_result_of_another_task_is_refused() -> None:
    result = task_functions.add.enqueue(1, 2)
    mismatch = import_module(f"{NATIVE.name}.exceptions").TaskResultMismatch
    with pytest.raises(mismatch):
        task_functions.noop.get_result(result.id)


def test_a_task_whose_code_is_gone_is_answered_all_the_same() -> None:
    found = answer(task_job(task="shop.tasks.gone", state=JobState.COMPLETED, result=7))
    assert (found.task.module_path, found.task.name) == ("shop.tasks.gone", "gone")
    assert found.return_value == 7
    with pytest.raises(ImportError):
        found.task.call()


@pytest.mark.parametrize(
    "code",
    ["def (", "from jobs.tasks import task\n\ntask(max_retries=-1)(lambda: None)\n"],
    ids=["SyntaxError", "InvalidTask"],
)
def test_a_task_whose_module_is_broken_is_answered_all_the_same(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_tasks.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    found = answer(task_job(task="broken_tasks.sell", state=JobState.COMPLETED, result=7))
    assert (found.task.module_path, found.return_value) == ("broken_tasks.sell", 7)


@pytest.mark.parametrize("runs", [0, 1])
def test_a_running_task_that_reads_its_result_anew_is_in_the_same_attempt(runs: int) -> None:
    """What was claimed ahead has no `started_at` in its row yet."""
    make_queues("default")
    task_job(task="tests.task_functions.read_anew", args={"args": [], "kwargs": {}}, runs=runs)
    [work] = claim(make_worker(name="w"), free=0, ahead=1)
    told = tasks.run(work, "w", 100.0).result
    assert told == {"attempt": runs + 1, "status": "RUNNING", "worker": "w", "began": True}


def test_a_priority_and_a_queue_that_a_person_changed_are_told() -> None:
    found = answer(task_job(priority=900, queue="urgent"))
    assert (found.task.priority, found.task.queue_name) == (100, "urgent")


# Around it


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"OPTIONS": None}, ""),
        ({"OPTIONS": ["ENQUEUE_ON_COMMIT"]}, "OPTIONS that are no mapping"),
        ({"OPTIONS": {"ENQUEUE_ON_COMMIT": "no"}}, "ENQUEUE_ON_COMMIT = 'no'"),
        ({"OPTIONS": {"ENQUEUE_ON_COMMIT": 1}}, "ENQUEUE_ON_COMMIT = 1"),
        ({"OPTIONS": {"ENQUEUE_ON_COMMIT": []}}, "ENQUEUE_ON_COMMIT = []"),
        ({"OPTIONS": {"ENQUEUE_ON_COMMIT": "default"}}, ""),
        ({"ENQUEUE_ON_COMMIT": True}, "ENQUEUE_ON_COMMIT beside its OPTIONS"),
        ({"QUEUES": "default"}, "QUEUES = 'default'"),
    ],
    ids=str,
)
def test_a_backend_tells_what_its_settings_cannot_mean(said: dict[str, Any], told: str) -> None:
    backend = {"BACKEND": "jobs.backend.QueueCTLBackend", **said}
    with override_settings(TASKS={"default": backend}):
        found = [e.msg for e in run_checks() if e.id == "queuectl.E003"]
    if told:
        assert found and all(told in message for message in found)
    else:
        assert found == []


def test_a_backend_tells_what_is_wrong_with_it() -> None:
    options = {"BACKEND": "jobs.backend.QueueCTLBackend", "OPTIONS": {"ENQUEUE_LATER": True}}
    with override_settings(TASKS={"default": options}):
        [error] = task_functions.noop.get_backend().check()
    assert "ENQUEUE_LATER" in error.msg and "ENQUEUE_ON_COMMIT" in error.hint
    assert list(task_functions.noop.get_backend().check()) == []


def test_a_copy_of_a_task_from_the_web_needs_the_permission_for_tasks(
    django_user_model: Any,
) -> None:
    job = task_job(state=JobState.COMPLETED)
    stranger = Actor("eve", "web", user=django_user_model.objects.create_user("eve"))
    with pytest.raises(NotPermitted):
        operations.run_again(job, stranger)
    owner = Actor("ann", "web", user=django_user_model.objects.create_superuser("ann"))
    twin = Job.objects.get(key=operations.run_again(job, owner).key)
    assert (twin.task, twin.args, twin.state) == (job.task, job.args, "pending")


# At the edge


@pytest.mark.parametrize("key", ["a\0b", "\ud800", "x" * 5_000, "", 7], ids=ascii)
def test_an_id_that_no_job_can_have_is_not_there(key: Any) -> None:
    with pytest.raises(NATIVE.ResultDoesNotExist):
        task_functions.add.get_backend().get_result(key)


HIDDEN = """
from jobs.tasks import task

def _send(): pass
def lost(): pass

send = task(_send)
other = [task(lost)]
del lost
"""


def test_a_task_that_no_worker_could_find_is_refused_when_it_is_enqueued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would wait for a day, for a worker that has its code, and then be dead."""
    (tmp_path / "hidden_tasks.py").write_text(HIDDEN)
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("hidden_tasks")
    for task, name in ((module.send, "_send"), (module.other[0], "lost")):
        with pytest.raises(NATIVE.InvalidTask) as caught:
            task.enqueue()
        assert str(caught.value) == (
            f"no worker can find the task at 'hidden_tasks.{name}': "
            "in its module it must have the name of its function"
        )
    with pytest.raises(NATIVE.InvalidTask):
        task_functions.noop.get_backend().enqueue_many(
            [(task_functions.noop, [], {}), (module.send, [], {})]
        )
    assert not Job.objects.exists()
    module._send = module.send
    assert module.send.enqueue().status.name == "READY"


def test_a_task_of_the_script_that_was_started_is_refused_when_it_is_enqueued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It finds itself there, and a worker finds the script that it was itself started with."""

    def chore() -> None: ...

    for name in ("__main__", "__mp_main__"):
        chore.__module__, chore.__qualname__ = name, "chore"
        task: Any = as_task(chore)
        monkeypatch.setattr(sys.modules["__main__"], "chore", task, raising=False)
        monkeypatch.setitem(sys.modules, name, sys.modules["__main__"])
        with pytest.raises(NATIVE.InvalidTask) as caught:
            task.enqueue()
        assert str(caught.value) == (
            f"no worker can find the task at '{name}.chore': move it from the script into a module"
        )
    assert not Job.objects.exists()


def test_a_time_that_is_no_plan_is_refused_as_the_framework_says() -> None:
    far = task_functions.noop.using(run_after=timezone.now() + timedelta(days=4_000))
    try:
        far.enqueue()
    except Exception as error:
        found = type(error)
    assert found is NATIVE.InvalidTask


def test_a_time_that_has_passed_is_now() -> None:
    past = timezone.now() - timedelta(hours=1)
    task_functions.noop.using(run_after=past).enqueue()
    job = stored()
    assert (job.state, job.run_at) == ("pending", past) and job.due_at > past


def test_a_named_argument_that_would_not_come_back_is_refused_too() -> None:
    with pytest.raises(NATIVE.InvalidTask, match="kwargs"):
        task_functions.echo.enqueue(good=1, bad=[float("nan")])
    assert not Job.objects.exists()


def test_arguments_come_back_as_json_has_them() -> None:
    result = task_functions.echo.enqueue((1, b"two"), three={"four": (5,)})
    assert (result.args, result.kwargs) == ([[1, "two"]], {"three": {"four": [5]}})
    found = task_functions.echo.get_result(result.id)
    assert (found.args, found.kwargs) == (result.args, result.kwargs)


def test_a_refused_task_tells_nobody() -> None:
    heard: list[Any] = []

    def receive(**said: Any) -> None:
        heard.append(said)

    NATIVE.signals.task_enqueued.connect(receive)
    try:
        with pytest.raises(NATIVE.InvalidTask):
            task_functions.echo.enqueue("\0")
    finally:
        NATIVE.signals.task_enqueued.disconnect(receive)
    assert heard == []


def test_an_error_within_a_block_leaves_the_tasks_before_it() -> None:
    first = task_functions.noop.enqueue()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        task_functions.noop.enqueue()
        raise ZeroDivisionError
    assert stored().key == first.id


def test_on_commit_a_task_that_is_rolled_back_is_never_stored(
    django_capture_on_commit_callbacks: Any,
) -> None:
    options = {"BACKEND": "jobs.backend.QueueCTLBackend", "OPTIONS": {"ENQUEUE_ON_COMMIT": True}}
    with (
        override_settings(TASKS={"default": options}),
        django_capture_on_commit_callbacks() as due,
        pytest.raises(ZeroDivisionError),
        transaction.atomic(),
    ):
        task_functions.noop.enqueue()
        raise ZeroDivisionError
    assert due == [] and not Job.objects.exists()


def test_a_number_of_runs_that_somebody_has_edited_takes_no_memory() -> None:
    found = answer(task_job(runs=2**31 - 1))
    assert found.attempts == len(found.worker_ids) == 1_000_000


def test_a_task_from_its_enqueue_to_its_result() -> None:
    result = task_functions.fail_twice.enqueue("/nowhere")
    worker = make_worker(name="busy")
    report(worker, claim_one(worker), Kind.FAILED, error="OSError: run 1", traceback="Traceback 1")
    result.refresh()
    assert (str(result.status), result.worker_ids) == ("READY", ["busy"])
    assert result.errors[0].exception_class is OSError
    Job.objects.update(state="pending")
    report(worker, claim_one(worker), result=7)
    result.refresh()
    assert (result.return_value, result.attempts, len(result.errors)) == (7, 2, 1)


def test_a_claim_in_progress_counts_as_an_attempt() -> None:
    result = task_functions.add.enqueue(1, 2)
    worker = make_worker(name="busy")
    claim_one(worker)
    result.refresh()
    assert (str(result.status), result.worker_ids, result.started_at) == ("RUNNING", ["busy"], NOW)


def test_a_task_claimed_ahead_has_not_been_attempted() -> None:
    result = task_functions.add.enqueue(1, 2)
    claim(make_worker(), free=0, ahead=1)
    result.refresh()
    assert (result.worker_ids, result.started_at) == ([], None)


def test_a_cancelled_task_has_failed_without_a_value() -> None:
    found = answer(task_job(state=JobState.CANCELLED))
    assert found.is_finished and found.worker_ids == []
    with pytest.raises(ValueError, match="Task failed"):
        found.return_value  # noqa: B018


def test_a_task_that_no_worker_ever_knew_says_what_was_missing() -> None:
    found = answer(task_job(state=JobState.DEAD, last_error="Cannot import the task gone.away"))
    assert [(e.exception_class, e.traceback) for e in found.errors] == [
        (ImportError, "Cannot import the task gone.away")
    ]


def test_the_system_check_asks_the_backend() -> None:
    options = {"BACKEND": "jobs.backend.QueueCTLBackend", "OPTIONS": {"ENQUEUE_LATER": True}}
    with override_settings(TASKS={"default": options}):
        found = [message.id for message in run_checks()]
    assert "queuectl.E003" in found


def test_a_site_without_the_app_is_told_so() -> None:
    backend = task_functions.noop.get_backend()
    with modify_settings(INSTALLED_APPS={"remove": "jobs"}):
        assert [message.id for message in backend.check()] == ["queuectl.E002"]


# Both frameworks at once


@pytest.mark.skipif(not BOTH, reason="only one of django.tasks and django_tasks is installed")
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_task_of_either_framework_is_answered_in_its_own_types(name: str) -> None:
    module, base = import_module(name), import_module(f"{name}.base")
    made = module.task(max_retries=1)(task_functions.noop.func)
    assert isinstance(made, base.Task)
    assert made.get_backend().task_class.__mro__[1:].count(base.Task) == 1
    result = made.enqueue()
    assert isinstance(result, base.TaskResult)
    assert stored().max_retries == 1
    with pytest.raises(import_module(f"{name}.exceptions").TaskResultDoesNotExist):
        made.get_backend().get_result("nowhere")


@pytest.mark.skipif(not BOTH, reason="only one of django.tasks and django_tasks is installed")
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_either_framework_reads_a_stored_task_in_the_types_of_its_code(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, base = import_module(name), import_module(f"{name}.base")
    made = module.task(max_retries=1)(task_functions.noop.func)
    monkeypatch.setattr(task_functions, "noop", made)
    result = made.enqueue()
    for asked in ("django.tasks", "django_tasks"):
        found = import_module(asked).task_backends["default"].get_result(result.id)
        assert type(found) is base.TaskResult and isinstance(found.task, base.Task)
    assert made.get_result(result.id).task == made
