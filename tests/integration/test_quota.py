"""A site may bound how many unfinished jobs one person has."""

import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from jobs import operations, transfer
from jobs.exceptions import QuotaReached, WrongState
from jobs.models import Event, Job
from jobs.operations import Actor, refusals
from jobs.states import ACTIVE, JobState
from tests.integration.builders import make_job, make_jobs
from tests.integration.test_admin import button, select
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


def test_who_retries_own_jobs_needs_room_for_them() -> None:
    actor = ann()
    dead = make_jobs(3, enqueued_by="ann", state=JobState.DEAD)
    waiting = make_jobs(2, enqueued_by="ann")
    with pytest.raises(QuotaReached):
        operations.retry_many(Job.objects.all(), actor)
    assert Job.objects.dead().count() == 3
    operations.retry(dead[0], actor)
    with pytest.raises(QuotaReached):
        operations.retry(dead[1], actor)
    Job.objects.filter(id__in=[job.id for job in waiting]).delete()
    assert operations.retry_many(Job.objects.all(), actor).changed == 2


def test_who_retries_the_jobs_of_others_needs_none() -> None:
    actor = ann()
    make_jobs(3, enqueued_by="ann")
    dead = make_jobs(5, enqueued_by="bob", state=JobState.DEAD)
    operations.retry(dead[0], actor)
    assert operations.retry_many(Job.objects.all(), actor).changed == 4


def test_what_stays_dead_for_its_key_needs_no_room() -> None:
    actor = ann()
    make_jobs(3, enqueued_by="ann", state=JobState.DEAD, unique_key="k")
    make_jobs(2, enqueued_by="ann")
    done = operations.retry_many(Job.objects.all(), actor)
    assert (done.changed, done.left["unique_key taken"]) == (1, 2)


def test_a_job_that_is_not_dead_is_told_so_at_the_limit_too() -> None:
    actor = ann()
    jobs = make_jobs(3, enqueued_by="ann")
    with pytest.raises(WrongState):
        operations.retry(jobs[0], actor)


def test_many_ids_are_looked_up_some_at_a_time(settings: Settings) -> None:
    settings.QUEUECTL = OPEN | {"MOST_JOBS_OF_A_USER": 10**6}
    actor = ann()
    given = [{**JOB, "id": f"job{n}"} for n in range(501)]
    operations.enqueue_many(given[:1], actor)
    with CaptureQueriesContext(connection) as asked:
        operations.enqueue_many(given, actor)
    assert max(query["sql"].count("'job") for query in asked if "IN (" in query["sql"]) <= 500


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
    assert client.post(button("j", "run-again")).status_code == 429
    copied = select(client, "run_again", [Job.objects.get(key="j")])
    assert copied.status_code == 429
    assert "this site lets one have 3" in html(copied)
    assert Job.objects.count() == 4
