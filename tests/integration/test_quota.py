"""A site may bound how many unfinished jobs one person has."""

import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django.fixtures import Settings

from jobs import operations, transfer
from jobs.exceptions import QuotaReached
from jobs.models import Event, Job
from jobs.operations import Actor, refusals
from jobs.states import ACTIVE, JobState
from tests.integration.builders import make_job, make_jobs
from tests.integration.test_dashboard import OPEN, browser, html, page

pytestmark = pytest.mark.django_db

JOB: dict[str, Any] = {"command": "true"}


@pytest.fixture(autouse=True)
def bounded(settings: Settings) -> None:
    settings.QUEUECTL = OPEN | {"MOST_JOBS_OF_A_USER": 3}


def ann() -> Actor:
    return Actor("ann", "web", user=User.objects.create_superuser("ann"))


@pytest.mark.parametrize("state", ACTIVE)
def test_the_one_too_many_is_refused_and_leaves_an_event(state: JobState) -> None:
    actor = ann()
    make_jobs(2, enqueued_by="ann", state=state)
    operations.enqueue(JOB, actor)
    with pytest.raises(QuotaReached, match="ann has 3 unfinished jobs, and this site lets one"):
        operations.enqueue(JOB, actor)
    assert Job.objects.count() == 3
    refusals.settle()  # as the end of the request does
    assert Event.objects.filter(action="refused").count() == 1


def test_jobs_that_have_ended_and_those_of_others_do_not_count() -> None:
    actor = ann()
    make_jobs(5, enqueued_by="ann", state=JobState.DEAD)
    make_jobs(5, enqueued_by="bob")
    assert operations.enqueue(JOB, actor).created


def test_many_at_once_are_let_in_together_or_not_at_all() -> None:
    actor = ann()
    with pytest.raises(QuotaReached):
        operations.enqueue_many([JOB] * 4, actor)
    assert Job.objects.count() == 0
    operations.enqueue_many([JOB] * 3, actor)
    assert Job.objects.count() == 3


def test_a_repeated_request_adds_nothing_and_is_answered_at_the_limit() -> None:
    actor = ann()
    given = [{**JOB, "id": f"job{n}"} for n in range(3)]
    operations.enqueue_many(given, actor)
    assert operations.enqueue(given[0], actor).created is False
    assert [one.created for one in operations.enqueue_many(given, actor)] == [False] * 3
    with pytest.raises(QuotaReached):
        operations.enqueue_many([*given, JOB], actor)


def test_a_copy_counts() -> None:
    actor = ann()
    jobs = make_jobs(3, enqueued_by="ann")
    with pytest.raises(QuotaReached):
        operations.run_again(jobs[0], actor)


def test_an_import_counts_what_is_new_in_it_and_has_not_ended() -> None:
    actor, file = ann(), io.BytesIO()
    make_jobs(9, enqueued_by="bob", state=JobState.COMPLETED)
    make_jobs(3, enqueued_by="bob")
    transfer.export(file, "queuectl", Actor("bob", "cli"))
    transfer.import_file(io.BytesIO(file.getvalue()), actor)
    Job.objects.all().delete()
    transfer.import_file(io.BytesIO(file.getvalue()), actor)
    Job.objects.all().delete()
    make_job(enqueued_by="bob")
    make_jobs(3, enqueued_by="bob")
    file = io.BytesIO()
    transfer.export(file, "queuectl", Actor("bob", "cli"))
    transfer.import_file(io.BytesIO(file.getvalue()), actor)
    Job.objects.all().delete()
    with pytest.raises(QuotaReached):
        transfer.import_file(io.BytesIO(file.getvalue()), actor)
    assert Job.objects.count() == 0


@pytest.mark.parametrize("via", ["cli", "python"])
def test_a_shell_and_the_hosts_code_have_no_quota(via: str) -> None:
    make_jobs(5, enqueued_by="ann")
    assert operations.enqueue(JOB, Actor("ann", via)).created


def test_without_the_setting_there_is_none(settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    make_jobs(50, enqueued_by="ann")
    assert operations.enqueue(JOB, ann()).created


def test_the_page_says_so_with_429() -> None:
    client = browser("superuser")
    name = User.objects.get(is_superuser=True).username
    make_jobs(3, enqueued_by=name)
    response = client.post(page("new"), {"command": "true"})
    assert response.status_code == 429
    assert "wait until some have ended, or cancel some" in html(response)
    make_job(key="j", state=JobState.COMPLETED)
    assert client.post(page("act", "j", "run-again")).status_code == 429
    assert Job.objects.count() == 4
