import pytest

from jobs import ledger
from jobs.models import Attempt, Job, Queue
from jobs.states import JobState
from tests.integration.builders import (
    NOW,
    POLICY,
    claim,
    claim_one,
    keys,
    make_job,
    make_jobs,
    make_queues,
    make_worker,
    seconds,
)

pytestmark = pytest.mark.django_db

NOT_PENDING = [state for state in JobState if state is not JobState.PENDING]


def test_claim_takes_the_highest_priority_first() -> None:
    for priority in (5, -3, 900, 6):
        make_job(key=str(priority), priority=priority)
    assert keys(claim(make_worker())) == ["900", "6", "5", "-3"]


def test_claim_takes_what_was_due_first_among_equals() -> None:
    for age in (1, 30, 7):
        make_job(key=str(age), due_at=NOW - seconds(age))
    assert keys(claim(make_worker())) == ["30", "7", "1"]


def test_claim_keeps_the_order_of_enqueueing_among_equals() -> None:
    jobs = make_jobs(5)
    assert keys(claim(make_worker())) == [job.key for job in jobs]


def test_claim_merges_queues_by_priority_and_due_time() -> None:
    for key, queue, priority, age in (
        ("third", "a", 5, 1),
        ("first", "b", 6, 0),
        ("second", "b", 5, 9),
        ("fourth", "b", 5, 0),
    ):
        make_job(key=key, queue=queue, priority=priority, due_at=NOW - seconds(age))
    found = claim(make_worker(), queues=["a", "b"])
    assert keys(found) == ["first", "second", "third", "fourth"]


@pytest.mark.parametrize(("free", "ahead", "taken"), [(0, 0, 0), (1, 0, 1), (2, 3, 5), (9, 9, 6)])
def test_claim_takes_no_more_than_it_was_allowed(free: int, ahead: int, taken: int) -> None:
    make_jobs(6)
    assert len(claim(make_worker(), free=free, ahead=ahead)) == taken


def test_claim_takes_no_more_jobs_that_one_loss_would_end_than_it_was_allowed() -> None:
    for key, losses in (("a", 2), ("b", 2), ("c", 1), ("d", 0)):
        make_job(key=key, losses=losses)
    found = claim(make_worker(), wary=1)
    assert keys(found) == ["a", "c", "d"]
    assert [work.wary for work in found] == [True, False, False]


def test_jobs_that_one_loss_would_end_do_not_stand_in_the_way() -> None:
    for key, losses in (("a", 2), ("b", 2), ("c", 0)):
        make_job(key=key, losses=losses)
    assert keys(claim(make_worker(), free=1, wary=0)) == ["c"]
    assert ledger.is_claimable(["default"])
    assert not ledger.is_claimable(["default"], wary=False)


def test_claim_over_many_queues_takes_no_more_than_it_was_allowed() -> None:
    for queue in "abc":
        make_jobs(4, queue=queue)
    claim(make_worker(), free=3, ahead=2, queues=list("abc"))
    assert Job.objects.processing().count() == 5


def test_the_best_jobs_are_for_the_free_slots_and_the_rest_ahead() -> None:
    make_jobs(5)
    found = claim(make_worker(), free=2, ahead=2)
    assert [work.ahead for work in found] == [False, False, True, True]


def test_a_job_claimed_for_a_free_slot_counts_as_started() -> None:
    make_job()
    claim_one(make_worker())
    assert Job.objects.get().started_at == NOW


def test_a_job_claimed_ahead_does_not_count_as_started() -> None:
    make_job()
    claim(make_worker(), free=0, ahead=1)
    assert Job.objects.get().started_at is None


def test_a_claimed_job_is_processing_under_the_workers_lease() -> None:
    worker, job = make_worker(), make_job()
    work = claim_one(worker)
    job.refresh_from_db()
    assert (job.state, job.worker_id) == (JobState.PROCESSING, worker.id)
    assert job.lease is not None and job.lease.hex == work.lease


def test_each_claim_has_a_fresh_lease() -> None:
    make_job()
    worker = make_worker()
    first = claim_one(worker)
    ledger.release([first], now=NOW)
    assert claim_one(worker).lease != first.lease


def test_no_two_jobs_share_a_lease() -> None:
    make_jobs(5)
    assert len({work.lease for work in claim(make_worker())}) == 5


@pytest.mark.parametrize("state", NOT_PENDING)
def test_only_pending_jobs_are_claimed(state: JobState) -> None:
    make_job(state=state)
    assert claim(make_worker()) == []


def test_a_claimed_job_is_not_claimed_again() -> None:
    make_jobs(3)
    claim(make_worker())
    assert claim(make_worker()) == []


def test_only_the_named_queues_are_claimed_from() -> None:
    make_job(queue="a")
    make_job(key="mine", queue="b")
    make_job(queue="b2")
    assert keys(claim(make_worker(), queues=["b"])) == ["mine"]


def test_no_queues_no_claim() -> None:
    make_job()
    assert claim(make_worker(), queues=[]) == []


def test_a_job_not_to_be_prefetched_is_never_claimed_ahead() -> None:
    make_job(key="a")
    make_job(key="suspect", prefetchable=False)
    make_job(key="c")
    assert keys(claim(make_worker(), free=1, ahead=5)) == ["a", "c"]


def test_a_job_not_to_be_prefetched_is_claimed_for_a_free_slot() -> None:
    make_job(key="suspect", prefetchable=False)
    assert keys(claim(make_worker(), free=1)) == ["suspect"]


def test_a_job_whose_cancellation_was_asked_for_is_not_run_again() -> None:
    make_job(key="unwanted", cancel_requested_at=NOW)
    make_job(key="wanted")
    assert keys(claim(make_worker())) == ["wanted"]


def test_a_job_whose_cancellation_was_asked_for_ends_at_the_claim() -> None:
    job = make_job(cancel_requested_at=NOW)
    claim(make_worker())
    job.refresh_from_db()
    assert (job.state, job.finished_at, job.lease) == (JobState.CANCELLED, NOW, None)


def test_a_job_that_ends_at_the_claim_has_no_attempt() -> None:
    job = make_job(cancel_requested_at=NOW)
    claim(make_worker())
    job.refresh_from_db()
    assert (job.runs, Attempt.objects.count()) == (0, 0)


def test_a_work_carries_what_its_job_asked_for() -> None:
    make_job(
        key="full", argv=["ls", "-l"], cwd="/tmp", env={"A": "1"}, timeout=7.5, backoff_base=3.0,
        max_retries=9, attempts=2, losses=1, interruptions=4, runs=6,
    )  # fmt: skip
    work = claim_one(make_worker())
    assert (work.key, work.command, work.argv, work.cwd, work.env) == (
        "full", None, ["ls", "-l"], "/tmp", {"A": "1"},
    )  # fmt: skip
    assert (work.timeout, work.backoff_base, work.max_retries) == (7.5, 3.0, 9)
    assert (work.attempts, work.losses, work.interruptions, work.number) == (2, 1, 4, 7)


def test_a_work_takes_the_policys_defaults_where_its_job_has_none() -> None:
    make_job(timeout=None, backoff_base=None)
    work = claim_one(make_worker())
    assert (work.timeout, work.backoff_base) == (POLICY.job_timeout, POLICY.backoff_base)


def test_a_works_repr_hides_what_it_runs() -> None:
    make_job(command="echo hunter2", env={"A": "hunter2"})
    assert "hunter2" not in repr(claim_one(make_worker()))


@pytest.mark.parametrize(
    ("fields", "active"),
    [
        ({}, True),
        ({"paused_at": NOW - seconds(1)}, False),
        ({"paused_at": NOW - seconds(9), "paused_until": NOW + seconds(1)}, False),
        ({"paused_at": NOW - seconds(9), "paused_until": NOW}, True),
        ({"paused_at": NOW - seconds(9), "paused_until": NOW - seconds(1)}, True),
    ],
)
def test_a_paused_queue_is_not_served_until_its_pause_is_over(
    fields: dict[str, object], active: bool
) -> None:
    Queue.objects.create(name="mail", created_at=NOW, **fields)
    assert (ledger.active_queues([], NOW) == ["mail"]) is active
    assert Queue.objects.get().is_paused(NOW) is not active


def test_a_worker_of_named_queues_serves_those_that_exist() -> None:
    make_queues("a", "b", "c")
    assert ledger.active_queues(["c", "a", "zzz"], NOW) == ["a", "c"]


def test_a_worker_of_all_queues_serves_every_one() -> None:
    make_queues("b", "a")
    assert ledger.active_queues([], NOW) == ["a", "b"]


def test_a_look_finds_claimable_jobs_in_its_queues_only() -> None:
    make_job(queue="a")
    make_job(queue="b", state=JobState.SCHEDULED)
    assert ledger.is_claimable(["b", "a"]) and not ledger.is_claimable(["b"])


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.PROCESSING, JobState.FAILED])
def test_a_queue_with_work_to_come_is_not_empty(state: JobState) -> None:
    make_job(queue="a", state=state)
    assert not ledger.is_empty(["a"]) and not ledger.is_empty([]) and ledger.is_empty(["b"])


@pytest.mark.parametrize(
    "state", [JobState.COMPLETED, JobState.DEAD, JobState.CANCELLED, JobState.SCHEDULED]
)
def test_a_queue_with_nothing_to_run_soon_is_empty(state: JobState) -> None:
    make_job(state=state)
    assert ledger.is_empty([])
