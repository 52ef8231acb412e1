"""Where a site wants that, what a user had enqueued waits while that user is disabled."""

from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Manager
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from jobs import checks, ledger
from jobs.ledger import submitters
from jobs.models import Job, Worker
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
from tests.integration.ledgers import Busy

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def held(settings: Settings) -> None:
    settings.QUEUECTL = {"HOLD_JOBS_OF_DISABLED_USERS": True}
    make_queues("default")


def user(name: str, **fields: Any) -> User:
    return User.objects.create_user(name, **fields)


def test_jobs_of_a_disabled_user_wait_with_the_reason_and_the_others_run() -> None:
    user("gone", is_active=False)
    user("here")
    for key, name in (("theirs", "gone"), ("ours", "here"), ("shells", "root"), ("codes", "")):
        make_job(key=key, enqueued_by=name, priority=9 if name == "gone" else 5)
    assert sorted(keys(claim(make_worker(), free=3))) == ["codes", "ours", "shells"]
    job = Job.objects.get(key="theirs")
    assert (job.state, job.due_at) == (JobState.SCHEDULED, NOW + submitters.HELD_FOR)
    assert (job.attempts, job.runs) == (0, 0)
    assert job.last_error == "Held: the user who enqueued it has been disabled."


def test_they_run_once_the_user_is_active_again() -> None:
    person = user("gone", is_active=False)
    make_job(key="theirs", enqueued_by="gone")
    assert claim(make_worker()) == []
    person.is_active = True
    person.save()
    later = NOW + submitters.HELD_FOR
    assert ledger.promote(later) == 1
    room = ledger.Room(free=1, ahead=0)
    works = ledger.claim(make_worker().id, ["default"], room, policy=POLICY, now=later)
    assert keys(works) == ["theirs"]


@pytest.mark.one_database
def test_a_user_whose_name_is_longer_than_a_job_keeps_is_found() -> None:
    """SQLite stores longer ones; elsewhere a site has users of its own for that."""
    user("x" * 200, is_active=False)
    make_job(enqueued_by="x" * 150)
    make_job(key="other", enqueued_by="x" * 149)
    assert keys(claim(make_worker())) == ["other"]


def test_they_are_held_again_while_the_user_is_not() -> None:
    user("gone", is_active=False)
    make_job(enqueued_by="gone")
    moment: datetime = NOW
    for _ in range(3):
        room = ledger.Room(free=1, ahead=0)
        assert ledger.claim(make_worker().id, ["default"], room, policy=POLICY, now=moment) == []
        moment += submitters.HELD_FOR
        assert Job.objects.get().due_at == moment
        ledger.promote(moment)


def test_many_of_them_hold_up_nobody_behind_them() -> None:
    user("gone", is_active=False)
    make_jobs(120, enqueued_by="gone", priority=9)
    make_job(key="behind")
    assert keys(claim(make_worker(), free=1)) == ["behind"]


def test_a_turn_puts_a_bounded_number_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitters, "_BITE", 3)
    monkeypatch.setattr("jobs.ledger.claiming._ROUNDS", 2)
    user("gone", is_active=False)
    make_jobs(8, enqueued_by="gone")
    assert claim(make_worker(), free=1) == []
    assert Job.objects.pending().count() == 2


def test_without_the_setting_nobody_is_asked_for(settings: Settings) -> None:
    settings.QUEUECTL = {}
    user("gone", is_active=False)
    make_job(key="theirs", enqueued_by="gone")
    with CaptureQueriesContext(connection) as asked:
        assert keys(claim(make_worker())) == ["theirs"]
    assert not [query for query in asked if "auth_user" in query["sql"]]


def test_a_manager_that_leaves_them_out_hides_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Active(Manager[User]):
        def get_queryset(self) -> Any:
            return super().get_queryset().filter(is_active=True)

    manager = Active()
    manager.model = User
    monkeypatch.setattr(User._meta, "default_manager", manager, raising=False)
    User(username="gone", is_active=False).save()
    make_job(enqueued_by="gone")
    assert claim(make_worker()) == []


@pytest.mark.django_db(transaction=True)
def test_users_that_cannot_be_read_end_neither_reports_nor_the_heartbeat(
    busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(key="runs")
    busy.process.turn()
    busy.answer()
    make_job(key="waits")
    Worker.objects.update(heartbeat_at=NOW)
    busy.process.beat_at = 0.0
    with connection.execute_wrapper(_without_users):
        busy.process.attempt(busy.process.look_and_turn)
    assert not busy.process.failures
    assert Job.objects.get(key="runs").state == JobState.COMPLETED
    assert Worker.objects.get().heartbeat_at != NOW, "it has beaten"
    assert Job.objects.get(key="waits").state == JobState.PENDING


def _without_users(execute: Any, sql: str, *rest: Any) -> Any:
    """As where their table is gone, or is in another database, which is away."""
    return execute(sql.replace("auth_user", "nowhere"), *rest)


@pytest.mark.django_db(transaction=True)
def test_a_turn_that_only_promoted_what_is_held_is_followed_by_the_next(busy: Busy) -> None:
    user("gone", is_active=False)
    make_jobs(3, enqueued_by="gone", state=JobState.SCHEDULED, due_at=NOW.replace(year=2001))
    assert busy.process.turn(), "what is due after them waits for it"
    assert not busy.process.turn()
    assert Job.objects.filter(state=JobState.SCHEDULED).count() == 3


def test_a_site_without_users_is_told_that_it_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.users_can_be_asked_for() == []
    monkeypatch.setattr("django.apps.apps.is_installed", lambda name: False)
    [error] = checks.users_can_be_asked_for()
    assert error.id == "queuectl.E008"
    assert "django.contrib.auth" in error.msg
