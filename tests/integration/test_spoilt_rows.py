"""Rows that somebody has edited by hand: each ends as dead with its reason, and nothing else suffers."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client

from jobs import operations, stats
from jobs.ledger import spoilt
from jobs.management.commands.queuectl import Command
from jobs.models import Attempt, Job, Output
from jobs.states import JobState
from tests.integration.builders import NOW, claim, keys, make_job, make_queues, make_worker
from tests.integration.ledgers import Busy

pytestmark = pytest.mark.django_db(transaction=True)


def spoil(job: Job, column: str, value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE queuectl_job SET {column} = {value} WHERE id = %s", [job.id])


JSON = [
    ("env", '{"A": 1}'),
    ("env", '["A"]'),
    ("env", "5"),
    ("env", "null"),
    ("argv", "[1]"),
    ("argv", "[]"),
    ("argv", '"true"'),
    ("argv", '{"true": 1}'),
]
NOT_NUMBERS = ["priority", "runs", "max_retries", "losses", "timeout", "backoff_base"]
ANYTHING = [(column, "'abc'") for column in NOT_NUMBERS]
ANYTHING += [("created_at", "'abc'"), ("due_at", "'abc'")]
BY_DATABASE = [] if connection.vendor == "postgresql" else ANYTHING
SPOILT = [*((c, f"'{v}'") for c, v in JSON), *BY_DATABASE]


@pytest.mark.parametrize(("column", "value"), SPOILT, ids=str)
def test_a_spoilt_row_is_dead_with_its_reason_and_its_neighbours_run(
    column: str, value: str
) -> None:
    make_queues("default", "other")
    spoilt = make_job(key="spoilt", **({"argv": ["true"]} if column == "argv" else {}))
    make_job(key="before", priority=9)
    make_job(key="after", queue="other", priority=1)
    spoil(spoilt, column, value)
    works = claim(make_worker(), ["default", "other"])
    assert keys(works) == ["before", "after"]
    row = Job.objects.get(key="spoilt")
    assert (row.state, row.finished_at) == (JobState.DEAD, NOW)
    assert row.last_error.startswith(f"Could not start: its {column} is not ")
    assert isinstance(row.title, str)
    assert row.retries
    assert row.due_at
    assert row.created_at
    assert [job.key for job in stats.stream(state=JobState.DEAD)] == ["spoilt"]


def test_a_task_whose_arguments_no_worker_can_send_is_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spoilt, "_MOST_ARGS", 100)
    make_queues("default")
    make_job(key="long", task="a.b", args={"args": ["x" * 100], "kwargs": {}})
    make_job(key="short", task="a.b", args={"args": ["x" * 50], "kwargs": {}})
    make_job(key="command")
    assert keys(claim(make_worker(), ["default"])) == ["short", "command"]
    row = Job.objects.get(key="long")
    assert row.state == JobState.DEAD
    assert row.last_error == (
        "Could not start: its args are longer than the 100 bytes that a worker can send."
    )


def test_a_worker_lives_through_spoilt_rows_and_drains_the_others() -> None:
    make_queues("default")
    spoilt = [make_job() for _ in range(5)]
    sound = [make_job() for _ in range(5)]
    for job, value in zip(spoilt, ('{"A": 1}', '["A"]', "5", "null", "[[]]"), strict=True):
        spoil(job, "env", f"'{value}'")
    busy = Busy()
    busy.drain()
    busy.close()
    states: Any = dict(Job.objects.values_list("id", "state"))
    assert {states[job.id] for job in spoilt} == {JobState.DEAD}
    assert {states[job.id] for job in sound} == {JobState.COMPLETED}


def test_a_turn_that_fails_on_data_again_and_again_is_tried_ever_less_often() -> None:
    busy = Busy()

    def fails() -> None:
        raise ValueError("a row nobody has thought of")

    pauses = []
    for _ in range(8):
        began = busy.process.failures
        busy.process.attempt(fails)
        pauses.append(busy.process.failures - began)
    busy.close()
    assert pauses == [1] * 8


def test_an_outcome_that_cannot_be_stored_at_all_ends_its_job(busy: Busy) -> None:
    """Else it would be forgotten, and the job run again at every heartbeat."""
    job, sound = make_job(), make_job()
    Attempt.objects.create(job=job, number=1, outcome="succeeded", finished_at=NOW)
    for _ in range(4):
        busy.process.beat_at = busy.process.retry_at = 0.0
        busy.process.attempt(busy.process.turn)
        busy.answer()
    job.refresh_from_db()
    sound.refresh_from_db()
    assert (job.state, job.worker_id, job.lease) == (JobState.DEAD, None, None)
    assert "outcome cannot be stored" in job.last_error
    assert sound.state == JobState.COMPLETED


DEEP = 985 if connection.vendor == "sqlite" else 3000
"""SQLite takes a thousand levels in a column of JSON."""


@pytest.mark.parametrize("column", ["env", "argv"])
def test_a_row_that_is_nested_too_deeply_is_dead_and_can_be_looked_at(
    column: str, busy: Busy
) -> None:
    """Whether Python can read it depends on its version, and on how deep it is itself."""
    spoilt, sound = make_job(**({"argv": ["true"]} if column == "argv" else {})), make_job()
    spoil(spoilt, column, f"'{'[' * DEEP}{']' * DEEP}'")
    works_through(busy)
    spoilt.refresh_from_db(fields=["state", "last_error"])
    sound.refresh_from_db()
    assert (spoilt.state, sound.state) == (JobState.DEAD, JobState.COMPLETED)
    assert spoilt.last_error.startswith(f"Could not start: its {column} ")
    if "too deeply" in spoilt.last_error:
        spoilt.refresh_from_db()
        assert not getattr(spoilt, column)


def works_through(busy: Busy) -> None:
    """Let a ledger go on as it does after errors, without its pauses."""
    for _ in range(10):
        busy.process.retry_at = 0.0
        busy.process.attempt(busy.process.turn)
        busy.process.attempt(lambda: busy.process.sees_work(0.0))
        busy.answer()
    busy.process.attempt(busy.process.turn)


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
IMPOSSIBLE = [
    ("due_at", "2024-13-45 00:00:00"),
    ("due_at", "2024-02-30 00:00:00"),
    ("due_at", "2024-01-01 24:61:00"),
    ("due_at", "0000-01-01 00:00:00"),
    ("run_at", "2024-13-45 00:00:00"),
    ("created_at", "2024-13-45 00:00:00"),
    ("put_off_since", "2024-13-45 00:00:00"),
]

if connection.vendor == "sqlite":

    @pytest.mark.parametrize("state", [JobState.PENDING, JobState.SCHEDULED])
    @pytest.mark.parametrize(("column", "value"), IMPOSSIBLE)
    def test_a_time_that_is_none_stops_no_worker(
        state: JobState, column: str, value: str, busy: Busy
    ) -> None:
        spoilt = make_job(state=state, priority=9, due_at=LONG_AGO)
        odd, sound = make_job(), make_job()
        spoil(spoilt, column, f"'{value}'")
        spoil(odd, column, "'2024-02-29T12:00'")
        works_through(busy)
        for job in (spoilt, odd, sound):
            job.refresh_from_db()
        assert spoilt.state == JobState.DEAD
        assert "beyond the calendar" in spoilt.last_error
        assert (odd.state, sound.state) == (JobState.COMPLETED, JobState.COMPLETED)


if connection.vendor == "postgresql":

    @pytest.mark.parametrize("state", [JobState.PENDING, JobState.SCHEDULED])
    @pytest.mark.parametrize("value", ["'infinity'", "'-infinity'", "'12000-01-01'"])
    def test_a_time_beyond_the_calendar_stops_no_worker(state: JobState, value: str) -> None:
        make_queues("default")
        spoilt, sound = make_job(state=state), make_job()
        spoil(spoilt, "due_at", value)
        busy = Busy()
        works_through(busy)
        busy.close()
        spoilt.refresh_from_db()
        assert spoilt.state == JobState.DEAD
        assert "beyond the calendar" in spoilt.last_error
        assert spoilt.created_at == NOW, "what was sound stays"
        sound.refresh_from_db()
        assert sound.state == JobState.COMPLETED


if connection.vendor == "sqlite":
    BLOB = "x'ff001b'"
    MONTH_13 = "'2024-13-45 00:00:00'"
    EDITED = [
        ("output", "data", "'edited'"),
        ("output", "stream", "'abc'"),
        ("output", "offset", "'abc'"),
        ("job", "finished_at", "'yesterday'"),
        ("processing", "started_at", "'yesterday'"),
        ("job", "runs", "'abc'"),
        ("job", "key", BLOB),
        ("job", "last_error", BLOB),
        ("job", "enqueued_by", BLOB),
        ("job", "args", """'["\\ud800"]'"""),
        ("job", "env", """'{"A": "\\ud800"}'"""),
        ("job", "result", """'"\\ud800"'"""),
        ("attempt", "finished_at", "'yesterday'"),
        ("attempt", "number", "'abc'"),
        ("attempt", "cpu_seconds", "'x'"),
        ("attempt", "cpu_seconds", "1e308"),
        ("attempt", "peak_memory_bytes", "'abc'"),
        ("attempt", "stdout_bytes", "'abc'"),
        ("attempt", "worker_id", "'abc'"),
        ("attempt", "error", BLOB),
        ("worker", "heartbeat_at", "'yesterday'"),
        ("worker", "queues", "'1'"),
        ("worker", "queues", """'["\\ud800"]'"""),
        ("worker", "name", BLOB),
        ("queue", "name", BLOB),
        ("queue", "paused_reason", BLOB),
        ("event", "actor", BLOB),
        ("event", "subject", BLOB),
    ]
    COMMANDS = (
        "status", "list", "list --json", "dlq list", "job show j", "job show j --json", "job output j",
        "worker list", "queue list", "metrics", "export {0} --format queuectl", "export {1}",
    )  # fmt: skip
    WINDOWS = ("job", "queue", "worker", "event")
    PAGES = (
        "/", "/jobs/", "/jobs/?state=dead", "/jobs/?state=processing", "/dlq/", "/charts/", "/jobs/j/",
        *(f"/admin/queuectl/{name}/" for name in WINDOWS), "/admin/queuectl/job/j/change/",
        "/admin/queuectl/worker/{worker}/change/",
    )  # fmt: skip
    ROWS = {"job": "job WHERE key = 'j'", "processing": "job WHERE key = 'p'"}

    @pytest.mark.parametrize(("table", "column", "value"), EDITED, ids=str)
    def test_what_a_hand_has_put_into_a_row_stops_no_reader(
        table: str, column: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Every command, page and export shows the rest."""
        make_queues("default")
        operations.pause("default", operations.Actor("ann", "cli"), reason="r")
        worker = make_worker(heartbeat_at=NOW)
        job = make_job(key="j", state=JobState.DEAD, runs=1, finished_at=NOW, last_error="boom")
        kept = {"job": job, "number": 1, "outcome": "failed", "worker": worker, "error": "boom"}
        Attempt.objects.create(**kept, started_at=NOW, finished_at=NOW, stdout_bytes=3)
        Output.objects.create(job=job, attempt=1, stream=1, sequence=0, offset=0, data=b"hi\n")
        make_job(key="sound", state=JobState.DEAD, finished_at=NOW)
        make_job(key="p", state=JobState.PROCESSING, worker=worker)
        into, _, where = ROWS.get(table, table).partition(" ")
        with connection.cursor() as cursor:
            cursor.execute(f'UPDATE queuectl_{into} SET "{column}" = {value} {where}')
        files = [str(tmp_path / name) for name in ("ours.jsonl", "original.json")]
        with patch("jobs.lockfile.is_alive", return_value=True):
            for line in COMMANDS:
                with suppress(SystemExit):  # the id may be another now
                    words = line.format(*files).split()
                    Command().run_from_argv(["manage.py", "queuectl", *words])
            client = Client()
            user = User.objects.create(username="root", is_superuser=True, is_staff=True)
            client.force_login(user)
            pages = [page.format(worker=worker.pk) for page in PAGES]
            assert [page for page in pages if client.get(page).status_code >= 500] == []
        printed = "".join(capsys.readouterr())
        assert "Traceback" not in printed and "Somebody may have edited" not in printed
        assert '"id":"sound"' in Path(files[0]).read_text()
        assert '"sound"' in Path(files[1]).read_text()

    NO_TIMES = ["'yesterday'", MONTH_13, "'2024-02-30 00:00:00'", BLOB, "5"]

    @pytest.mark.parametrize("column", ["started_at", "finished_at"])
    @pytest.mark.parametrize("value", [*NO_TIMES, "'2024-01-01 24:00:00'", "'2024-01-01T00:00'"])
    def test_figures_leave_out_an_attempt_with_what_is_no_time(column: str, value: str) -> None:
        job = make_job(key="j", state=JobState.COMPLETED)
        took = {"started_at": NOW, "finished_at": NOW + timedelta(seconds=3)}
        for number in (1, 2):
            Attempt.objects.create(job=job, number=number, outcome="succeeded", **took)
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE queuectl_attempt SET {column} = {value} WHERE number = 1")
        found = stats.metrics()
        assert (found.average, found.fastest, found.slowest) == (3.0, ("j", 3.0), ("j", 3.0))


@pytest.mark.parametrize("error", [TypeError, UnicodeError, OverflowError, AttributeError])
def test_a_value_that_no_reader_has_thought_of_is_one_sentence(
    error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    with patch("jobs.stats.snapshot", side_effect=error("no\x1bway")):
        with pytest.raises(SystemExit) as end:
            Command().run_from_argv(["manage.py", "queuectl", "status"])
        with pytest.raises(error):
            Command().run_from_argv(["manage.py", "queuectl", "status", "--traceback"])
        with pytest.raises(error):
            call_command("queuectl", "status")
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert said.startswith(f"Error: Something could not be read: {error.__name__}: no\\x1bway\n")
