"""Several workers at once, with connections and transactions of their own."""

from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from threading import Barrier, Event, Thread

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from jobs import dialect, ledger, operations
from jobs.models import Attempt, Job, Worker
from jobs.operations import Actor
from jobs.outcome import Kind
from jobs.states import JobState
from jobs.work import Work
from tests.integration.builders import (
    NOW,
    POLICY,
    make_job,
    make_jobs,
    make_worker,
    reported,
    seconds,
)

pytestmark = pytest.mark.django_db(transaction=True)

WORKERS, JOBS = 4, 300


def at_once(*steps: Callable[[], None]) -> None:
    """Run each in a thread with a connection of its own; the first error of any is raised."""
    barrier, errors = Barrier(len(steps)), []

    def run(step: Callable[[], None]) -> None:
        try:
            barrier.wait(10)
            step()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [Thread(target=run, args=[step]) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def claim_in_a_turn(worker: Worker, number: int) -> list[Work]:
    with dialect.turn() as now:
        room = ledger.Room(free=number)
        return ledger.claim(worker.id, ["default"], room, policy=POLICY, now=max(now, NOW))


@pytest.fixture
def settings_of_the_connection() -> Iterator[None]:
    """What a test changes here, threads of other tests must not find."""
    before = deepcopy(connection.settings_dict)
    yield
    connection.settings_dict.clear()
    connection.settings_dict.update(before)


def test_claimers_at_once_never_share_a_job() -> None:
    make_jobs(JOBS)
    workers = [make_worker() for _ in range(WORKERS)]
    taken: list[Work] = []

    def drain(worker: Worker) -> None:
        while works := claim_in_a_turn(worker, 7):
            taken.extend(works)

    at_once(*[lambda worker=worker: drain(worker) for worker in workers])
    assert len(taken) == len({work.job_id for work in taken}) == JOBS


@pytest.mark.usefixtures("settings_of_the_connection")
def test_claimers_at_once_meet_no_lock_error_on_a_database_without_our_options() -> None:
    make_jobs(JOBS)
    workers = [make_worker() for _ in range(WORKERS)]
    connection.settings_dict["OPTIONS"].pop("transaction_mode", None)
    taken: list[int] = []

    def drain(worker: Worker) -> None:
        while works := claim_in_a_turn(worker, 7):
            taken.extend(work.job_id for work in works)

    at_once(*[lambda worker=worker: drain(worker) for worker in workers])
    assert len(taken) == len(set(taken)) == JOBS


@pytest.mark.one_database
@pytest.mark.usefixtures("settings_of_the_connection")
@pytest.mark.parametrize("mode", [None, "DEFERRED", "IMMEDIATE"])
def test_a_transaction_of_the_site_begins_as_its_settings_say_after_one_of_ours(
    mode: str | None,
) -> None:
    """Else one that only reads would take the write lock, and wait for whoever holds it."""
    if connection.vendor == "postgresql":
        return
    connection.close()
    connection.settings_dict["OPTIONS"]["transaction_mode"] = mode
    operations.enqueue({"command": "true", "delay": 60})
    with pytest.raises(ZeroDivisionError), dialect.atomic():
        raise ZeroDivisionError
    with dialect.one_view():
        pass
    with CaptureQueriesContext(connection) as ran, transaction.atomic():
        Job.objects.count()
    assert ran.captured_queries[0]["sql"] == (f"BEGIN {mode}" if mode else "BEGIN")
    connection.close()


def test_each_job_taken_at_once_is_held_by_the_worker_that_took_it() -> None:
    make_jobs(JOBS)
    workers = [make_worker() for _ in range(WORKERS)]
    taken: dict[str, int] = {}

    def drain(worker: Worker) -> None:
        while works := claim_in_a_turn(worker, 5):
            taken.update({work.lease: worker.id for work in works})

    at_once(*[lambda worker=worker: drain(worker) for worker in workers])
    held = Job.objects.processing().values_list("lease", "id", "worker_id")
    assert {f"{lease.hex}-{id}": worker_id for lease, id, worker_id in held} == taken


def test_whole_lives_at_once_run_every_job_once() -> None:
    make_jobs(JOBS)
    workers = [make_worker() for _ in range(WORKERS)]

    def live(worker: Worker) -> None:
        while works := claim_in_a_turn(worker, 9):
            with dialect.turn():
                reports = [reported(work, Kind.SUCCEEDED) for work in works]
                ledger.report(reports, worker_id=worker.id, now=NOW)

    at_once(*[lambda worker=worker: live(worker) for worker in workers])
    assert Counter(Job.objects.values_list("state", flat=True)) == {JobState.COMPLETED: JOBS}
    assert Attempt.objects.count() == JOBS


def test_promoters_at_once_promote_each_job_once() -> None:
    make_jobs(JOBS, state=JobState.FAILED)
    counts: list[int] = []

    def promote() -> None:
        for _ in range(JOBS // 20):
            with dialect.turn():
                counts.append(ledger.promote(NOW, limit=20))

    at_once(*[promote] * WORKERS)
    assert sum(counts) == JOBS
    assert Job.objects.pending().count() == JOBS


def test_rescuers_at_once_take_each_job_once() -> None:
    dead = make_worker(heartbeat_at=NOW - seconds(999))
    make_jobs(60, state=JobState.PROCESSING, worker=dead)

    def rescue() -> None:
        taken = 1
        while taken:
            with dialect.turn():
                taken = ledger.rescue(dead.id, last_heard=None, now=NOW, why="gone")

    at_once(*[rescue] * WORKERS)
    assert set(Job.objects.values_list("state", "losses", "runs")) == {(JobState.PENDING, 1, 1)}
    assert Attempt.objects.count() == 60


def test_a_report_and_a_rescue_at_once_leave_one_outcome() -> None:
    worker = make_worker()
    make_jobs(40)
    works = claim_in_a_turn(worker, 40)
    written: set[str] = set()

    def report() -> None:
        for work in works:
            with dialect.turn():
                written.update(ledger.report([reported(work)], worker_id=worker.id, now=NOW))

    def rescue() -> None:
        with dialect.turn():
            ledger.rescue(worker.id, last_heard=None, now=NOW, why="gone")

    at_once(report, rescue)
    assert Job.objects.filter(state=JobState.COMPLETED).count() == len(written)
    assert Job.objects.pending().count() == 40 - len(written)
    assert Attempt.objects.count() == 40


def test_a_claim_does_not_wait_for_a_row_that_another_holds() -> None:
    """On PostgreSQL it passes the row over; on SQLite the one writer is waited for, in bounds."""
    first, second = make_job(priority=9), make_job()
    worker, held, done = make_worker(), Event(), Event()
    found: list[str] = []

    def hold() -> None:
        with dialect.atomic():
            list(Job.objects.filter(id=first.id).select_for_update())
            held.set()
            done.wait(10)

    def take() -> None:
        held.wait(10)
        if dialect.workers_share_a_host():
            done.set()
        found.extend(work.key for work in claim_in_a_turn(worker, 1))
        done.set()

    at_once(hold, take)
    assert found == [first.key if dialect.workers_share_a_host() else second.key]


@pytest.mark.usefixtures("settings_of_the_connection")
def test_a_turn_does_not_wait_for_a_lock_for_ever() -> None:
    job, worker = make_job(), make_worker()
    (work,) = claim_in_a_turn(worker, 1)
    held, done = Event(), Event()
    errors: list[Exception] = []

    def hold() -> None:
        with dialect.atomic():
            Job.objects.filter(id=job.id).update(fingerprint="held")
            held.set()
            done.wait(20)

    def report() -> None:
        dialect.bound_waits()
        connections.close_all()
        held.wait(10)
        try:
            with dialect.turn():
                ledger.report([reported(work)], worker_id=worker.id, now=NOW)
        except OperationalError as error:
            errors.append(error)
        done.set()

    at_once(hold, report)
    assert len(errors) == 1 and dialect.is_trouble(errors[0])


if connection.vendor == "postgresql":  # where others write between the statements of a transaction

    @pytest.mark.parametrize("change", [1, 2])
    @pytest.mark.parametrize("step", ["claim", "give back", "end"])
    def test_cancelling_many_misses_no_job_that_changes_hands_meanwhile(
        step: str, change: int
    ) -> None:
        worker, rest = make_worker(), make_job(state=JobState.DEAD)
        job = make_job(max_retries=3)
        works = [] if step == "claim" else claim_in_a_turn(worker, 1)
        kind = Kind.SUCCEEDED if step == "end" else Kind.FAILED
        seen: list[str] = []

        def meanwhile() -> None:
            with dialect.turn() as now:
                if works:
                    ledger.report([reported(works[0], kind)], worker_id=worker.id, now=now)
                else:
                    ledger.claim(
                        worker.id, ["default"], ledger.Room(free=1), policy=POLICY, now=now
                    )

        def execute(run: Callable[..., object], sql: str, *rest: object) -> object:
            if sql.startswith('UPDATE "queuectl_job"'):
                seen.append(sql)
                if len(seen) == change:
                    at_once(meanwhile)
            return run(sql, *rest)

        with connection.execute_wrapper(execute):
            done = operations.cancel_many(Job.objects.all(), Actor("ann", "cli"))
        assert len(seen) == 2
        job.refresh_from_db()
        if step == "end":
            assert (job.state, done.changed) == (JobState.COMPLETED, 0)
        else:
            assert job.state == JobState.CANCELLED or job.cancel_requested_at is not None
            assert (done.changed, done.left) == (1, {rest.state: 1})
