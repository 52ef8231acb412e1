"""Rows that somebody has edited by hand: each ends as dead with its reason, and nothing else suffers."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from pytest_django.asserts import assertContains

from jobs import clock, dialect, ledger, operations, stats
from jobs.exceptions import UnreadableRow
from jobs.ledger import rescue, rescue_strays, spoilt, submitters
from jobs.management.commands.queuectl import Command
from jobs.models import Attempt, Event, Job, Output, Queue, Setting, Stream, Worker
from jobs.pages import keyset
from jobs.pages.shown import Sight, error
from jobs.states import JobState
from jobs.transfer import export, import_file
from jobs.worker.maintenance import open_queues, rescue_all
from tests.integration.builders import NOW, claim, keys, make_job, make_queues, make_worker, report
from tests.integration.ledgers import Busy
from tests.task_functions import noop

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
ANYTHING += [("created_at", "'abc'"), ("due_at", "'abc'"), ("due_at", "'2026-01-01 00:00:00Z'")]
BEYOND = ["'NaN'", "'Infinity'"] if connection.vendor == "postgresql" else ["9e999"]
BOUNDLESS = [(column, value) for column in ("timeout", "backoff_base") for value in [*BEYOND, "-1"]]
BOUNDLESS += [("timeout", "1e300")]
BY_DATABASE = [] if connection.vendor == "postgresql" else ANYTHING
SPOILT = [*((c, f"'{v}'") for c, v in JSON), *BOUNDLESS, *BY_DATABASE]


@pytest.mark.parametrize(("column", "value"), SPOILT, ids=str)
def test_a_spoilt_row_is_dead_with_its_reason_and_its_neighbours_run(
    column: str, value: str
) -> None:
    make_queues("default", "other")
    spoilt = make_job(key="spoilt", **({"argv": ["true"]} if column == "argv" else {}))
    make_job(key="before", priority=9)
    make_job(key="after", queue="other", priority=1)
    make_job(key="beside", priority=spoilt.priority)
    spoil(spoilt, column, value)
    for room in (ledger.Room(free=1), ledger.Room(free=0, ahead=1)):
        assert ledger.is_claimable(["default", "other"], room)
    works = claim(make_worker(), ["default", "other"])
    assert keys(works) == ["before", "beside", "after"]
    row = Job.objects.get(key="spoilt")
    assert (row.state, row.finished_at) == (JobState.DEAD, NOW)
    assert row.last_error.startswith(f"Could not start: its {column} is not ")
    assert isinstance(row.title, str)
    assert row.retries
    assert row.due_at
    assert row.created_at
    assert [job.key for job in stats.stream(state=JobState.DEAD)] == ["spoilt"]


def test_a_job_that_a_hand_moved_to_a_queue_without_a_row_is_found(busy: Busy) -> None:
    moved = make_job(key="moved")
    spoil(moved, "queue", "'media'")
    assert busy.drain() == 1, "a look, in vain"
    assert Job.objects.get().state == JobState.PENDING
    assert busy.process.maintenance
    busy.process.maintenance._rescue_at = clock.monotonic()
    assert busy.process.maintenance.run(busy.process.policy), "there is something to claim"
    busy.drain()
    assert Job.objects.get().state == JobState.COMPLETED
    assert Queue.objects.filter(name="media").exists()


@pytest.mark.skipif(connection.vendor == "postgresql", reason="there a name is a text")
def test_a_job_whose_queue_a_hand_has_put_as_bytes_is_found(busy: Busy) -> None:
    for name in ("'default'", "'media'", "x'e9'"):
        spoil(make_job(), "queue", f"CAST({name} AS BLOB)")
    busy.drain()
    assert {job.state for job in Job.objects.all()} == {JobState.PENDING}
    assert open_queues() == 3
    busy.process.hinted = True
    busy.drain()
    assert {job.state for job in Job.objects.all()} == {JobState.COMPLETED}
    assert {*Queue.objects.values_list("name", flat=True)} == {"default", "media", r"\xe9"}
    assert open_queues() == 0


@pytest.mark.skipif(connection.vendor == "postgresql", reason="there a name is a text")
def test_a_queue_whose_name_is_no_text_stops_no_worker() -> None:
    make_queues("default", "spoilt")
    make_job(key="a")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE queuectl_queue SET name = x'80ff' WHERE name = 'spoilt'")
    assert ledger.survey((), NOW).queues == ["default"]
    assert keys(claim(make_worker(), ["default"])) == ["a"]


NO_UTF8 = "CAST(x'636166e9' AS TEXT)"
BEHIND_A_ZERO = "CAST(x'6100e9' AS TEXT)"
IN_JSON = "CAST(x'7b2241223a22e9227d' AS TEXT)"


@pytest.mark.skipif(connection.vendor == "postgresql", reason="there a text is UTF-8")
@pytest.mark.parametrize(
    ("column", "value"),
    [
        *[(name, NO_UTF8) for name in ("key", "queue", "command", "cwd", "priority")],
        *[(name, value) for name in ("due_at", "created_at") for value in (NO_UTF8, BEHIND_A_ZERO)],
        ("command", BEHIND_A_ZERO),
        ("env", IN_JSON),
    ],
)
def test_a_text_that_is_no_utf8_ends_its_job_and_stops_no_worker(
    busy: Busy, column: str, value: str
) -> None:
    before = make_job()
    busy.process.turn()
    assert busy.answer(), "its outcome has to be written in the turn that fails"
    spoilt, beside = make_job(), make_job()
    spoil(spoilt, column, value)
    for step in (busy.process.turn, open_queues):
        busy.process.attempt(step)
    busy.drain()
    row = Job.objects.get(id=spoilt.id)
    assert row.state == JobState.DEAD
    assert row.last_error == (
        f"Could not start: its {column} is not a readable text."
        " Somebody has edited its row in the database."
    )
    assert error(row.last_error, Sight(False, False), task=False) == row.last_error
    assert (column, value) != ("command", NO_UTF8) or row.command == r"caf\xe9"
    done = Job.objects.filter(id__in=[before.id, beside.id], state=JobState.COMPLETED)
    assert done.count() == 2


@pytest.mark.skipif(connection.vendor == "postgresql", reason="there a text is UTF-8")
def test_such_a_text_of_an_earlier_attempt_or_of_what_no_claim_reads_ends_nothing(
    busy: Busy,
) -> None:
    again = make_job(task="a.b", args={"args": [], "kwargs": {}}, runs=1, attempts=1)
    Attempt.objects.create(
        job=again, number=1, outcome="failed", finished_at=NOW, error="", traceback=""
    )
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE queuectl_attempt SET error = {NO_UTF8}")
        cursor.execute(f"UPDATE queuectl_job SET last_error = {NO_UTF8}")
    busy.process.attempt(busy.process.turn)
    busy.drain()
    assert Job.objects.get().state == JobState.COMPLETED
    assert Attempt.objects.get(number=1).error == r"caf\xe9"


@pytest.mark.skipif(connection.vendor == "postgresql", reason="there a text is UTF-8")
def test_a_text_that_cannot_be_mended_ends_no_worker(busy: Busy) -> None:
    """Mended its id would be another job's."""
    make_job(key=r"caf\xe9")
    spoil(make_job(), "key", NO_UTF8)
    for _ in range(2):
        busy.process.attempt(busy.process.turn)
    assert busy.process.failures


@pytest.mark.skipif(connection.vendor == "postgresql", reason="there a text is UTF-8")
@pytest.mark.parametrize(
    ("table", "column"),
    [("queue", "name"), ("setting", "key"), ("worker", "host"), ("worker", "lock")],
)
def test_such_a_text_in_another_table_stops_no_worker(busy: Busy, table: str, column: str) -> None:
    make_queues("other")
    Setting.objects.create(key="job-timeout", value=5, updated_at=NOW)
    make_worker(name="another")
    row = {"queue": "name = 'other'", "setting": "true", "worker": "name = 'another'"}[table]
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE queuectl_{table} SET {column} = {NO_UTF8} WHERE {row}")
        assert cursor.rowcount == 1
    make_job()
    process = busy.process
    process.beat_at = 0  # with which it reads the settings
    for step in (process.turn, lambda: rescue_all(process.worker_id)):
        for _ in range(2):
            process.attempt(step)
    process.attempt(process.go_on)
    assert process.failures == 0
    busy.drain()
    assert Job.objects.get().state == JobState.COMPLETED


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


@pytest.mark.parametrize(
    "text",
    [submitters.HELD, *(f"Could not start: {wrong}" for wrong in spoilt.UNSIGNED.values())],
)
@pytest.mark.parametrize("task", [False, True])
def test_why_a_job_was_not_started_is_told_to_those_who_may_see_no_output(
    text: str, task: bool
) -> None:
    assert error(text, Sight(False, False), task=task) == text


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
    assert job.runs == 1, "the next run would take itself for this one"
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
BLOB = "x'ff001b'"
MONTH_13 = "'2024-13-45 00:00:00'"
IMPOSSIBLE = [
    ("due_at", "'2024-02-30 00:00:00'"),
    ("due_at", "'2024-01-01 24:61:00'"),
    ("due_at", "'0000-01-01 00:00:00'"),
    *(
        (column, value)
        for column in ("due_at", "run_at", "created_at", "put_off_since")
        for value in (MONTH_13, BLOB)
    ),
]

if connection.vendor == "sqlite":

    @pytest.mark.parametrize("state", [JobState.PENDING, JobState.SCHEDULED])
    @pytest.mark.parametrize(("column", "value"), IMPOSSIBLE)
    def test_a_time_that_is_none_stops_no_worker(
        state: JobState, column: str, value: str, busy: Busy
    ) -> None:
        spoilt = make_job(state=state, priority=9, due_at=LONG_AGO)
        odd, sound = make_job(), make_job()
        spoil(spoilt, column, value)
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

    def test_a_queue_that_a_hand_has_edited_is_paused_and_resumed() -> None:
        make_queues("default")
        with connection.cursor() as cursor:
            cursor.execute("UPDATE queuectl_queue SET created_at = '2024-13-45 00:00:00'")
        ann = operations.Actor("ann", "cli")
        operations.pause("default", ann)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE queuectl_queue SET paused_at = '2024-13-45 00:00:00'")
        assert operations.resume("default", ann).paused_at is None
        assert ledger.survey((), NOW).queues == ["default"]

    DEEPLY = f"'{'[' * DEEP}{']' * DEEP}'"
    TIMES = ("created_at", "updated_at", "due_at", "run_at", "started_at", "finished_at")
    EDITED = [
        ("output", "data", "'edited'"),
        ("output", "data", "9e999"),
        ("output", "stream", "'abc'"),
        ("output", "offset", "'abc'"),
        ("job", "finished_at", "'yesterday'"),
        ("job", "finished_at", BLOB),
        *(("job", column, MONTH_13) for column in TIMES),
        ("processing", "started_at", "'yesterday'"),
        ("processing", "started_at", MONTH_13),
        ("processing", "updated_at", MONTH_13),
        ("processing", "lease", "'abc'"),
        ("processing", "lease", BLOB),
        ("scheduled", "put_off_since", MONTH_13),
        ("job", "runs", "'abc'"),
        ("job", "runs", "2.5"),
        *(("job", column, BLOB) for column in (*NOT_NUMBERS, "attempts", "interruptions")),
        ("job", "attempts", "'abc'"),
        ("job", "prefetchable", BLOB),
        ("processing", "key", BLOB),
        ("job", "args", DEEPLY),
        ("job", "env", DEEPLY),
        ("job", "result", DEEPLY),
        ("job", "key", BLOB),
        ("job", "key", "''"),
        ("job", "key", f"'{'x' * 2000}'"),
        ("job", "key", "char(10) || 'a/b'"),
        ("job", "last_error", BLOB),
        ("job", "enqueued_by", BLOB),
        *(
            ("job", column, NO_UTF8)
            for column in ("key", "queue", "command", "last_error", "priority")
        ),
        ("job", "finished_at", NO_UTF8),
        ("job", "env", IN_JSON),
        ("scheduled", "enqueued_by", NO_UTF8),
        *(
            ("pending", "due_at", value)
            for value in (MONTH_13, "'2024-02-30 00:00:00'", BLOB, NO_UTF8)
        ),
        ("pending", "priority", NO_UTF8),
        ("pending", "queue", "CAST('default' AS BLOB)"),
        *(("task", "result", f"'{'[' * deep}{']' * deep}'") for deep in (40, 300, 700, 1000, 1500)),
        ("task", "result", """'"\\ud800"'"""),
        ("processing", "lease", NO_UTF8),
        ("attempt", "error", NO_UTF8),
        ("attempt", "finished_at", NO_UTF8),
        ("worker", "name", NO_UTF8),
        ("worker", "heartbeat_at", NO_UTF8),
        ("queue", "name", NO_UTF8),
        ("setting", "key", NO_UTF8),
        ("queue", "paused_reason", NO_UTF8),
        ("event", "note", NO_UTF8),
        ("event", "actor", NO_UTF8),
        ("job", "args", """'["\\ud800"]'"""),
        ("job", "env", """'{"A": "\\ud800"}'"""),
        ("job", "result", """'"\\ud800"'"""),
        ("attempt", "finished_at", "'yesterday'"),
        ("attempt", "finished_at", MONTH_13),
        ("attempt", "started_at", "'yesterday'"),
        ("attempt", "started_at", "'2024-02-30 00:00:00'"),
        ("attempt", "number", "'abc'"),
        ("attempt", "number", "id + 0.5"),
        ("attempt", "cpu_seconds", "'x'"),
        ("attempt", "cpu_seconds", "1e308"),
        ("attempt", "peak_memory_bytes", "'abc'"),
        ("attempt", "stdout_bytes", "'abc'"),
        ("attempt", "worker_id", "'abc'"),
        ("attempt", "error", BLOB),
        ("worker", "heartbeat_at", "'yesterday'"),
        ("worker", "heartbeat_at", MONTH_13),
        ("worker", "started_at", MONTH_13),
        ("worker", "slots", "2.5"),
        ("worker", "queues", DEEPLY),
        ("worker", "queues", "'1'"),
        ("worker", "queues", """'["\\ud800"]'"""),
        ("worker", "name", BLOB),
        ("queue", "name", BLOB),
        ("queue", "paused_reason", BLOB),
        ("queue", "created_at", MONTH_13),
        ("queue", "paused_at", MONTH_13),
        ("setting", "updated_at", MONTH_13),
        ("setting", "value", DEEPLY),
        ("event", "at", "'yesterday'"),
        ("event", "at", MONTH_13),
        ("event", "actor", BLOB),
        ("event", "subject", BLOB),
    ]
    COMMANDS = (
        "status", "list", "list --json", "dlq list", "job show j", "job show j --json", "job output j",
        "job show task", "job show task --json", "job output task",
        "worker list", "queue list", "metrics", "config show", "list --state processing",
        "list --state dead --json", "export {0} --format queuectl",
        "export {1} --format original",
    )  # fmt: skip
    WINDOWS = ("job", "queue", "worker", "event", "setting")
    PAGES = (
        "/", "/jobs/", "/jobs/?state=dead", "/jobs/?state=processing", "/jobs/?state=scheduled", "/dlq/",
        "/charts/", "/jobs/j/", "/jobs/p/", "/jobs/task/", "/jobs/first/",
        *(f"/admin/queuectl/{name}/" for name in WINDOWS),
        "/admin/queuectl/job/?state=processing", "/admin/queuectl/job/j/change/",
        "/admin/queuectl/worker/{worker}/change/", "/admin/queuectl/event/{event}/change/",
    )  # fmt: skip
    ROWS = {
        "job": "job WHERE key = 'j'",
        "pending": "job WHERE key = 'first'",
        "task": "job WHERE key = 'task'",
        "processing": "job WHERE key = 'p'",
        "scheduled": "job WHERE key = 's'",
    }

    @pytest.mark.parametrize(("table", "column", "value"), EDITED, ids=lambda text: text[:24])
    def test_what_a_hand_has_put_into_a_row_stops_no_reader(
        table: str, column: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Every command, page and export shows the rest."""
        make_queues("default")
        operations.pause("default", operations.Actor("ann", "cli"), reason="r")
        worker = make_worker(heartbeat_at=NOW)
        job = make_job(key="j", state=JobState.DEAD, runs=1, finished_at=NOW, last_error="boom")
        kept = {"job": job, "number": 1, "outcome": "failed", "worker": worker, "error": "boom"}
        ran = {"started_at": NOW, "finished_at": NOW, "stdout_bytes": 3}
        Attempt.objects.create(**kept, **ran)
        Output.objects.create(job=job, attempt=1, stream=1, sequence=0, offset=0, data=b"hi\n")
        sound = make_job(key="sound", state=JobState.DEAD, finished_at=NOW)
        Attempt.objects.create(**kept | {"job": sound, "outcome": "succeeded"}, **ran)
        make_job(key="p", state=JobState.PROCESSING, worker=worker)
        make_job(key="first", due_at=LONG_AGO)
        is_task = {"command": None, "task": "a.b", "args": {"args": [], "kwargs": {}}}
        task = make_job(key="task", state=JobState.COMPLETED, result=[1], runs=1, **is_task)
        Attempt.objects.create(**kept | {"job": task, "outcome": "succeeded", "error": ""}, **ran)
        soon = dialect.now() + timedelta(seconds=1)
        make_job(key="s", state=JobState.SCHEDULED, due_at=soon, put_off_since=LONG_AGO)
        operations.set_setting("job-timeout", "9", operations.Actor("ann", "cli"))
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
            its = {"worker": worker.pk, "event": Event.objects.order_by("id")[0].pk}
            pages = [page.format(**its) for page in PAGES]
            assert [page for page in pages if client.get(page).status_code >= 500] == []
        printed, said = capsys.readouterr()
        assert "Traceback" not in printed + said
        refused = [line for line in said.splitlines() if line.startswith("Error:")]
        assert [line for line in refused if not line.endswith(" not found")] == []
        assert '"id":"sound"' in Path(files[0]).read_text()
        assert '"sound"' in Path(files[1]).read_text()

    NO_TIMES = ["'yesterday'", MONTH_13, "'2024-02-30 00:00:00'", BLOB, "5"]

    @pytest.mark.parametrize("value", NO_TIMES)
    def test_a_time_that_is_none_is_empty_and_all_else_of_its_row_is_read(
        value: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = make_job(key="j", env={"A": "1"}, run_at=NOW)
        spoil(job, "run_at", value)
        spoil(job, "put_off_since", "'2024-1-5 3:00'")
        read = Job.objects.get()
        assert (read.run_at, read.due_at, read.env, read.id) == (None, NOW, {"A": "1"}, job.id)
        assert read.put_off_since == datetime(2024, 1, 5, 3, tzinfo=UTC)
        assert not [name for name in vars(read) if name.startswith("stored")]
        if read.unreadable:
            assert read.unreadable == ("run_at",)
            assert f"queuectl_job {job.id}: its run_at cannot be read" in caplog.text
        job.refresh_from_db()
        assert job.run_at is None

    @pytest.mark.parametrize("read", [lambda r: r.only("run_at"), lambda r: r.defer("env", "args")])
    def test_of_a_row_that_is_read_carefully_no_more_is_read_than_was_asked_for(read: Any) -> None:
        job = make_job(env={"A": "1"})
        spoil(job, "run_at", MONTH_13)
        (found,) = read(Job.objects.order_by("-id"))[:1]
        assert found.run_at is None
        assert {"env", "args"} <= found.get_deferred_fields()
        assert found.env == {"A": "1"}

    @pytest.mark.parametrize("value", [*NO_TIMES, "'1 May'"])
    @pytest.mark.parametrize(
        ("state", "column"), [(JobState.DEAD, "finished_at"), (JobState.PROCESSING, "started_at")]
    )
    def test_pages_lead_past_rows_that_have_no_place(
        state: JobState, column: str, value: str
    ) -> None:
        for n in range(7):
            job = make_job(state=state, updated_at=NOW + timedelta(days=1))
            moment = "'yesterday'" if n == 3 else f"'2030-05-1{n} 12:00:00'"
            spoil(job, column, value if n == 5 else moment)
        rows, order = Job.objects.filter(state=state), keyset.order_of(state)
        found = keyset.page(rows, order, size=3)
        seen = {job.id for job in found.jobs}
        for _ in range(7):
            if not found.after:
                break
            found = keyset.page(rows, order, after=found.after, size=3)
            seen |= {job.id for job in found.jobs}
        assert not found.after
        assert len(seen) == 7

    def test_what_cannot_be_read_of_a_job_is_not_left_out_of_a_copy() -> None:
        job = make_job(key="j", task="a.b", args={"args": [], "kwargs": {}})
        spoil(job, "args", DEEPLY)
        if Job.objects.get().args is not None:
            pytest.skip("this Python reads it")
        ann = operations.Actor("ann", "cli")
        with pytest.raises(UnreadableRow, match="queuectl_job cannot be read: the args of job 'j'"):
            operations.run_again(Job.objects.get(), ann)
        spoil(job, "args", "'{}'")
        spoil(job, "run_at", MONTH_13)
        assert operations.run_again(Job.objects.get(), ann).created

    @pytest.mark.parametrize("value", [NO_UTF8, BLOB])
    @pytest.mark.parametrize("column", ["command", "cwd"])
    def test_a_text_that_is_none_is_not_run_as_something_else(column: str, value: str) -> None:
        job = make_job(key="j", state=JobState.DEAD)
        spoil(job, column, value)
        with pytest.raises(UnreadableRow, match=f"the {column} of job 'j'"):
            operations.run_again(Job.objects.get(), operations.Actor("ann", "cli"))
        assert Job.objects.count() == 1

    def test_what_is_read_of_a_row_does_not_hang_on_its_neighbours() -> None:
        make_job(key="sound")
        spoil(Job.objects.get(), "priority", "'high'")
        spoil(Job.objects.get(), "runs", "2.5")
        alone = Job.objects.get(key="sound")
        spoil(make_job(key="other"), "cwd", NO_UTF8)
        beside = Job.objects.order_by("id")[0]
        assert (beside.priority, beside.runs) == (alone.priority, alone.runs) == (5, 0)
        assert [*beside.unreadable] == [*alone.unreadable] == ["priority", "runs"]

    OF_A_NEW_JOB = {
        "priority": 5, "attempts": 0, "max_retries": 3, "runs": 0, "losses": 0, "interruptions": 0,
        "timeout": None, "backoff_base": None,
    }  # fmt: skip

    @pytest.mark.parametrize("value", ["'high'", BLOB])
    def test_what_is_no_number_is_left_empty_and_said_so_and_can_be_imported_again(
        value: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_queues("default")
        job = make_job(key="j", state=JobState.DEAD, finished_at=NOW)
        for column in OF_A_NEW_JOB:
            spoil(job, column, value)
        told = stats.job_object(Job.objects.get())
        assert {
            told[name] for name in ("priority", "attempts", "max_retries", "runs", "timeout")
        } == {None}
        assert (told["retries"], Job.objects.get().rank) == ("-/-", "-")
        ann = operations.Actor("ann", "cli")
        for format in ("original", "queuectl"):
            caplog.clear()
            export(tmp_path / format, format, ann)
            assert all(f"{job.id}: its" in line and "priority" in line for line in caplog.messages)
            Job.objects.all().delete()
            assert import_file(tmp_path / format, ann).jobs == 1
            again = Job.objects.values(*OF_A_NEW_JOB).get()
            assert again == OF_A_NEW_JOB
            job = Job.objects.get()
            for column in OF_A_NEW_JOB:
                spoil(job, column, value)

    @pytest.mark.parametrize("column", ["priority", "max_retries", "timeout"])
    def test_what_is_no_number_is_not_run_again_as_another(column: str) -> None:
        spoil(make_job(key="j", state=JobState.DEAD), column, BLOB)
        with pytest.raises(UnreadableRow, match=f"the {column} of job 'j'"):
            operations.run_again(Job.objects.get(), operations.Actor("ann", "cli"))

    @pytest.mark.parametrize("value", ["5", "9e999", "9223372036854775807"])
    def test_a_number_for_what_was_printed_is_shown_as_its_digits(value: str) -> None:
        job = make_job(runs=1)
        Output.objects.create(job=job, attempt=1, stream=1, sequence=0, offset=0, data=b"hi")
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE queuectl_output SET data = {value}")
        [(_, data)] = stats.output(job, 1, Stream.STDOUT)
        assert data == {"9e999": b"inf"}.get(value, value.encode())

    def test_a_job_is_enqueued_into_a_new_queue_beside_one_whose_name_is_no_text() -> None:
        make_queues("default")
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE queuectl_queue SET name = {NO_UTF8}")
        ann = operations.Actor("ann", "cli")
        assert operations.enqueue({"command": "true", "queue": "new"}, ann).created
        assert Queue.objects.names(9) == [r"caf\xe9", "new"]

    def test_a_result_is_answered_though_a_text_of_its_row_is_none() -> None:
        result = noop.enqueue()
        worker = make_worker()
        Job.objects.update(state="processing", worker=worker, lease=uuid4())
        spoil(Job.objects.get(), "last_error", NO_UTF8)
        assert noop.get_backend().get_result(result.id).status == "RUNNING"

    def test_rows_of_values_with_what_is_no_time_name_their_table() -> None:
        spoil(make_job(state=JobState.SCHEDULED), "due_at", MONTH_13)
        with pytest.raises(UnreadableRow, match="queuectl_job cannot be read: ValueError") as told:
            Job.objects.earliest_due(JobState.SCHEDULED)
        assert dialect.is_bad_data(told.value), "no worker dies of it"

    def test_a_lease_that_is_none_keeps_no_worker_from_its_turns(busy: Busy) -> None:
        worker = Worker.objects.get()
        spoilt = make_job(state=JobState.PROCESSING, worker=worker, cancel_requested_at=NOW)
        spoil(spoilt, "lease", "'abc'")
        sound = make_job()
        busy.process.beat_at = 0.0
        busy.process.watch(0.0)
        busy.process.turn()
        assert busy.answer()
        busy.process.turn()
        sound.refresh_from_db()
        assert sound.state == JobState.COMPLETED
        assert busy.process.failures == 0

    @pytest.mark.parametrize("closed", [False, True])
    @pytest.mark.parametrize("started_at", [None, LONG_AGO])
    @pytest.mark.parametrize(
        "lease",
        [
            pytest.param("'abc'", id="none"),
            pytest.param("'0B1E9D3C-5A44-4C1D-9F0E-2B7A6C8D1E3F'", id="written otherwise"),
        ],
    )
    def test_a_job_of_a_dead_worker_whose_lease_is_none_is_dead_with_its_reason(
        lease: str, started_at: datetime | None, closed: bool
    ) -> None:
        make_queues("default")
        worker = make_worker(name="w", heartbeat_at=LONG_AGO)
        held = {"state": JobState.PROCESSING, "worker": worker, "updated_at": LONG_AGO}
        spoilt, sound = make_job(**held, started_at=started_at), make_job(**held)
        spoil(spoilt, "lease", lease)
        if closed:
            Worker.objects.update(stopped_at=LONG_AGO)
            rescue_strays(NOW)
        else:
            rescue(worker.id, last_heard=None, now=NOW, why="its heartbeat stopped")
        spoilt.refresh_from_db()
        sound.refresh_from_db()
        assert (spoilt.state, spoilt.lease, spoilt.worker_id) == (JobState.DEAD, None, None)
        assert spoilt.runs == 1, "it may have run"
        assert "; its lease cannot be read. Somebody has edited its row" in spoilt.last_error
        assert error(spoilt.last_error, Sight(False, False), task=False) == spoilt.last_error
        assert sound.state == JobState.PENDING

    def test_a_task_is_told_of_its_attempts_but_for_a_time_that_is_none() -> None:
        make_queues("default")
        job = make_job(task="a.b", args={"args": [], "kwargs": {}}, runs=1)
        ended = {"outcome": "lost", "started_at": NOW, "finished_at": NOW, "worker": make_worker()}
        attempt = Attempt.objects.create(job=job, number=1, error="boom", **ended)
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE queuectl_attempt SET started_at = {MONTH_13}")
        (work,) = claim(make_worker())
        assert work.about is not None
        (run,) = work.about.past
        worker = Worker.objects.get(id=attempt.worker_id).name
        assert (run.started_at, run.outcome, run.error, run.worker) == (
            None,
            "lost",
            "boom",
            worker,
        )

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


if connection.vendor == "postgresql":
    FOR_EVER = [
        ("job", "finished_at"), ("job", "due_at"), ("attempt", "finished_at"), ("event", "at"),
        ("worker", "heartbeat_at"), ("queue", "created_at"),
    ]  # fmt: skip

    @pytest.mark.parametrize(("table", "column"), FOR_EVER)
    @pytest.mark.parametrize("value", ["infinity", "-infinity", "12000-01-01"])
    def test_a_time_that_python_has_not_stops_no_reader(
        table: str, column: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_queues("default")
        operations.pause("default", operations.Actor("ann", "cli"), reason="r")
        job = make_job(key="j", state=JobState.DEAD, runs=1, finished_at=NOW)
        ran = {"started_at": NOW, "finished_at": NOW, "worker": make_worker(heartbeat_at=NOW)}
        Attempt.objects.create(job=job, number=1, outcome="succeeded", **ran)
        make_job(key="sound", state=JobState.DEAD, finished_at=NOW)
        where = " WHERE key = 'j'" if table == "job" else ""
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE queuectl_{table} SET {column} = '{value}'{where}")
        client = Client()
        client.force_login(User.objects.create(username="root", is_superuser=True, is_staff=True))
        windows = [f"/admin/queuectl/{name}/" for name in ("job", "queue", "worker", "event")]
        pages = ["/", "/jobs/", "/dlq/", "/charts/", "/jobs/j/", *windows]
        with patch("jobs.lockfile.is_alive", return_value=True):
            assert [page for page in pages if client.get(page).status_code != 200] == []
            for line in ("status", "list --json", "job show j", "worker list", "metrics"):
                Command().run_from_argv(["manage.py", "queuectl", *line.split()])
        file = tmp_path / "ours.jsonl"
        export(file, "queuectl", operations.Actor("ann", "cli"))
        assert '"id":"sound"' in file.read_text()


def test_a_row_that_nobody_can_read_is_one_sentence_that_names_its_table(
    capsys: pytest.CaptureFixture[str], client: Client
) -> None:
    make_job(key="j")
    user = User.objects.create(username="root", is_superuser=True, is_staff=True)
    client.force_login(user)

    def fails(*row: Any, **more: Any) -> None:
        raise TypeError("no\x1bway")

    with patch.object(Job, "from_db", classmethod(fails)):
        with pytest.raises(SystemExit) as end:
            Command().run_from_argv(["manage.py", "queuectl", "list"])
        with pytest.raises(UnreadableRow):
            Command().run_from_argv(["manage.py", "queuectl", "list", "--traceback"])
        with pytest.raises(CommandError, match="exit code 1"):
            call_command("queuectl", "list")
        answers = [client.get(page) for page in ("/jobs/", "/admin/queuectl/job/")]
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert said.startswith(
        "Error: A row of the table queuectl_job cannot be read: TypeError: no\\x1bway\n"
        "  somebody may have edited it; put it right in the database, or delete it there\n"
    )
    for answer in answers:
        assert answer.status_code == 503
        assertContains(answer, "A row of the table queuectl_job cannot be read", status_code=503)


@pytest.mark.parametrize("error", [TypeError, ValueError, AttributeError, RecursionError])
def test_rows_that_are_read_without_a_model_are_refused_in_the_same_words(
    error: type[Exception],
) -> None:
    make_job()
    rows: Any = Job.objects.all()
    rows._iterable_class = fails_with(error)
    for read in (list, lambda rows: list(rows.iterator())):
        with pytest.raises(UnreadableRow, match="queuectl_job") as told:
            read(rows)
        assert isinstance(told.value.__cause__, error)
        assert dialect.is_bad_data(told.value), "no worker dies of it"


def fails_with(error: type[Exception]) -> Any:
    def iterable(*args: Any, **options: Any) -> Any:
        yield from ()
        raise error

    return iterable


@pytest.mark.parametrize("error", [TypeError, ValueError, AttributeError, OverflowError])
def test_an_error_of_our_own_is_told_with_its_traceback(error: type[Exception]) -> None:
    with patch("jobs.stats.snapshot", side_effect=error), pytest.raises(error):
        Command().run_from_argv(["manage.py", "queuectl", "status"])


COUNTED = ["attempts", "losses", "interruptions", "max_retries", "runs"]

if connection.vendor == "sqlite":

    @pytest.mark.parametrize("column", COUNTED)
    def test_a_number_spoilt_while_its_job_runs_stops_no_rescue(column: str) -> None:
        """Nor the release of what its worker had claimed without hearing of it."""
        worker = make_worker()
        for key in ("spoilt", "beside"):
            make_job(key=key, state=JobState.PROCESSING, worker=worker)
        spoil(Job.objects.get(key="spoilt"), column, "'abc'")
        assert rescue(worker.id, last_heard=None, now=NOW, why="gone") == 2
        assert not Job.objects.processing().exists()


def make_first_attempt(job: Job) -> None:
    times = {"started_at": NOW, "finished_at": NOW}
    Attempt.objects.create(job=job, number=1, outcome="failed", **times)


LARGEST = 2**63 - 1 if connection.vendor == "sqlite" else 2**31 - 1


@pytest.mark.parametrize("column", COUNTED)
def test_a_count_that_leaves_no_room_for_one_more_stops_no_rescue(column: str) -> None:
    worker = make_worker()
    for key in ("spoilt", "beside"):
        job = make_job(key=key, state=JobState.PROCESSING, worker=worker, runs=1, started_at=NOW)
        make_first_attempt(job)
    Job.objects.filter(key="spoilt").update(**{column: LARGEST})
    with dialect.atomic():
        assert rescue(worker.id, last_heard=None, now=NOW, why="gone") == 2
    assert not Job.objects.processing().exists()
    assert [a.number for a in Attempt.objects.filter(job__key="spoilt").order_by("number")] == [
        1,
        2,
    ]


def test_a_job_whose_runs_were_beyond_all_bounds_runs_again_after_a_retry() -> None:
    make_first_attempt(job := make_job(key="spoilt", runs=1))
    Job.objects.filter(key="spoilt").update(runs=LARGEST)
    worker = make_worker()
    assert claim(worker) == []
    operations.retry(Job.objects.get(id=job.id), operations.Actor("ann", "cli"))
    [work] = claim(worker)
    assert work.number == 2
    report(worker, work)
    assert Job.objects.get(id=job.id).state == JobState.COMPLETED


@pytest.mark.parametrize("column", COUNTED)
def test_a_count_that_leaves_no_room_for_one_more_ends_its_job(column: str) -> None:
    make_job(key="spoilt")
    make_job(key="beside")
    Job.objects.filter(key="spoilt").update(**{column: LARGEST})
    assert [work.key for work in claim(make_worker())] == ["beside"]
    spoilt = Job.objects.get(key="spoilt")
    assert spoilt.state == JobState.DEAD
    assert f"its {column} is not a whole number within its bounds" in spoilt.last_error
