"""The command line in process: its words, exit codes and streams, and what it stores."""

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import override_settings

from jobs import dialect, lockfile, operations
from jobs.cli.jobs import confirm
from jobs.exceptions import QueueCTLError
from jobs.management.commands import dlq, enqueue, queuectl, status, worker
from jobs.models import Attempt, Event, Job, Output, Queue, Setting
from jobs.operations import Actor
from jobs.states import JobState
from tests.integration.builders import (
    NOW,
    make_job,
    make_jobs,
    make_queues,
    make_worker,
    new_job,
    seconds,
)
from tests.integration.test_spoilt_rows import SPOILT, spoil

pytestmark = pytest.mark.django_db

HANDMADE = [*SPOILT, ("env", """'[1, "a"]'""")]
HANDMADE += [] if connection.vendor == "postgresql" else [("command", "x'ff41'")]

S = JobState
ANN = Actor("ann", "cli")
DOORS = {"enqueue": enqueue, "worker": worker, "status": status, "dlq": dlq}


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Said]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Type a command at the umbrella, in a pipe."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    if connection.in_atomic_block:
        # A command closes its connections when it ends; the test's transaction goes on.
        monkeypatch.setattr(dialect, "close", lambda: None)

    def type_in(*words: str, stdin: bytes = b"", door: Any = queuectl) -> Said:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        name = door.__name__.rpartition(".")[2]
        code = 0
        try:
            door.Command().run_from_argv(["manage.py", name, *words])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return type_in


def nothing_is_stored() -> bool:
    models = (Job, Queue, Event, Setting)
    return not any(model.objects.exists() for model in models)  # type: ignore[attr-defined]


# The original's lines


def test_an_enqueued_job_is_confirmed(run: Run) -> None:
    said = run("enqueue", '{"id": "job1", "command": "echo Hello World"}')
    assert said == Said(0, "Job 'job1' enqueued successfully\n", "")
    assert Job.objects.get().command == "echo Hello World"


def test_the_status_of_nothing(run: Run) -> None:
    assert run("status").lines[:8] == [
        "=== Queue Status ===",
        "Total Jobs: 0",
        "Pending: 0",
        "Processing: 0",
        "Completed: 0",
        "Failed: 0",
        "Dead (DLQ): 0",
        "Active Workers: 0",
    ]


def test_the_status_counts_each_state_and_says_new_ones_after(run: Run) -> None:
    gone = make_worker(stopped_at=NOW)
    for number, state in enumerate(S, 1):
        make_jobs(number, state=state, worker=gone if state is S.PROCESSING else None)
    assert run("status").lines == [
        "=== Queue Status ===", "Total Jobs: 36", "Pending: 1", "Processing: 4", "Completed: 5", "Failed: 6",
        "Dead (DLQ): 7", "Active Workers: 0", "Scheduled: 2", "Blocked: 3", "Cancelled: 8",
    ]  # fmt: skip


def test_a_list_has_the_originals_four_columns(run: Run) -> None:
    make_job(key="job1", command="echo Hello", state=S.DEAD, attempts=4)
    make_job(key="job2", command="x" * 60)
    assert run("list").out == (
        f"\n{'ID':<20} {'State':<12} {'Attempts':<10} {'Command':<40}\n"
        f"{'-' * 82}\n"
        f"{'job1':<20} {'dead':<12} {'3/3':<11} echo Hello\n"
        f"{'job2':<20} {'pending':<12} {'0/3':<11} {'x' * 60}\n"
    )


def test_a_list_of_nothing_says_so(run: Run) -> None:
    assert run("list") == Said(0, "No jobs found\n", "")


def test_a_list_can_be_of_one_state(run: Run) -> None:
    for state in S:
        make_job(key=f"job-{state}", state=state)
    assert "job-dead" in run("list", "--state", "dead").out
    assert "job-pending" not in run("list", "--state", "dead").out


def test_the_dead_letter_queue_lists_what_died_and_why(run: Run) -> None:
    make_job(key="job1", command="exit 1", state=S.DEAD, attempts=4, last_error="exit code 1")
    make_job(key="alive")
    assert run("dlq", "list").out == (
        f"\nDead Letter Queue (1 jobs):\n{'-' * 80}\n"
        "\nJob ID: job1\n  Command: exit 1\n  Attempts: 3/3\n  Failed At: 2030-05-17T12:00:00Z\n"
        "  Error: exit code 1\n"
    )


def test_an_empty_dead_letter_queue_says_so(run: Run) -> None:
    assert run("dlq", "list") == Said(0, "No jobs in Dead Letter Queue\n", "")


def test_a_dead_job_is_brought_back(run: Run) -> None:
    make_job(key="job1", state=S.DEAD)
    said = run("dlq", "retry", "job1")
    assert said == Said(0, "Job 'job1' moved back to queue for retry\n", "")
    assert Job.objects.get().state == S.PENDING


def test_a_job_that_is_not_dead_is_not_brought_back(run: Run) -> None:
    make_job(key="job1")
    said = run("dlq", "retry", "job1")
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[0] == "Error: Job 'job1' is not in Dead Letter Queue"
    assert not Event.objects.exists()


def test_a_setting_is_confirmed_in_the_words_typed(run: Run) -> None:
    said = run("config", "set", "max_retries", "5")
    assert said == Said(0, "Configuration 'max_retries' set to 5\n", "")


def test_all_settings_are_shown_with_their_values(run: Run) -> None:
    operations.set_setting("backoff-base", "3", ANN)
    lines = run("config", "show").lines
    assert lines[:2] == ["Current Configuration:", "-" * 40]
    assert lines[2:6] == [
        "max-retries: 3",
        "backoff-base: 3.0",
        "worker-poll-interval: 1.0",
        "job-timeout: 300",
    ]


def test_one_setting_is_shown_as_its_value(run: Run) -> None:
    assert run("config", "get", "job-timeout").out == "300\n"


def test_stopping_no_worker_says_so(run: Run) -> None:
    assert run("worker", "stop") == Said(0, "No workers are running\n", "")


def test_a_worker_that_is_not_there_is_named_and_the_others_are_stopped(run: Run) -> None:
    with patch.object(lockfile, "is_alive", return_value=True):
        worker = make_worker(name="one")
        said = run("worker", "stop", "--no-wait", "one", "nosuch")
        alone = run("worker", "stop", "nosuch")
    assert (said.code, said.out) == (1, "Stopping workers gracefully...\n")
    assert said.err.startswith('Error: No worker "nosuch" is running\n')
    worker.refresh_from_db()
    assert worker.stop_requested
    assert (alone.code, alone.out, alone.err) == (1, "", said.err)


def printed_job(stdout: bytes = b"", stderr: bytes = b"") -> Job:
    job = make_job(key="job1", state=S.COMPLETED, runs=1)
    Attempt.objects.create(job=job, number=1, outcome="succeeded", finished_at=NOW)
    for stream, data in ((1, stdout), (2, stderr)):
        if data:
            Output.objects.create(
                job=job, attempt=1, stream=stream, sequence=0, offset=0, data=data
            )
    return job


def test_the_output_of_a_job_is_in_two_sections(run: Run) -> None:
    printed_job(b"Hello\n", b"oops")
    assert run("job", "output", "job1").out == "=== STDOUT ===\nHello\n\n=== STDERR ===\noops\n"


def ran_task() -> Job:
    """Failed once, then returned something."""
    args = {"args": [], "kwargs": {}}
    job = make_job(
        key="t", command=None, task="a.b", args=args, state=S.COMPLETED, runs=2, result={"rows": 3}
    )
    raised = {"error": "ValueError: no", "traceback": "Traceback …\nValueError: no\x1b[2J\n"}
    for number, outcome, fields in ((1, "failed", raised), (2, "succeeded", {})):
        Attempt.objects.create(job=job, number=number, outcome=outcome, finished_at=NOW, **fields)
    return job


def test_of_a_task_the_result_and_the_traceback_are_shown(run: Run) -> None:
    ran_task()
    assert run("job", "output", "t").out == '=== RESULT ===\n{\n  "rows": 3\n}\n'
    raised = run("job", "output", "t", "--attempt", "1").out
    assert raised == "=== TRACEBACK ===\nTraceback …\nValueError: no\\x1b[2J\n"
    shown = json.loads(run("job", "show", "t", "--json").out)
    assert shown["result"] == {"rows": 3}
    assert shown["history"][0]["traceback"].startswith("Traceback …")
    assert shown["history"][1]["traceback"] is None


def test_no_output_is_said(run: Run) -> None:
    printed_job()
    assert run("job", "output", "job1") == Said(0, "(no output available)\n", "")


@pytest.mark.parametrize(("stream", "out"), [("--stdout", "Hello\n"), ("--stderr", "oops\n")])
def test_one_stream_comes_alone(run: Run, stream: str, out: str) -> None:
    printed_job(b"Hello\n", b"oops\n")
    assert run("output", "job1", stream).out == out


def test_both_streams_alone_are_refused(run: Run) -> None:
    printed_job()
    said = run("job", "output", "job1", "--stdout", "--stderr")
    assert (said.code, said.out) == (1, "")
    assert "--stdout" in said.err and "--stderr" in said.err


@pytest.mark.parametrize("name", DOORS)
def test_the_originals_commands_stand_alone_under_manage_py(run: Run, name: str) -> None:
    words = {
        "enqueue": ['{"id": "a", "command": "true"}'],
        "worker": ["stop"],
        "status": [],
        "dlq": ["list"],
    }[name]
    assert run(*words, door=DOORS[name]).code == 0


def test_a_command_can_be_called_by_code() -> None:
    out = io.StringIO()
    call_command("status", stdout=out)
    assert out.getvalue().startswith("=== Queue Status ===\n")


def test_a_refusal_is_an_error_for_code_that_called() -> None:
    err = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("dlq", "retry", "nothing", stdout=io.StringIO(), stderr=err)
    assert caught.value.returncode == 1 and "Job 'nothing' not found" in err.getvalue()


# Refused: one sentence, the right code, nothing stored

LONG = "x" * 131_072
REFUSED: dict[str, list[str]] = {
    # Not the JSON it should be
    "truncated": ['{"id": "a"'],
    "comma": ['{"command": "a",}'],
    "two documents": ['{"command": "a"} {"command": "b"}'],
    "number": ["[42]"],
    "null in array": ["[null]"],
    "bomb": ["[" * 100_000],
    "digits": ['{"command": "a", "priority": ' + "9" * 5000 + "}"],
    "NaN": ['{"command": "a", "timeout": NaN}'],
    "1e999": ['{"command": "a", "timeout": 1e999}'],
    "duplicate key": ['{"command": "a", "command": "b"}'],
    # Fields
    "no command": ['{"id": "a"}'],
    "empty command": ['{"command": ""}'],
    "spaces": ["   "],
    "NUL": ['{"command": "a\\u0000"}'],
    "surrogate": ['{"command": "\\ud800"}'],
    "long command": [LONG],
    "list command": ['{"command": ["a"]}'],
    "null command": ['{"command": null}'],
    "empty argv": ['{"argv": []}'],
    "nested argv": ['{"argv": [["a"]]}'],
    "empty id": ['{"id": "", "command": "a"}'],
    "null id": ['{"id": null, "command": "a"}'],
    "number id": ['{"id": 12, "command": "a"}'],
    "control id": ['{"id": "a\\u001b", "command": "a"}'],
    "id option": ["--id", "a\x1b[31m", "true"],
    "queue": ["--queue", "default;drop", "true"],
    "queue all": ["-q", "all", "true"],
    "priority word": ["-p", "high", "true"],
    "priority space": ["-p", "5 ", "true"],
    "priority underscore": ["-p", "1_000", "true"],
    "priority huge": ["-p", "9" * 20, "true"],
    "priority float": ['{"command": "a", "priority": 1.5}'],
    "priority true": ['{"command": "a", "priority": true}'],
    "retries": ["--max-retries", "-1", "true"],
    "retries huge": ["--max-retries", "1000000", "true"],
    "timeout zero": ["--timeout", "0", "true"],
    "timeout huge": ["--timeout", "2592001", "true"],
    "base": ["--backoff-base", "1000", "true"],
    "at word": ["--at", "tomorrow", "true"],
    "at no day": ["--at", "2026-02-30", "true"],
    "at overflow": ["--at", "0001-01-01T00:00:00+14:00", "true"],
    "at far": ["--at", "2999-01-01T00:00:00Z", "true"],
    "env": ["--env", "A", "true"],
    "env name": ["--env", "A B=1", "true"],
    "unknown": ['{"command": "a", "comand": "b"}'],
    "lease": ['{"command": "a", "lease": "x"}'],
    # What was typed
    "nothing": [],
    "two words": ["echo", "hello"],
    "twice": ["--priority", "1", '{"command": "a", "priority": 2}'],
    "option with array": ["--priority", "1", '[{"command": "a"}]'],
    "nothing after --": ["--"],
    "missing file": ["--file", "/no/such/file"],
    "directory": ["--file", "/"],
    "device": ["--file", "/dev/zero"],
    "what cannot be read": ["--file", "/proc/self/mem"],
    "NUL in a file's name": ["--file", "a\0b"],
    "empty argument": [""],
}


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_enqueue_stores_nothing_and_says_why_on_stderr(
    run: Run, words: list[str]
) -> None:
    said = run("enqueue", *words)
    assert (said.code, said.out) == (1, "")
    lines = said.err.splitlines()
    assert lines[0].startswith("Error: ") and len(lines) <= 2
    assert nothing_is_stored()


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_is_short_and_a_terminal_obeys_none_of_it(run: Run, words: list[str]) -> None:
    said = run("enqueue", *words)
    assert said.err.replace("\n", "").isprintable() and len(said.err) < 500


@pytest.mark.parametrize(
    "words",
    [["--json", '{"command": "a", "priority": "high"}'], ["--json", "{"], ["--json"]],
    ids=["field", "json", "nothing"],
)
def test_with_json_a_refusal_is_an_object_with_a_code(run: Run, words: list[str]) -> None:
    said = run("enqueue", *words)
    found = json.loads(said.err)
    assert (said.code, said.out) == (1, "")
    assert found["error"] and found["code"] and "hint" in found


def test_a_refusal_names_what_is_accepted(run: Run) -> None:
    said = run("enqueue", '{"command": "a", "priority": 1001}')
    assert "1001" in said.err and "-1000" in said.err and "1000" in said.err


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["list", "--state", "bogus"],
        ["enqueue", "--nonsense", "true"],
        ["worker", "start", "--count", "10000000"],
        ["worker", "start", "--count", "1e3"],
        ["worker", "start", "--count", ""],
        ["worker", "start", "--count", "1_0"],
        ["enqueue", "--in", "soon", "true"],
        ["enqueue", "--in", "9" * 400, "true"],
        ["job", "show"],
        ["config", "set", "max-retries"],
        [],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_a_slip_in_usage_is_code_2_and_stores_nothing(run: Run, words: list[str]) -> None:
    said = run(*words)
    assert (said.code, said.out) == (2, "")
    assert said.err and "Traceback" not in said.err and nothing_is_stored()


@pytest.mark.parametrize(
    "words",
    [["status", "\x1b]0;pwn\x07"], ["\x1b[31m"], ["list", "--state", "\x1b[31m"], ["\u202e"]],
)
def test_a_terminal_obeys_nothing_of_a_slip_in_usage(run: Run, words: list[str]) -> None:
    said = run(*words)
    assert said.code == 2 and said.err.replace("\n", "").isprintable()


@pytest.mark.parametrize("number", ["0", "-1"])
def test_a_worker_without_slots_is_refused(run: Run, number: str) -> None:
    said = run("worker", "start", f"--count={number}")
    assert (said.code, said.out) == (1, "")
    assert "Worker count must be at least 1" in said.err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max-retries", "five"), ("max-retries", "-1"), ("max-retries", "1.5"), ("max-retries", "9" * 400),
        ("worker-poll-interval", "nan"), ("worker-poll-interval", "inf"), ("worker-poll-interval", "0"),
        ("worker-poll-interval", "-1"), ("backoff-base", "0"), ("job-timeout", ""), ("nonsense", "1"),
    ],
    ids=lambda value: value[:12],
)  # fmt: skip
def test_a_refused_setting_stores_nothing(run: Run, key: str, value: str) -> None:
    said = run("config", "set", key, value)
    assert said.code != 0 and said.out == ""
    assert nothing_is_stored()


# Taken


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["echo hello"], {"command": "echo hello"}),
        (["a | b"], {"command": "a | b"}),
        (["--", "ls", "-l", "a b"], {"argv": ["ls", "-l", "a b"]}),
        (["--", "echo hi; echo there"], {"command": "echo hi; echo there"}),
        (["--", "{ echo; }"], {"command": "{ echo; }"}),
        (["--id", "n", "--", "tar", "--file", "x"], {"key": "n", "argv": ["tar", "--file", "x"]}),
        (["-q", "mail", "-p", "-3", "true"], {"queue": "mail", "priority": -3}),
        (["--timeout", "2m", "true"], {"timeout": 120.0}),
        (["--env", "A=b=c", "--env", "D=", "true"], {"env": {"A": "b=c", "D": ""}}),
        (["@/etc/passwd"], {"command": "@/etc/passwd"}),
        (["--max-retries", "0", '{"command": "a"}'], {"command": "a", "max_retries": 0}),
        ([" {\"command\": \"a\"}"], {"command": "a"}),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_a_job_is_stored_as_it_was_typed(
    run: Run, words: list[str], fields: dict[str, Any]
) -> None:
    assert run("enqueue", *words).code == 0
    job = Job.objects.get()
    assert {name: getattr(job, name) for name in fields} == fields


def test_a_queue_that_is_new_and_nearly_another_is_queued_with_a_warning(run: Run) -> None:
    make_queues("default", "media")
    said = run("enqueue", "true", "-q", "defualt")
    assert said.code == 0
    assert said.err == "Warning: queue 'defualt' is new; did you mean 'default'?\n"
    again = run("enqueue", "true", "-q", "defualt")
    assert (again.code, again.err) == (0, ""), "now it is there"
    assert Job.objects.filter(queue="defualt").count() == 2


def test_a_terminal_obeys_nothing_of_a_stored_name_that_a_slip_is_compared_with(run: Run) -> None:
    make_queues("default\x1b[2J")
    said = run("enqueue", "--queue", "default", "true")
    assert said.err == "Warning: queue 'default' is new; did you mean 'default\\x1b[2J'?\n"


@pytest.mark.parametrize("there", [(), ("default",)], ids=["the first", "unlike any"])
def test_a_queue_that_is_new_and_like_no_other_is_no_warning(
    run: Run, there: tuple[str, ...]
) -> None:
    make_queues(*there)
    assert run("enqueue", "true", "-q", "media").err == ""


def test_of_many_jobs_in_a_new_queue_one_has_the_warning(run: Run) -> None:
    make_queues("media")
    lines = b'{"command": "true", "queue": "meda"}\n' * 3
    said = run("enqueue", "-", "--json", stdin=lines)
    assert said.err.count("Warning: ") == 1 and len(json.loads(said.out)) == 3


def test_a_shell_whose_user_has_a_very_long_name_enqueues_all_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "x" * 1000)
    assert run("enqueue", "true").code == 0
    assert Job.objects.get().enqueued_by == "x" * 150


def test_a_job_for_later_is_scheduled(run: Run) -> None:
    run("enqueue", "--in", "10m", "true")
    job = Job.objects.get()
    assert (job.state, job.due_at - job.created_at) == (S.SCHEDULED, seconds(600))


def test_a_relative_directory_is_taken_from_here(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("enqueue", "--cwd", "sub", "true")
    assert Job.objects.get().cwd == str(tmp_path / "sub")


def test_the_same_id_and_content_again_says_so(run: Run) -> None:
    job = '{"id": "a", "command": "true"}'
    run("enqueue", job)
    said = run("enqueue", job)
    assert said.code == 0 and "already" in said.out and Job.objects.count() == 1


def test_the_same_id_with_other_content_is_refused(run: Run) -> None:
    run("enqueue", '{"id": "a", "command": "true"}')
    said = run("enqueue", '{"id": "a", "command": "false"}')
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("Error: Job with id 'a' already exists\n")


def test_the_assignments_other_fields_are_ignored_with_a_warning_each(run: Run) -> None:
    job = {"command": "true", "state": "dead", "attempts": 9, "created_at": "x", "updated_at": "y"}
    said = run("enqueue", json.dumps(job))
    assert (said.code, said.err.count("Warning: ")) == (0, 4)
    assert (Job.objects.get().state, Job.objects.get().attempts) == (S.PENDING, 0)


def test_a_dry_run_stores_nothing(run: Run) -> None:
    assert run("enqueue", "--dry-run", "true").code == 0
    assert nothing_is_stored()


def test_quiet_says_the_id_alone(run: Run) -> None:
    assert run("enqueue", "--quiet", "--id", "a", "true").out == "a\n"


def test_with_json_a_job_is_an_object_and_many_are_an_array(run: Run) -> None:
    one = run("enqueue", "--json", '{"id": "a", "command": "true"}')
    assert json.loads(one.out) == {"id": "a", "created": True}
    many = run("enqueue", "--json", '[{"id": "a", "command": "true"}]')
    assert json.loads(many.out) == [{"id": "a", "created": False}]


# Lines of JSON

LINES = b'{"id": "a", "command": "true"}\n\n{"id": "b", "command": "true"}'


def test_lines_from_a_pipe_are_stored_together(run: Run) -> None:
    assert run("enqueue", "-", stdin=LINES) == Said(0, "2 jobs enqueued successfully\n", "")
    assert list(Job.objects.order_by("id").values_list("key", flat=True)) == ["a", "b"]


def test_lines_from_a_file_are_stored_together(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    file.write_bytes(LINES)
    link = tmp_path / "link"
    link.symlink_to(file)
    assert run("enqueue", "--file", str(link)).code == 0
    assert Job.objects.count() == 2


def test_what_fails_while_it_is_read_is_named(run: Run) -> None:
    said = run("enqueue", "--file", "/proc/self/mem")
    assert said.err.startswith("Error: Cannot read /proc/self/mem: Input/output error\n")


BAD_LINES: dict[str, tuple[bytes, str]] = {
    "broken": (b"{", "line 2"),
    "array": (b"[]", "line 2"),
    "field": (b'{"command": "a", "priority": "high"}', "line 2"),
    "unknown": (b'{"comand": "a"}', "line 2"),
    "latin-1": (b'{"command": "\xe9"}', "line 2"),
    "utf-16": ('{"command": "a"}'.encode("utf-16"), "line 2"),
    "byte order mark": (b'\xef\xbb\xbf{"command": "a"}', "line 2"),
    "too long": (b'{"command": "' + b"x" * 1_048_577 + b'"}', "line 2"),
    "endless": (b"\0" * 3_000_000, "line 2"),
    "bomb": (b"[" * 100_000, "line 2"),
    "taken id": (b'{"id": "a", "command": "other"}', "'a'"),
}


@pytest.mark.parametrize(("line", "says"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_one_bad_line_stores_none_and_is_named(run: Run, line: bytes, says: str) -> None:
    said = run("enqueue", "-", stdin=b'{"id": "a", "command": "true"}\n' + line + b"\n")
    assert (said.code, said.out) == (1, "")
    assert says in said.err and len(said.err) < 500 and nothing_is_stored()


@pytest.mark.parametrize("stdin", [b"", b"\n\n"])
def test_no_lines_are_no_jobs(run: Run, stdin: bytes) -> None:
    assert run("enqueue", "-", stdin=stdin).out == "0 jobs enqueued successfully\n"


def test_a_pipe_in_a_files_place_is_read_to_its_end(run: Run, tmp_path: Path) -> None:
    from threading import Thread

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=lambda: pipe.write_bytes(LINES))
    writer.start()
    said = run("enqueue", "--file", str(pipe))
    writer.join(10)
    assert said.code == 0 and Job.objects.count() == 2


def test_a_large_batch_says_how_far_it_is_on_stderr(run: Run) -> None:
    lines = b'{"command": "true"}\n' * 2500
    said = run("enqueue", "-", stdin=lines)
    assert said.out == "2,500 jobs enqueued successfully\n" and "100 %" in said.err


# Jobs


@pytest.mark.parametrize("verb", ["show", "output", "retry", "cancel", "run-now", "discard"])
@pytest.mark.parametrize("group", [["job"], []], ids=["grouped", "alone"])
def test_an_unknown_job_is_answered_with_the_closest(run: Run, group: list[str], verb: str) -> None:
    make_job(key="job1")
    said = run(*group, verb, "job9")
    assert (said.code, said.out) == (1, "")
    assert said.err == "Error: Job 'job9' not found\n  closest ids: job1\n"


@pytest.mark.parametrize(
    ("verb", "state", "line"),
    [
        ("cancel", S.PENDING, "Job 'job1' cancelled"),
        ("run-now", S.FAILED, "Job 'job1' runs now"),
        ("discard", S.DEAD, "Job 'job1' discarded"),
        ("retry", S.DEAD, "Job 'job1' moved back to queue for retry"),
    ],
)
def test_a_change_is_confirmed_and_leaves_its_event(
    run: Run, verb: str, state: JobState, line: str
) -> None:
    make_job(key="job1", state=state)
    assert run(verb, "job1") == Said(0, f"{line}\n", "")
    assert Event.objects.get().via == "cli"


@pytest.mark.parametrize("verb", ["retry", "cancel", "run-now"])
def test_a_change_that_is_refused_has_code_1_and_no_event(run: Run, verb: str) -> None:
    make_job(key="job1", state=S.COMPLETED)
    said = run(verb, "job1")
    assert (said.code, said.out, "completed" in said.err) == (1, "", True)
    assert not Event.objects.exists()


def test_of_several_what_is_refused_is_said_and_the_rest_is_done(run: Run) -> None:
    for key, state in (("a", S.DEAD), ("b", S.PENDING), ("c", S.DEAD)):
        make_job(key=key, state=state)
    said = run("retry", "a", "b", "c")
    assert said.code == 1
    assert said.lines == [f"Job '{key}' moved back to queue for retry" for key in "ac"]
    assert said.err.count("Error: ") == 1


def test_many_are_not_changed_unasked(run: Run) -> None:
    make_jobs(21, state=S.DEAD)
    said = run("dlq", "retry", "--all")
    assert said.code == 1 and "--yes" in said.err
    assert Job.objects.dead().count() == 21


def test_who_is_asked_and_closes_the_terminal_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", gone)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(QueueCTLError, match="Nothing was changed"):
        confirm(21, "retry", argparse.Namespace(yes=False))


@pytest.mark.parametrize(("column", "value"), HANDMADE)
def test_a_row_edited_by_hand_is_shown_as_it_is(run: Run, column: str, value: str) -> None:
    job = make_job(key="j", **({"argv": ["true"]} if column == "argv" else {}))
    spoil(job, column, value)
    make_job(key="sound")
    for words in (
        ["job", "show", "j"],
        ["job", "show", "j", "--json"],
        ["list"],
        ["list", "--all"],
        ["--color", "always", "list"],
    ):
        said = run(*words)
        assert (said.code, said.err) == (0, "")
        assert "j" in said.out
    assert [job["id"] for job in json.loads(run("list", "--json").out)] == ["j", "sound"]


@pytest.mark.parametrize(
    "words",
    [["list"], ["dlq", "list"], ["--color", "always", "dlq", "list"], ["metrics"], ["cancel", "k"]],
    ids=" ".join,
)
def test_an_id_that_a_hand_has_written_commands_no_terminal(run: Run, words: list[str]) -> None:
    job = make_job(
        key=f"k{HOSTILE}", state=S.PENDING if "cancel" in words else S.DEAD, runs=1, started_at=NOW
    )
    Attempt.objects.create(
        job=job, number=1, outcome="succeeded", started_at=NOW, finished_at=NOW + seconds(1)
    )
    said = run(*words)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", said.out + said.err)
    assert said.code == 0 and "k\\x1b" in shown
    assert not set(shown) & set("\x1b\x07\x9b\r\u202e\x7f")


def test_an_id_in_a_command_to_copy_is_quoted(run: Run) -> None:
    make_job(key="x; touch pwn", state=S.COMPLETED, runs=1)
    assert (
        "queuectl job show 'x; touch pwn'"
        in run("job", "output", "x; touch pwn", "--attempt", "5").err
    )


def test_many_are_changed_when_that_was_confirmed(run: Run) -> None:
    make_jobs(21, state=S.DEAD)
    assert run("dlq", "retry", "--all", "--yes").out == "21 jobs moved back to queue for retry\n"
    assert Event.objects.count() == 1


@pytest.mark.parametrize("words", [["retry"], ["discard"], ["retry", "--all", "a"]])
def test_the_dead_letter_queue_is_told_which_jobs(run: Run, words: list[str]) -> None:
    make_job(key="a", state=S.DEAD)
    assert run("dlq", *words).code == 1
    assert Job.objects.dead().count() == 1


def test_the_dead_letter_queue_discards_dead_jobs_only(run: Run) -> None:
    make_job(key="a", state=S.COMPLETED)
    assert run("dlq", "discard", "a").code == 1
    assert Job.objects.exists()


@pytest.mark.parametrize("number", ["0", "2", "-1"])
def test_an_attempt_that_never_was_is_refused(run: Run, number: str) -> None:
    printed_job(b"x")
    said = run("job", "output", "job1", f"--attempt={number}")
    assert (said.code, said.out) == (1, "") and f"no attempt {number}" in said.err


def test_a_gap_in_the_output_is_marked(run: Run) -> None:
    job = printed_job(b"head\n")
    Output.objects.create(job=job, attempt=1, stream=1, sequence=1, offset=1005, data=b"tail\n")
    assert run("output", "job1", "--stdout").out == "head\n[… 1,000 bytes left out …]\ntail\n"


def test_raw_output_is_the_stored_bytes(run: Run) -> None:
    printed_job("é\x1b[31m\n".encode())
    assert run("output", "job1", "--stdout", "--raw").out == "é\x1b[31m\n"


def test_a_job_is_shown_without_the_values_of_its_env(run: Run) -> None:
    make_job(key="job1", env={"TOKEN": "hunter2"})
    said = run("job", "show", "job1")
    assert "TOKEN" in said.out and "hunter2" not in said.out


# Programs and pipes


@pytest.mark.parametrize(
    "words",
    [["list"], ["dlq", "list"], ["status"], ["config", "show"], ["worker", "list"], ["show", "job1"]],
    ids=" ".join,
)  # fmt: skip
def test_with_json_stdout_is_json_alone(run: Run, words: list[str]) -> None:
    printed_job(b"x")
    make_job(key="dead1", state=S.DEAD)
    said = run(*words, "--json")
    assert (said.code, said.err) == (0, "")
    json.loads(said.out)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_list_in_json_is_one_array(run: Run, number: int) -> None:
    make_jobs(number)
    assert len(json.loads(run("list", "--json").out)) == number


HOSTILE = "\x1b]52;c;eA==\x07\x1b[2J\x9b31m\r\u202e\x7f"


@pytest.mark.parametrize(
    "words",
    [
        ["list"], ["list", "--json"], ["dlq", "list"], ["dlq", "list", "--json"], ["show", "job1"],
        ["show", "job1", "--json"], ["output", "job1"], ["status"], ["--color", "always", "list", "--all"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_text_of_a_job_reaches_a_terminal_unescaped(run: Run, words: list[str]) -> None:
    job = make_job(
        key="job1", command=f"echo {HOSTILE}", state=S.DEAD, runs=1, attempts=1, last_error=HOSTILE
    )
    Attempt.objects.create(job=job, number=1, outcome="failed", finished_at=NOW, error=HOSTILE)
    data = HOSTILE.encode()
    Output.objects.create(job=job, attempt=1, stream=1, sequence=0, offset=0, data=data)
    said = run(*words)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", said.out) if "always" in words else said.out
    assert said.code == 0 and not set(shown) & set("\x1b\x07\x9b\r\u202e\x7f")


def test_text_beyond_ascii_is_no_traceback_where_stdout_takes_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(key="名", command="echo é")
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        said = run("list")
    assert (said.code, said.err) == (0, "") and b"pending" in written.getvalue()


def test_what_is_to_be_written_to_a_closed_stdout_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(key="a")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        said = run("export")
        sys.stdout.close()
    assert (said.code, said.err) == (1, "Error: There is no stdout to write to\n  give a file\n")


def test_a_reader_that_has_gone_is_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Job.objects.bulk_create([new_job() for _ in range(3000)])
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        said = run("list")
    stream.close()
    assert (said.code, said.err) == (1, "")


@pytest.mark.django_db(transaction=True)
def test_a_command_leaves_no_connection_open(run: Run) -> None:
    assert run("status").code == 0
    assert connection.connection is None


@pytest.mark.django_db(transaction=True)
def test_without_tables_what_to_run_is_said(run: Run) -> None:
    with connection.schema_editor() as editor:
        editor.alter_db_table(Job, "queuectl_job", "elsewhere")
    try:
        said = run("status")
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(Job, "elsewhere", "queuectl_job")
    assert (said.code, said.out) == (1, "") and "python manage.py migrate" in said.err


@pytest.mark.one_database
@pytest.mark.parametrize(
    "words", [("status",), ("enqueue", "true"), ("worker", "start")], ids=" ".join
)
def test_a_database_that_the_site_has_not_is_one_sentence(run: Run, words: tuple[str, ...]) -> None:
    with override_settings(QUEUECTL={"DATABASE": "quue"}):
        said = run(*words)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert said.err.startswith("Error: QUEUECTL['DATABASE'] is 'quue', which is not in DATABASES; ")


def gone_at_the_second() -> Callable[..., Any]:
    calls = iter((True, False))
    cancel = operations.cancel

    def fails(*given: Any) -> Any:
        if next(calls):
            return cancel(*given)
        raise OperationalError("the connection is lost")

    return fails


def test_after_trouble_with_a_change_nobody_is_told_that_nothing_was_done(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in "ab":
        make_job(key=key)
    monkeypatch.setattr(operations, "cancel", gone_at_the_second())
    said = run("cancel", "a", "b")
    assert (said.code, said.out) == (1, "Job 'a' cancelled\n")
    assert "look whether it was done" in said.err and "nothing was changed" not in said.err


def test_trouble_while_reading_has_changed_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.stats.snapshot", Mock(side_effect=OperationalError("lost")))
    said = run("status")
    assert said.code == 1 and said.err.endswith("lost\n  nothing was changed\n")


@pytest.mark.django_db(transaction=True)
def test_who_never_reached_the_database_has_changed_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.close()
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "NAME", "/nowhere/nothing")
        said = run("enqueue", "true")
    assert said.code == 1 and said.err.endswith("\n  nothing was changed\n")


# Attention


def test_waiting_jobs_without_a_worker_want_attention(run: Run) -> None:
    operations.enqueue({"command": "true", "queue": "media"}, ANN)
    said = run("status", "--check")
    assert said.code == 5
    assert "! media: 1 job waits and no worker is running.   queuectl worker start\n" in said.out


def test_jobs_that_no_live_worker_serves_want_attention(run: Run) -> None:
    operations.enqueue({"command": "true", "queue": "media"}, ANN)
    with patch.object(lockfile, "is_alive", return_value=True):
        make_worker(queues=["default"])
        said = run("status", "--check")
    assert said.code == 5
    assert "no live worker serves this queue.   queuectl worker start -q media\n" in said.out


@pytest.mark.parametrize("minutes", [0, 2])
def test_jobs_that_workers_have_tried_in_vain_for_a_while_want_attention(
    run: Run, minutes: int
) -> None:
    make_queues("default")
    make_worker(heartbeat_at=dialect.now())
    now = dialect.now()
    for key in ("a", "b"):
        make_job(
            key=key, task="gone.task", state=JobState.SCHEDULED, due_at=now + seconds(20),
            put_off_since=now - seconds(60 * minutes + (key == "b")),
        )  # fmt: skip
    with patch.object(lockfile, "is_alive", return_value=True):
        said = run("status", "--check")
    assert said.code == (5 if minutes else 0)
    assert ("! 2 jobs wait: no worker can start them.   queuectl job show b\n" in said.out) is bool(
        minutes
    )


def test_a_paused_queue_wants_no_attention(run: Run) -> None:
    operations.enqueue({"command": "true", "queue": "media"}, ANN)
    Queue.objects.update(paused_at=dialect.now())
    assert run("status", "--check").code == 0


def test_without_check_attention_is_no_error(run: Run) -> None:
    operations.enqueue({"command": "true"}, ANN)
    assert run("status").code == 0


def test_workers_that_were_left_dead_are_told_from_live_ones(run: Run) -> None:
    make_worker(name="gone", boot="an earlier boot", heartbeat_at=dialect.now() - seconds(3600))
    said = run("worker", "stop")
    assert said.out == "No workers are running\n" and "gone" in said.err
