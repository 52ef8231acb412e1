"""What is kept no longer goes: by age and by number, a bounded bite, and never what is not final."""

import pytest

from jobs import conf, ledger
from jobs.models import Attempt, Job, Output
from jobs.models.job import JobQuerySet
from jobs.states import FINAL, JobState
from tests.integration.builders import NOW, claim_one, make_job, make_worker, report, seconds

pytestmark = pytest.mark.django_db


def keep(state: JobState, *, after: float = 0, above: int = 0) -> conf.Policy:
    return conf.policy({f"prune-{state}-after": after, f"prune-{state}-above": above})


def left() -> list[str]:
    return list(Job.objects.order_by("key").values_list("key", flat=True))


@pytest.mark.parametrize("state", FINAL)
def test_final_jobs_go_once_they_are_older_than_is_kept(state: JobState) -> None:
    make_job(key="old", state=state, finished_at=NOW - seconds(61))
    make_job(key="young", state=state, finished_at=NOW - seconds(59))
    for other in set(JobState) - {state, JobState.BLOCKED}:
        old = {"finished_at": NOW - seconds(999)} if other in FINAL else {}
        make_job(key=f"{other}", state=other, created_at=NOW - seconds(999), **old)
    assert ledger.prune(keep(state, after=60), NOW) == 1
    assert "old" not in left()
    assert "young" in left()
    assert len(left()) == len(JobState) - 1


def test_of_a_state_the_newest_stay_and_more_than_is_kept_goes() -> None:
    for age in range(5):
        make_job(key=f"{age}", state=JobState.COMPLETED, finished_at=NOW - seconds(age))
    assert ledger.prune(keep(JobState.COMPLETED, above=3), NOW) == 2
    assert left() == ["0", "1", "2"]


def test_without_a_limit_everything_is_kept() -> None:
    make_job(key="old", state=JobState.COMPLETED, finished_at=NOW - seconds(10**9))
    assert ledger.prune(conf.policy({}), NOW) == 0
    assert left() == ["old"]


def test_one_bite_is_bounded_and_takes_the_oldest() -> None:
    for age in range(5):
        make_job(key=f"{age}", state=JobState.DEAD, finished_at=NOW - seconds(100 + age))
    assert ledger.prune(keep(JobState.DEAD, after=1), NOW, limit=2) == 2
    assert left() == ["0", "1", "2"]


def test_a_job_goes_with_its_attempts_and_its_output() -> None:
    make_job(key="gone")
    worker = make_worker()
    report(worker, claim_one(worker))
    assert Attempt.objects.count() == 1
    assert ledger.prune(keep(JobState.COMPLETED, after=1), NOW + seconds(60)) == 1
    assert (Job.objects.count(), Attempt.objects.count(), Output.objects.count()) == (0, 0, 0)


def test_a_job_that_was_retried_since_it_was_read_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = make_job(key="gone", state=JobState.DEAD, finished_at=NOW - seconds(99))
    retried = make_job(key="retried", state=JobState.PENDING)
    read = [gone.id, retried.id]
    monkeypatch.setattr(JobQuerySet, "older", lambda self, state, than, limit: read)
    assert ledger.prune(keep(JobState.DEAD, after=1), NOW) == 1
    assert left() == ["retried"]
