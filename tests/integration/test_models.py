"""The database itself refuses nonsense."""

from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from jobs.models import Attempt, Job, Output, Queue
from jobs.states import ACTIVE, FINAL, JobState
from tests.integration.builders import NOW, make_job, make_queues, make_worker, new_job

pytestmark = pytest.mark.django_db

S = JobState
NONSENSE: dict[str, dict[str, Any]] = {
    "an unknown state": {"state": "bogus"},
    "an empty state": {"state": ""},
    "processing without a lease": {"state": S.PROCESSING, "lease": None},
    "processing without a worker": {"state": S.PROCESSING, "worker": None},
    "pending with a lease": {"lease": uuid4()},
    "completed with a lease": {"state": S.COMPLETED, "lease": uuid4()},
    "no kind of work": {"command": None},
    "two kinds of work": {"command": "a", "argv": ["a"]},
    "three kinds of work": {"command": "a", "argv": ["a"], "task": "a"},
    "negative attempts": {"attempts": -1},
    "negative max_retries": {"max_retries": -1},
    "negative runs": {"runs": -1},
    "negative losses": {"losses": -1},
}


@pytest.mark.parametrize("fields", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_job_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    job = new_job(**fields)
    with pytest.raises(IntegrityError), transaction.atomic():
        job.save()


@pytest.mark.parametrize("state", [state for state in S if state not in FINAL])
def test_a_job_that_goes_on_has_no_end(state: JobState) -> None:
    job = new_job(state=state, finished_at=NOW)
    with pytest.raises(IntegrityError), transaction.atomic():
        job.save()


@pytest.mark.parametrize("state", FINAL)
def test_a_final_job_has_an_end(state: JobState) -> None:
    job = new_job(state=state, finished_at=None)
    with pytest.raises(IntegrityError), transaction.atomic():
        job.save()


@pytest.mark.parametrize("state", S)
def test_every_state_can_be_stored(state: JobState) -> None:
    assert Job.objects.get(id=make_job(state=state).id).state == state


@pytest.mark.parametrize("kind", [{"command": "a"}, {"argv": ["a"]}, {"task": "a.b"}])
def test_every_kind_of_work_can_be_stored(kind: dict[str, Any]) -> None:
    make_job(**kind)


def test_an_id_is_taken_once() -> None:
    make_job(key="a")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_job(key="a")


def test_a_unique_key_has_one_active_job() -> None:
    make_job(unique_key="k", state=S.BLOCKED)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_job(unique_key="k")


@pytest.mark.parametrize("state", ACTIVE)
def test_a_unique_key_may_have_many_final_jobs_beside_an_active_one(state: JobState) -> None:
    for final in FINAL:
        make_job(unique_key="k", state=final)
    make_job(unique_key="k", state=state)


def test_an_attempt_number_is_taken_once_a_job() -> None:
    job = make_job()
    Attempt.objects.create(job=job, number=1, outcome="failed", finished_at=NOW)
    Attempt.objects.create(job=make_job(), number=1, outcome="failed", finished_at=NOW)
    with pytest.raises(IntegrityError), transaction.atomic():
        Attempt.objects.create(job=job, number=1, outcome="failed", finished_at=NOW)


@pytest.mark.parametrize("outcome", ["", "completed", "FAILED"])
def test_an_attempt_has_an_outcome_of_the_glossary(outcome: str) -> None:
    job = make_job()
    with pytest.raises(IntegrityError), transaction.atomic():
        Attempt.objects.create(job=job, number=1, outcome=outcome, finished_at=NOW)


def test_a_place_in_an_output_is_taken_once() -> None:
    job = make_job()
    place = {"job": job, "attempt": 1, "stream": 1, "sequence": 0, "offset": 0}
    Output.objects.create(data=b"a", **place)
    with pytest.raises(IntegrityError), transaction.atomic():
        Output.objects.create(data=b"b", **place)


def test_a_worker_with_jobs_cannot_be_deleted() -> None:
    job = make_job(state=S.PROCESSING)
    assert job.worker is not None
    with pytest.raises(ProtectedError):
        job.worker.delete()


def test_a_queue_row_is_made_once_and_kept() -> None:
    make_queues("a", "b")
    Queue.objects.filter(name="a").update(note="kept")
    make_queues("a", "c")
    found = Queue.objects.order_by("name").values_list("name", "note")
    assert list(found) == [("a", "kept"), ("b", ""), ("c", "")]


@pytest.mark.parametrize(("attempts", "shown"), [(0, "0/3"), (2, "2/3"), (4, "3/3")])
def test_retries_are_shown_up_to_their_number(attempts: int, shown: str) -> None:
    assert new_job(attempts=attempts, max_retries=3).retries == shown


def test_a_title_of_an_argv_could_be_typed() -> None:
    assert new_job(argv=["echo", "a b", "$x"]).title == "echo 'a b' '$x'"


def test_a_jobs_repr_hides_what_it_runs() -> None:
    assert repr(new_job(key="a", command="hunter2", env={"A": "hunter2"})) == "<Job a pending>"


def test_only_live_workers_are_live() -> None:
    live = make_worker()
    make_worker(stopped_at=NOW)
    assert [worker.id for worker in type(live).objects.live()] == [live.id]
