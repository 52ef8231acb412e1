"""What a page says while the database is away, full, damaged or not migrated: 503, and one sentence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
)
from django.test import Client
from pytest_django.fixtures import Settings

from jobs import clock
from jobs.models import Job, Queue
from jobs.pages.headers import HEADERS
from jobs.pages.trouble import AWAY, DAMAGED, FULL, NOT_MIGRATED, PERHAPS_DONE
from jobs.states import JobState
from tests.integration.builders import make_job, make_queues
from tests.integration.test_admin import button, listing, own_page, select
from tests.integration.test_dashboard import OPEN, browser, html, page
from tests.integration.test_policy import every_request_in_a_transaction
from tests.support import damaged

pytestmark = pytest.mark.django_db(transaction=True)

COMMAND = {"command": "echo canary"}
EMBEDDED = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
"""A site of somebody's own has nothing of the bundled project's."""


@contextmanager
def failing(error: Exception, *, only: str = "", after: int = 0) -> Iterator[None]:
    """Every statement that holds `only` fails, but for the first few."""
    seen = []

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if only in sql:
            seen.append(sql)
            if len(seen) > after:
                raise error
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        yield


def said(response: Any, sentence: str) -> None:
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert re.findall(r"<p>(.*?)</p>", html(response)) == [sentence]
    assert {name: response.headers.get(name) for name in HEADERS} == HEADERS
    assert "no-store" in response.headers["Cache-Control"]


@pytest.fixture(params=["bundled", "embedded"])
def site(request: pytest.FixtureRequest, settings: Settings) -> str:
    settings.QUEUECTL = OPEN
    if request.param == "embedded":
        settings.MIDDLEWARE = EMBEDDED
    return str(request.param)


@pytest.mark.parametrize("error", [OperationalError("no route"), InterfaceError("closed")], ids=str)
def test_while_the_database_is_away_every_page_of_ours_says_so(site: str, error: Exception) -> None:
    make_job(key="j", state=JobState.DEAD)
    client = browser("superuser")
    with failing(error):
        for address in (
            page("overview"), page("jobs"), page("dlq"), page("charts"), page("new"), page("job", "j"),
            listing(), own_page("j"), listing("queue"),
        ):  # fmt: skip
            said(client.get(address), AWAY)
        said(client.post(page("new"), COMMAND), PERHAPS_DONE)
        said(client.post(page("act", "j", "retry")), PERHAPS_DONE)
        said(client.post(button("j", "retry")), PERHAPS_DONE)
    assert [job.state for job in Job.objects.all()] == [JobState.DEAD]
    assert client.get(page("overview")).status_code == 200


def full() -> OperationalError:
    """As either database says it."""
    error, cause = OperationalError("database or disk is full"), Exception()
    cause.sqlite_errorcode, cause.sqlstate = 13, "53100"  # type: ignore[attr-defined]
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("statement", ["INSERT", "COMMIT"])
def test_on_a_full_database_an_enqueue_is_refused_and_nothing_stored(
    site: str, statement: str
) -> None:
    client, tomorrow = browser("superuser"), f"{clock.now() + timedelta(days=1):%Y-%m-%dT%H:%M:%S}"
    fails: Any = failing(full(), only="INSERT")
    if statement == "COMMIT":
        fails = patch.object(connections["default"], "_commit", side_effect=full())
    with fails:
        said(client.post(page("new"), COMMAND | {"run_at": tomorrow}), FULL)
    assert not Job.objects.exists()
    assert client.post(page("new"), COMMAND).status_code == 302


def test_with_a_transaction_a_request_what_was_done_before_the_trouble_is_undone(
    settings: Settings,
) -> None:
    settings.MIDDLEWARE = EMBEDDED
    make_queues("a", "b")
    client = browser("superuser")
    with every_request_in_a_transaction(), failing(full(), only="queuectl_event", after=1):
        said(select(client, "pause", Queue.objects.all(), "queue", confirmed="1"), FULL)
    assert not Queue.objects.filter(paused_at__isnull=False).exists()
    select(client, "pause", Queue.objects.all(), "queue", confirmed="1")
    assert Queue.objects.filter(paused_at__isnull=False).count() == 2


@pytest.mark.parametrize(("code", "value"), [("sqlite_errorcode", 267), ("sqlstate", "XX002")])
def test_what_cannot_be_read_is_no_outage(site: str, code: str, value: object) -> None:
    """As either database says it; the first with what SQLite adds to its code."""
    error, client = DatabaseError("unreadable"), browser("superuser")
    error.__cause__ = type("Cause", (Exception,), {code: value})()
    with failing(error, only="queuectl_job"):
        said(client.get(page("jobs")), DAMAGED)


if connection.vendor == "sqlite":

    def test_on_a_damaged_file_every_page_of_ours_says_so(site: str) -> None:
        make_job(key="j", state=JobState.DEAD)
        client = browser("superuser")
        connection.close()
        try:
            with damaged(str(connection.settings_dict["NAME"]), "queuectl_job"):
                for address in (page("overview"), page("jobs"), page("job", "j"), listing()):
                    said(client.get(address), DAMAGED)
                said(client.post(page("new"), COMMAND), DAMAGED)
        finally:
            connection.close()
        assert client.get(page("overview")).status_code == 200
        assert [job.state for job in Job.objects.all()] == [JobState.DEAD]

    def test_a_file_that_cannot_grow_refuses_and_goes_on_when_it_can(site: str) -> None:
        client = browser("superuser")
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA page_count")
            [pages] = cursor.fetchone()
            cursor.execute(f"PRAGMA max_page_count = {pages}")
            statuses = []
            while 503 not in statuses and len(statuses) < 500:  # pages of other tests come first
                response = client.post(page("new"), {"command": "x" * 60_000})
                statuses.append(response.status_code)
            said(response, FULL)
            assert Job.objects.count() == len(statuses) - 1
            cursor.execute("PRAGMA max_page_count = 1073741823")
        assert client.post(page("new"), COMMAND).status_code == 302


def test_without_its_tables_a_page_says_what_to_run(site: str) -> None:
    client = browser("superuser")
    with connection.schema_editor() as editor:
        editor.alter_db_table(Job, "queuectl_job", "elsewhere")
    try:
        response = client.get(page("jobs"))
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(Job, "elsewhere", "queuectl_job")
    said(response, f"{NOT_MIGRATED}; run: python manage.py migrate")


def test_a_statement_that_is_wrong_is_a_crash_and_no_outage(site: str) -> None:
    client = browser("superuser")
    client.raise_request_exception = False
    with failing(ProgrammingError("syntax error"), only="queuectl_job"):
        assert client.get(page("jobs")).status_code == 500


def test_the_login_and_the_admin_of_the_project_say_so_too() -> None:
    User.objects.create_superuser("ann", password="a long password")
    login = {"username": "ann", "password": "a long password"}
    client = browser("superuser")
    with failing(OperationalError("no route")):
        said(Client().post("/accounts/login/", login), PERHAPS_DONE)
        said(client.get("/admin/"), AWAY)
        said(client.get("/admin/auth/user/"), AWAY)


def test_a_session_that_cannot_be_stored_is_no_crash() -> None:
    User.objects.create_superuser("ann", password="a long password")
    client = Client(raise_request_exception=False)
    with patch(
        "django.contrib.sessions.backends.db.SessionStore.save", side_effect=OperationalError("x")
    ):
        response = client.post(
            "/accounts/login/", {"username": "ann", "password": "a long password"}
        )
    said(response, PERHAPS_DONE)
    with patch("jobs.dashboard.frame.actor_of", side_effect=RuntimeError("boom")):
        client.force_login(User.objects.get())
        assert client.get("/").status_code == 500


def test_the_log_names_the_trouble(caplog: pytest.LogCaptureFixture) -> None:
    client = browser("superuser")
    with failing(OperationalError("no route\nto host")):
        client.get(page("jobs"))
    [record] = [r for r in caplog.records if r.name == "jobs.pages.trouble"]
    assert record.getMessage() == f"GET {page('jobs')}: the database cannot be used: no route"
