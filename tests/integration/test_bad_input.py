"""What is wrong is refused in one sentence, on every surface alike, and nothing has changed."""

import html
import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.db import OperationalError, ProgrammingError, connection
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import Settings

from jobs import dialect, operations
from jobs.cli import printing
from jobs.exceptions import InvalidField
from jobs.management.commands import queuectl
from jobs.models import Attempt, Event, Job, Output, Queue, Setting, Worker
from jobs.states import JobState
from jobs.worker import detach
from tests.bad_input import (
    COMMANDS,
    DATABASE_COMMANDS,
    SETTINGS,
    TAKEN_ALREADY,
    TEXTS,
    UNTIL,
    Bad,
    Text,
    cells,
)
from tests.integration.builders import NOW, make_job, make_queues

pytestmark = pytest.mark.django_db

OPEN = {"COMMAND_POLICY": "shell", "START_WORKERS_FROM_WEB": True}
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e\ud800-\udfff]")
LONGEST = 600


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@cache
def parser() -> Any:
    """The one that every command of the umbrella makes; making it takes longer than all the rest."""
    command = queuectl.Command()
    command._called_from_command_line = True
    return command.create_parser("manage.py", "queuectl")


class World:
    """A queue with something in it, and the ways to ask for something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """A browser of somebody who may do everything."""
        if self._client is None:
            user = User.objects.create(username="root", is_superuser=True, is_staff=True)
            self._client = Client()
            self._client.force_login(user)
        return self._client

    def select(self, model: str, action: str, **fields: Any) -> Any:
        """Confirm an action of the admin's list for all its rows."""
        keys = [str(row.pk) for row in {"job": Job, "queue": Queue}[model].objects.all()]
        data = {"action": action, "_selected_action": keys, "confirmed": "yes", **fields}
        return self.client.post(reverse(f"admin:queuectl_{model}_changelist"), data, follow=True)

    def type(self, *words: str, stdin: bytes | None = b"") -> Said:
        """`queuectl WORDS`, in a pipe."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in "oe")
        code, made = 0, parser()
        with self.monkeypatch.context() as patch:
            # What a process does at its end would outlast this one.
            patch.setattr(printing, "quiet_streams", lambda: None)
            patch.setattr(queuectl.Command, "create_parser", lambda *_: made)
            if connection.in_atomic_block:
                patch.setattr(dialect, "close", lambda: None)
            patch.setattr(
                sys, "stdin", stdin if stdin is None else io.TextIOWrapper(io.BytesIO(stdin))
            )
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            try:
                queuectl.Command().run_from_argv(["manage.py", "queuectl", *words])
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
        said = []
        for stream in (out, err):
            stream.flush()
            said.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
        return Said(code, *said)

    def refused(self, *words: str, stdin: bytes | None = b"") -> list[str]:
        """The sentence on stderr, with what it adds; one."""
        said = self.type(*words, stdin=stdin)
        assert (said.code, said.out) == (1, ""), said
        first, *more = said.err.splitlines()
        assert first.startswith("Error: ")
        assert len(more) <= 1, said.err
        assert all(line.startswith("  ") for line in more)
        return [" ".join([first, *more])]

    def answered(self, response: Any, status: int = 400) -> list[str]:
        """The sentences of a page that refuses."""
        text = response.content.decode()
        assert response.status_code == status, text[:2000]
        found = re.findall(
            r'<(?:p|li) class="(q-field-error|q-note q-error|error)"([^>]*)>(.*?)</', text, re.S
        )
        return [html.unescape(f"{more} {sentence}") for _, more, sentence in found]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> World:
    settings.QUEUECTL = OPEN
    make_queues("default")
    make_job(key="j")
    Setting.objects.create(key="max-retries", value=7, updated_at=NOW)
    return World(monkeypatch)


def page(name: str, *args: str) -> str:
    return reverse(f"queuectl:{name}", args=args)


def button(key: str, verb: str) -> str:
    return reverse("admin:queuectl_job_press", args=[quote(key), verb])


def everything() -> list[list[tuple[Any, ...]]]:
    """The rows of every table, as they are: asked for after each of a thousand refusals."""
    models = (Job, Queue, Setting, Event, Attempt, Output, Worker)
    with connection.cursor() as cursor:
        found = []
        for model in models:
            cursor.execute(f"SELECT * FROM {model._meta.db_table} ORDER BY 1")
            found.append(cursor.fetchall())
        return found


# One job, or one change of one


def asked_for(row: Bad) -> dict[str, Any]:
    if row.field == "field":
        return {"command": "true", str(row.value): 1}
    return {} if row.field == "argv" else {"command": "true"}


def fields_of(row: Bad) -> dict[str, Any]:
    return asked_for(row) | ({} if row.field == "field" else {row.field: row.value})


def by_json(world: World, row: Bad) -> list[str]:
    return world.refused("enqueue", json.dumps(fields_of(row)))


def by_line(world: World, row: Bad) -> list[str]:
    good = json.dumps({"command": "true"})
    sentences = world.refused(
        "enqueue", "-", stdin=f"{good}\n{json.dumps(fields_of(row))}\n".encode()
    )
    assert sentences[0].startswith("Error: line 2: ")
    return sentences


OPTIONS = {"run_at": "at", "max_retries": "max-retries", "backoff_base": "backoff-base",
           "unique_key": "unique-key"}  # fmt: skip


def by_option(world: World, row: Bad) -> list[str]:
    typed = row.as_typed()
    if row.field == "command":
        return world.refused("enqueue", str(typed))
    return world.refused("enqueue", f"--{OPTIONS.get(row.field, row.field)}={typed}", "true")


def by_python(world: World, row: Bad) -> list[str]:
    with pytest.raises(InvalidField) as caught:
        operations.enqueue(fields_of(row))
    assert caught.value.field == (row.value if row.field == "field" else row.field)
    return [f"{caught.value} {caught.value.hint}"]


def by_new(world: World, row: Bad) -> list[str]:
    response = world.client.post(page("new"), {"command": "true", row.field: row.as_typed()})
    return world.answered(response)


VERBS = {"queue": "move", "priority": "set-priority"}


def by_button(world: World, row: Bad) -> list[str]:
    data = {"confirmed": "yes", row.field: row.as_typed()}
    return world.answered(world.client.post(page("act", "j", VERBS[row.field]), data))


def by_press(world: World, row: Bad) -> list[str]:
    data = {"confirmed": "yes", row.field: row.as_typed()}
    return world.answered(world.client.post(button("j", VERBS[row.field]), data))


def by_action(world: World, row: Bad) -> list[str]:
    action = VERBS[row.field].replace("-", "_")
    return world.answered(world.select("job", action, **{row.field: row.as_typed()}))


ORIGINAL = {
    "id": "a", "command": "true", "state": "pending", "attempts": 0, "max_retries": 3,
    "created_at": "2025-11-07T10:00:00Z", "updated_at": "2025-11-07T10:00:00Z", "next_retry_at": None,
    "error_message": None, "priority": 5, "run_at": None, "stdout": None, "stderr": None,
    "execution_time": None, "started_at": None, "completed_at": None,
}  # fmt: skip
NATIVE = {
    "id": "a", "queue": "other", "command": "true", "argv": None, "task": None, "args": None, "cwd": "",
    "env": {}, "state": "pending", "priority": 5, "run_at": None, "due_at": "2025-11-07T10:00:00Z",
    "attempts": 0, "max_retries": 3, "runs": 0, "losses": 0, "interruptions": 0, "prefetchable": True,
    "timeout": None, "backoff_base": None, "exit_codes": None, "unique_key": None,
    "concurrency_key": None, "created_at": "2025-11-07T10:00:00Z",
    "updated_at": "2025-11-07T10:00:00Z", "started_at": None, "finished_at": None,
    "cancel_requested_at": None, "result": None, "last_error": "", "fingerprint": "",
    "request_digest": "", "enqueued_by": "ann",
}  # fmt: skip
HEADER = '{"format": "queuectl", "version": 1}'


def jobs_json(text: str | bytes, key: object = "a") -> bytes:
    """A good job and then this one, in the original's format."""
    data = text if isinstance(text, bytes) else text.encode("utf-8")
    name = json.dumps(key if isinstance(key, str) else "a").encode()
    good = json.dumps(ORIGINAL | {"id": "good"}).encode()
    return b'{"good": ' + good + b",\n" + name + b": " + data + b"}"


def native_lines(*lines: str | bytes) -> bytes:
    """A good job and then these lines, in our own format."""
    encoded = [line if isinstance(line, bytes) else line.encode("utf-8") for line in lines]
    good = json.dumps({"job": NATIVE | {"id": "good"}}).encode()
    return b"\n".join([HEADER.encode(), good, *encoded, b'{"end": {"jobs": 2}}'])


def imported(world: World, data: bytes) -> list[str]:
    return world.refused("import", "-", stdin=data)


def by_original(world: World, row: Bad) -> list[str]:
    changed = {str(row.value): 1} if row.field == "field" else {row.field: row.value}
    return imported(world, jobs_json(json.dumps(ORIGINAL | changed), changed.get("id", "a")))


def by_native(world: World, row: Bad) -> list[str]:
    changed = {str(row.value): 1} if row.field == "field" else {row.field: row.value}
    if row.field == "argv":
        changed["command"] = None
    sentences = imported(world, native_lines(json.dumps({"job": NATIVE | changed})))
    assert sentences[0].startswith("Error: line 3: ")
    return sentences


SURFACES: dict[str, Callable[[World, Bad], list[str]]] = {
    "json": by_json, "line": by_line, "option": by_option, "python": by_python, "new": by_new,
    "button": by_button, "action": by_action, "press": by_press, "original": by_original,
    "native": by_native,
}  # fmt: skip


def check(sentences: list[str], *words: str) -> None:
    """One sentence, short, which no terminal obeys, with these words."""
    assert len(sentences) == 1, sentences
    (sentence,) = sentences
    assert len(sentence) <= LONGEST, sentence
    assert not CONTROL.search(sentence), repr(sentence)
    for word in words:
        assert word.lower() in sentence.lower(), sentence


def ids(value: object) -> str | None:
    return str(value) if isinstance(value, str | Bad | Text) else "-"


@pytest.mark.parametrize(("surface", "field", "rows"), cells(), ids=ids)
def test_a_wrong_value_is_refused_by_name(
    world: World, subtests: pytest.Subtests, surface: str, field: str, rows: list[Bad]
) -> None:
    before = everything()
    for row in rows:
        with subtests.test(str(row)):
            check(SURFACES[surface](world, row), field, *row.words(surface))
            assert everything() == before


# A text where a job should be


def text_by_json(world: World, data: bytes) -> list[str]:
    return world.refused("enqueue", data.decode())


def text_by_line(world: World, data: bytes) -> list[str]:
    return world.refused("enqueue", "-", stdin=b'{"command": "true"}\n' + data)


def text_by_original(world: World, data: bytes) -> list[str]:
    return imported(world, jobs_json(data))


def text_by_native(world: World, data: bytes) -> list[str]:
    return imported(world, native_lines(b'{"job": ' + data + b"}"))


PLACES = {"json": text_by_json, "line": text_by_line, "original": text_by_original,
          "native": text_by_native}  # fmt: skip


@pytest.mark.parametrize("surface", PLACES)
def test_a_text_that_is_no_job_is_refused(
    world: World, subtests: pytest.Subtests, surface: str
) -> None:
    before = everything()
    for text in TEXTS:
        if surface in text.not_on:
            continue
        data = text.data if isinstance(text.data, bytes) else text.data.encode()
        with subtests.test(str(text)):
            check(PLACES[surface](world, data), text.words(surface))
            assert everything() == before


# A whole command


def misused(world: World, words: tuple[str, ...]) -> list[str]:
    """What usage says on stderr: the sentence, the usage and where help is."""
    said = world.type(*words)
    assert (said.code, said.out) == (2, ""), said
    first, *more = said.err.splitlines()
    assert first.startswith("Error: ")
    assert "usage: queuectl" in more[0].replace("manage.py queuectl", "queuectl")
    return [first]


def test_a_wrong_command_says_what_is_wrong_with_its_exit_code(
    world: World, subtests: pytest.Subtests
) -> None:
    before = everything()
    for command in COMMANDS:
        with subtests.test(str(command)):
            if command.code == 2:
                check(misused(world, command.words), command.says)
            else:
                check(world.refused(*command.words, stdin=command.stdin), command.says)
            assert everything() == before


# Settings


def set_by_option(world: World, row: Bad) -> list[str]:
    return world.refused("config", "set", row.field, str(row.as_typed()))


def set_by_form(world: World, row: Bad) -> list[str]:
    address = reverse("admin:queuectl_setting_change", args=[row.field])
    return world.answered(world.client.post(address, {"value": row.as_typed()}))


def set_by_config(world: World, row: Bad) -> list[str]:
    given = {"job_timeout": 9, row.field.replace("-", "_"): row.value}
    return imported(world, json.dumps(given).encode())


def set_by_native(world: World, row: Bad) -> list[str]:
    line = {"setting": {"key": row.field, "value": row.value}}
    return imported(world, native_lines(json.dumps(line)))


SETTERS = {"option": set_by_option, "setting": set_by_form, "config": set_by_config,
           "native": set_by_native}  # fmt: skip


@pytest.mark.parametrize("surface", SETTERS)
def test_a_setting_out_of_its_bounds_is_refused(
    world: World, subtests: pytest.Subtests, surface: str
) -> None:
    before = everything()
    for row in SETTINGS:
        typed = surface in ("option", "setting")
        if (typed and row.as_typed() is None) or surface in row.not_on:
            continue
        with subtests.test(str(row)):
            sentences = SETTERS[surface](world, row)
            check(sentences, row.instead.get(surface, "from"))
            named = row.field.replace("-", "[-_]")
            assert re.search(named, sentences[0]) or surface == "setting", sentences
            assert everything() == before


# Queues


def pause_by_option(world: World, row: Bad) -> list[str]:
    return world.refused("queue", "pause", "default", "--until", str(row.value))


def pause_by_action(world: World, row: Bad) -> list[str]:
    return world.answered(world.select("queue", "pause", reason="why", until=row.value))


@pytest.mark.parametrize("pause", [pause_by_option, pause_by_action], ids=lambda f: f.__name__)
def test_a_pause_until_no_time_to_come_is_refused(
    world: World, subtests: pytest.Subtests, pause: Callable[[World, Bad], list[str]]
) -> None:
    before = everything()
    for row in UNTIL:
        with subtests.test(str(row)):
            said = row.instead.get("action", row.says) if pause is pause_by_action else row.says
            check(pause(world, row), "until", said)
            assert everything() == before


# The page's start of workers


def test_a_number_of_workers_that_is_none_starts_none(
    world: World, subtests: pytest.Subtests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(plan: Any, log: Any) -> Any:
        raise AssertionError(f"started {plan}")

    monkeypatch.setattr(detach, "start", start)
    before = everything()
    for text in ("", "0", "-1", "11", "10000000", "1e3", "1.5", "many", "1\0", " ", "9" * 5000):
        with subtests.test(text[:12]):
            check(
                world.answered(world.client.post(page("start-workers"), {"count": text})), "count"
            )
            assert everything() == before


# A verb that the state does not allow


def job_in(state: str) -> Job:
    return make_job(key="other", state=JobState(state))


@pytest.mark.parametrize("verb", TAKEN_ALREADY)
def test_what_the_state_does_not_allow_is_a_conflict_without_event(world: World, verb: str) -> None:
    state, words = TAKEN_ALREADY[verb]
    job_in(state)
    before, data = everything(), {"confirmed": "yes", "queue": "q", "priority": "1"}
    response = world.client.post(page("act", "other", verb), data)
    check(world.answered(response, 409), "other", words)
    response = world.client.post(button("other", verb), data, follow=True)
    check(world.answered(response, 200), "other", words)
    if verb not in ("move", "set-priority"):
        check(world.refused("job", verb, "other"), "other", words)
    assert everything() == before


@pytest.mark.parametrize("key", ["nobody", "%", "' OR 1=1 --", "<script>"])
def test_an_id_that_is_not_there_is_not_found(world: World, key: str) -> None:
    before = everything()
    for verb in TAKEN_ALREADY:
        response = world.client.post(page("act", key, verb), {"confirmed": "yes"})
        assert response.status_code == 404
        assert f"Job '{key}' not found" in html.unescape(response.content.decode())
        assert world.client.post(button(key, verb), {"confirmed": "yes"}).status_code == 404
    assert everything() == before


# A database that has no tables, or fails


def no_relation() -> ProgrammingError:
    error = ProgrammingError('relation "queuectl_job" does not exist')
    error.__cause__ = Exception()
    error.__cause__.sqlstate = "42P01"  # type: ignore[attr-defined]
    return error


FAILURES = (
    (OperationalError("no such table: queuectl_job"), "run: python manage.py migrate"),
    (no_relation(), "run: python manage.py migrate"),
    (OperationalError("disk I/O error"), "The database cannot be used: disk I/O error"),
)


@pytest.mark.parametrize("command", DATABASE_COMMANDS, ids=" ".join)
def test_a_database_that_fails_is_one_sentence(world: World, command: tuple[str, ...]) -> None:
    for error, words in FAILURES:

        def fail(*_: Any, error: Exception = error) -> Any:
            raise error

        with connection.execute_wrapper(fail):
            check(world.refused(*command), words)


# What is refused, taken or said wrongly still


def test_a_time_too_far_ahead_is_refused_with_its_line(world: World) -> None:
    line = json.dumps({"command": "true", "run_at": "2090-01-01T00:00:00Z"}).encode()
    check(world.refused("enqueue", "-", stdin=b'{"command": "true"}\n' + line), "line 2: ")


def test_a_worker_name_is_refused_as_a_name(world: World) -> None:
    check(world.refused("worker", "start", "--name", "a\nb"), "Invalid name: ")


@pytest.mark.parametrize("text", ["1_0", "\u0663", "3.0", " 3"])
def test_a_number_of_workers_is_never_coerced(
    world: World, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(detach, "start", lambda plan, log: pytest.fail(f"started {plan}"))
    check(world.answered(world.client.post(page("start-workers"), {"count": text})), "count")


def test_a_long_name_with_nul_is_one_sentence(world: World) -> None:
    data = {"confirmed": "yes", "queue": "x" * 65 + "\0"}
    check(world.answered(world.client.post(page("act", "j", "move"), data)), "queue")


@pytest.mark.parametrize("words", [("enqueue", "-"), ("job", "discard", *"abcdefghijklmnopqrstu")])
def test_without_stdin_there_is_a_sentence(world: World, words: tuple[str, ...]) -> None:
    check(world.refused(*words, stdin=None), "stdin" if words[0] == "enqueue" else "--yes")


@pytest.mark.parametrize("name", ["runs", "attempts", "losses", "interruptions"])
def test_an_imported_counter_leaves_room_to_count_on(world: World, name: str) -> None:
    line = json.dumps({"job": NATIVE | {name: 2**31 - 1}})
    check(imported(world, native_lines(line)), f"Invalid {name}: ")


@pytest.mark.parametrize("name", ["created_at", "run_at", "due_at"])
def test_an_imported_time_can_be_shown_in_every_zone(world: World, name: str) -> None:
    line = json.dumps({"job": NATIVE | {name: "0001-01-01T00:00:00Z"}})
    check(imported(world, native_lines(line)), f"Invalid {name}: ")


def test_an_imported_setting_of_a_wrong_type_is_told_its_bounds(world: World) -> None:
    check(imported(world, b'{"max_retries": "five"}'), "a whole number from 0 to 100")
