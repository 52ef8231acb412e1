"""Retry of all that is dead, rescue and cancel of the same jobs, at once: legal steps, each told once."""

from collections import Counter
from collections.abc import Callable
from threading import Event as Flag

import pytest

from jobs import conf, dialect, operations
from jobs.exceptions import WrongState
from jobs.models import Attempt, Event, Job, Worker
from jobs.operations import Actor
from jobs.states import WAITING, JobState
from jobs.work import Work
from jobs.worker import maintenance
from tests.integration.builders import another_session, make_jobs, make_worker
from tests.integration.test_concurrency import at_once, claim_in_a_turn
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

ANN = Actor("ann", "cli")
JOBS, CANCELS, CLAIMERS, ROUNDS = 40, 20, 2, 40
OUR_STATES = {JobState.PENDING, JobState.DEAD, JobState.CANCELLED}


class Told:
    """What each call said that it did."""

    def __init__(self) -> None:
        self.over = 0
        """Of those who claim and die, how many have done so for the last time."""

        self.claimed: list[Work] = []
        self.retried: list[int] = []
        self.cancelled: list[str] = []
        self.asked: list[str] = []


def claim_and_die(told: Told) -> None:
    """Workers that die with what they have claimed, one after the other; whoever sees that rescues."""
    try:
        for round in range(5 * ROUNDS):
            if round >= ROUNDS and sum(told.retried) >= JOBS:
                break
            # With its row, or somebody closes it before there is a job to take.
            with dialect.turn():
                works = claim_in_a_turn(make_worker(), 8)
            told.claimed += works
            rescue_all()
    finally:
        told.over += 1


def rescue_all() -> None:
    for worker in list(Worker.objects.live()):
        maintenance.rescue(worker.id, last_heard=None, why="gone")


def retry_all(told: Told) -> None:
    while told.over < CLAIMERS:
        if Job.objects.dead().exists():
            told.retried.append(operations.retry_many(Job.objects.dead(), ANN).changed)


def cancel_some(told: Told, keys: list[str]) -> None:
    for key in keys:
        rescue_all()
        told.retried.append(operations.retry_many(Job.objects.dead(), ANN).changed)
        try:
            job = operations.cancel(operations.find(key), ANN)
        except WrongState:
            continue
        (told.cancelled if job.state == JobState.CANCELLED else told.asked).append(key)


def test_retry_of_all_rescue_and_cancel_at_once_leave_each_job_in_one_series() -> None:
    jobs = make_jobs(JOBS)
    told, keys = Told(), [job.key for job in jobs[:CANCELS]]
    steps: list[Callable[[], None]] = [
        *[lambda: claim_and_die(told)] * CLAIMERS,
        *[lambda: retry_all(told)] * 2,
        lambda: cancel_some(told, keys),
    ]
    at_once(*steps)
    rescue_all()
    found = dict(Job.objects.values_list("key", "state"))
    assert set(found.values()) <= OUR_STATES
    assert not Job.objects.exclude(lease=None, worker=None).exists()
    assert_attempts_are_those_of_the_claims(told)
    assert_each_death_was_retried_once(told)
    assert_each_step_was_told_once(told)
    # What was cancelled stays so; who was asked to end a job that then was dead, may find it retried.
    cancelled = {key for key, state in found.items() if state == JobState.CANCELLED}
    assert set(told.cancelled) <= cancelled <= {*told.cancelled, *told.asked}
    assert len(told.cancelled) == len(set(told.cancelled))


def assert_attempts_are_those_of_the_claims(told: Told) -> None:
    """Numbered without a gap, and none of them twice."""
    ran = Counter((work.key, work.number) for work in told.claimed)
    assert Counter(Attempt.objects.values_list("job__key", "number")) == ran
    assert set(ran.values()) == {1}, "a job was in two series"
    runs = dict(Job.objects.values_list("key", "runs"))
    assert Counter(key for key, _ in ran) == {key: number for key, number in runs.items() if number}


def assert_each_death_was_retried_once(told: Told) -> None:
    last = conf.get().MAX_LOST - 1
    deaths = sum(work.losses == last for work in told.claimed)
    assert all(work.losses <= last for work in told.claimed)
    assert sum(told.retried) == deaths - Job.objects.dead().count()
    assert sum(told.retried) >= JOBS, "hardly anything was retried: the test shows nothing"


def assert_each_step_was_told_once(told: Told) -> None:
    events = list(Event.objects.values_list("action", "subject", "before", "after"))
    assert Counter((action, subject) for action, subject, *_ in events) == Counter(
        [("retry", f"{n} job{'' if n == 1 else 's'}") for n in told.retried if n]
        + [("cancel", f"job {key}") for key in [*told.cancelled, *told.asked]]
    )
    steps = {(before, after) for action, _, before, after in events if action == "cancel"}
    ends, asks = JobState.CANCELLED, (JobState.PROCESSING, JobState.PROCESSING)
    assert steps <= {asks, *[(state, ends) for state in WAITING]}


def test_a_unique_key_that_is_enqueued_while_all_are_retried_is_taken_once() -> None:
    if dialect.workers_share_a_host():
        return  # on SQLite who retries has the write lock, from the first look on
    dead = make_jobs(3, state=JobState.DEAD)
    for job, key in zip(dead, ("k", "l", None), strict=True):
        Job.objects.filter(id=job.id).update(unique_key=key)
    begun, done = Flag(), list[operations.Done]()

    def enqueue_between_the_look_and_the_write() -> None:
        with dialect.atomic():
            operations.enqueue({"command": "true", "unique_key": "k"}, ANN)
            begun.set()
            wait_until(somebody_waits_for_a_transaction)

    def retry() -> None:
        assert begun.wait(10)
        done.append(operations.retry_many(Job.objects.dead(), ANN))

    at_once(enqueue_between_the_look_and_the_write, retry)
    assert [(each.changed, each.left) for each in done] == [(2, {"unique_key taken": 1})]
    assert list(Job.objects.dead()) == [dead[0]]
    assert Event.objects.filter(action="retry").count() == 1


def somebody_waits_for_a_transaction() -> bool:
    with another_session() as other:
        asked = "SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
        return other.execute(asked).fetchone() is not None
