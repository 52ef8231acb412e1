import logging
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs import dialect, ledger
from jobs.models import Attempt, Job, Output, Stream, Worker
from jobs.outcome import Captured, Kind, Obstacle
from jobs.states import TIMED, JobState
from tests.integration.builders import (
    NOW,
    claim,
    claim_one,
    make_job,
    make_jobs,
    make_worker,
    report,
    reported,
    seconds,
)

pytestmark = pytest.mark.django_db

TASK = {"task": "tests.task_functions.add", "args": {"args": [1, 2], "kwargs": {}}}
HOSTILE = ["\0", "a\0b", "\ud800", "\x1b]52;c;x\x07", "\u202e", "x" * 100_000, "é" * 5000]


def rows() -> list[dict[str, Any]]:
    return list(Job.objects.order_by("id").values())


@pytest.mark.parametrize(
    ("kind", "fields", "state"),
    [
        (Kind.SUCCEEDED, {}, JobState.COMPLETED),
        (Kind.FAILED, {}, JobState.FAILED),
        (Kind.FAILED, {"attempts": 3}, JobState.DEAD),
        (Kind.TIMED_OUT, {}, JobState.FAILED),
        (Kind.NOT_STARTED, {"max_retries": 0}, JobState.DEAD),
        (Kind.CANCELLED, {}, JobState.CANCELLED),
        (Kind.INTERRUPTED, {}, JobState.PENDING),
        (Kind.LOST, {}, JobState.PENDING),
        (Kind.LOST, {"losses": 2}, JobState.DEAD),
    ],
)
def test_a_report_moves_its_job_where_the_transition_says(
    kind: Kind, fields: dict[str, Any], state: JobState
) -> None:
    worker, job = make_worker(), make_job(**fields)
    report(worker, claim_one(worker), kind)
    job.refresh_from_db()
    assert job.state == state


@pytest.mark.parametrize("kind", Kind)
def test_a_reported_job_is_in_nobodys_hands(kind: Kind) -> None:
    worker, job = make_worker(), make_job()
    report(worker, claim_one(worker), kind)
    job.refresh_from_db()
    assert (job.lease, job.worker_id) == (None, None)


@pytest.mark.parametrize(
    "outcome", [{"kind": Kind.FAILED}, {"kind": Kind.NOT_STARTED, "obstacle": Obstacle.SHORT}]
)
def test_what_fails_before_its_worker_has_heard_of_a_cancellation_waits_for_no_retry(
    outcome: dict[str, Any],
) -> None:
    worker, job, other = make_worker(), make_job(), make_job()
    works = claim(worker)
    Job.objects.filter(id=job.id).update(cancel_requested_at=NOW)
    ledger.report([reported(w, **outcome) for w in works], worker_id=worker.id, now=NOW)
    job.refresh_from_db()
    other.refresh_from_db()
    assert (job.state, job.finished_at) == (JobState.CANCELLED, NOW)
    assert other.state in TIMED


def test_a_report_says_which_leases_it_wrote() -> None:
    worker = make_worker()
    make_jobs(3)
    works = claim(worker)
    assert report(worker, works) == {work.lease for work in works}


def test_a_failure_is_scheduled_for_its_retry_and_says_why() -> None:
    worker, job = make_worker(), make_job(attempts=1)
    report(worker, claim_one(worker), Kind.FAILED, error="exit code 3")
    job.refresh_from_db()
    assert (job.attempts, job.due_at, job.last_error) == (2, NOW + seconds(4), "exit code 3")


def test_an_interrupted_job_keeps_its_place_in_line() -> None:
    worker, job = make_worker(), make_job(due_at=NOW - seconds(99))
    report(worker, claim_one(worker), Kind.INTERRUPTED)
    job.refresh_from_db()
    assert job.due_at == NOW - seconds(99)


def test_an_attempt_row_holds_the_evidence() -> None:
    worker, job = make_worker(), make_job(runs=4)
    report(
        worker, claim_one(worker), Kind.FAILED, error="no", exit_code=3, cpu_seconds=0.5,
        peak_memory_bytes=2**40, stdout=Captured(b"ab", b"", 2), stderr=Captured(b"a", b"z", 2**40),
    )  # fmt: skip
    attempt = Attempt.objects.get(job=job)
    assert (attempt.number, attempt.outcome, attempt.worker_id) == (5, "failed", worker.id)
    assert (attempt.exit_code, attempt.signal, attempt.error) == (3, None, "no")
    assert (attempt.cpu_seconds, attempt.peak_memory_bytes) == (0.5, 2**40)
    assert (attempt.stdout_bytes, attempt.stderr_bytes) == (2, 2**40)
    assert (attempt.started_at, attempt.finished_at) == (NOW - seconds(2), NOW - seconds(1))
    assert attempt.seconds == 1


def test_attempt_numbers_go_on_over_the_jobs_life() -> None:
    worker, job = make_worker(), make_job()
    for kind in (Kind.LOST, Kind.INTERRUPTED, Kind.SUCCEEDED):
        report(worker, claim_one(worker), kind)
    assert list(Attempt.objects.order_by("number").values_list("number", flat=True)) == [1, 2, 3]
    job.refresh_from_db()
    assert job.runs == 3


def test_output_is_stored_as_the_bytes_that_came() -> None:
    worker = make_worker()
    make_job()
    data = bytes(range(256))
    report(worker, claim_one(worker), stdout=Captured(data, b"", 256))
    chunk = Output.objects.get()
    assert (bytes(chunk.data), chunk.stream, chunk.offset) == (data, Stream.STDOUT, 0)


def test_a_gap_in_the_output_shows_in_the_tails_offset() -> None:
    worker = make_worker()
    make_job()
    report(worker, claim_one(worker), stderr=Captured(b"head", b"tail", 1000))
    chunks = Output.objects.order_by("sequence").values_list("stream", "offset", "data")
    assert [(s, o, bytes(d)) for s, o, d in chunks] == [(2, 0, b"head"), (2, 996, b"tail")]


def test_both_streams_are_kept_apart() -> None:
    worker = make_worker()
    make_job()
    report(worker, claim_one(worker), stdout=Captured(b"o", b"", 1), stderr=Captured(b"e", b"", 1))
    found = Output.objects.order_by("stream").values_list("stream", "data")
    assert [(stream, bytes(data)) for stream, data in found] == [(1, b"o"), (2, b"e")]


def test_silence_is_stored_as_no_chunk() -> None:
    worker = make_worker()
    make_job()
    report(worker, claim_one(worker))
    assert not Output.objects.exists()


def test_a_late_report_is_dropped() -> None:
    worker, job = make_worker(), make_job()
    late = claim_one(worker)
    ledger.release([late], now=NOW)
    claim_one(make_worker())
    before = rows()
    assert report(worker, late, stdout=Captured(b"x", b"", 1)) == set()
    assert rows() == before and job.key == late.key


def test_a_late_report_leaves_no_attempt_and_no_output() -> None:
    worker = make_worker()
    make_job()
    late = claim_one(worker)
    ledger.release([late], now=NOW)
    report(worker, late, stdout=Captured(b"x", b"", 1))
    assert not Attempt.objects.exists() and not Output.objects.exists()


def test_a_late_report_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    worker = make_worker()
    make_job(key="nightly")
    late = claim_one(worker)
    ledger.release([late], now=NOW)
    logger = logging.getLogger("jobs")
    logger.propagate, before = True, logger.propagate
    with caplog.at_level(logging.WARNING):
        report(worker, late)
    logger.propagate = before
    assert "nightly" in caplog.text


def test_a_lease_reported_twice_is_written_once() -> None:
    worker = make_worker()
    make_job()
    work = claim_one(worker)
    report(worker, work, Kind.FAILED)
    before = rows()
    assert report(worker, work, Kind.SUCCEEDED) == set()
    assert rows() == before and Attempt.objects.count() == 1


def test_a_lease_reported_twice_in_one_batch_is_written_once() -> None:
    worker, job = make_worker(), make_job()
    work = claim_one(worker)
    both = [reported(work, Kind.SUCCEEDED), reported(work, Kind.FAILED)]
    assert ledger.report(both, worker_id=worker.id, now=NOW) == {work.lease}
    job.refresh_from_db()
    assert (job.state, Attempt.objects.get().outcome) == (JobState.COMPLETED, "succeeded")


@pytest.mark.parametrize("late_first", [True, False])
def test_a_late_lease_beside_the_true_one_in_a_batch_changes_nothing(late_first: bool) -> None:
    worker, job = make_worker(), make_job()
    late = claim_one(worker)
    ledger.release([late], now=NOW)
    true = claim_one(worker)
    both = [reported(late, Kind.FAILED), reported(true, Kind.SUCCEEDED)]
    written = ledger.report(both if late_first else both[::-1], worker_id=worker.id, now=NOW)
    job.refresh_from_db()
    assert (written, job.state) == ({true.lease}, JobState.COMPLETED)
    assert Attempt.objects.get().outcome == "succeeded"


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.DEAD, JobState.CANCELLED])
def test_a_final_job_is_left_as_it_is(state: JobState) -> None:
    worker, job = make_worker(), make_job()
    work = claim_one(worker)
    Job.objects.update(state=state, lease=None, worker=None, finished_at=NOW)
    assert report(worker, work, Kind.FAILED) == set()
    job.refresh_from_db()
    assert job.state == state


def test_a_report_of_a_deleted_job_is_dropped() -> None:
    worker, job = make_worker(), make_job()
    work = claim_one(worker)
    job.delete()
    assert report(worker, work, stdout=Captured(b"x", b"", 1)) == set()


def test_a_late_report_does_not_hold_up_the_others() -> None:
    worker = make_worker()
    make_jobs(3)
    first, second, third = claim(worker)
    ledger.release([second], now=NOW)
    assert report(worker, [third, second, first]) == {first.lease, third.lease}


@pytest.mark.parametrize("error", HOSTILE, ids=lambda text: ascii(text)[:12])
def test_no_error_text_is_too_strange_to_store(error: str) -> None:
    worker, job = make_worker(), make_job()
    report(worker, claim_one(worker), Kind.FAILED, error=error)
    job.refresh_from_db()
    assert len(job.last_error) == len(error)


def test_a_report_with_a_forged_lease_changes_nothing() -> None:
    worker, job = make_worker(), make_job()
    work = claim_one(worker)._replace(lease=uuid4().hex)
    assert report(worker, work) == set()
    job.refresh_from_db()
    assert job.state == JobState.PROCESSING


def test_a_job_that_a_short_machine_refused_has_no_attempt() -> None:
    worker, job = make_worker(), make_job()
    report(worker, claim_one(worker), Kind.NOT_STARTED, obstacle=Obstacle.SHORT)
    job.refresh_from_db()
    assert (job.state, job.runs, job.attempts) == (JobState.SCHEDULED, 0, 0)
    assert not Attempt.objects.exists()


def test_a_job_that_a_short_machine_refused_waits_a_moment() -> None:
    worker, job = make_worker(), make_job()
    report(worker, claim_one(worker), Kind.NOT_STARTED, obstacle=Obstacle.SHORT)
    job.refresh_from_db()
    assert job.due_at == NOW + seconds(1)


@pytest.mark.parametrize(
    "result",
    [0, "", False, [], {}, 3.5, "é\u2028", [1, {"a": [None, True]}], 10**40],
    ids=lambda value: ascii(value)[:20],
)
def test_what_a_task_returned_is_stored_as_it_was(result: Any) -> None:
    worker, job = make_worker(), make_job(**TASK)
    report(worker, claim_one(worker), result=result)
    job.refresh_from_db()
    assert (job.state, job.result) == (JobState.COMPLETED, result)
    assert type(job.result) is type(result)


def test_results_of_one_batch_are_not_mixed_up() -> None:
    worker = make_worker()
    make_jobs(3, **TASK)
    works = claim(worker)
    results = {w.key: result for w, result in zip(works, ["a", None, {"c": 1}], strict=True)}
    reports = [reported(w, result=results[w.key]) for w in works]
    ledger.report(reports, worker_id=worker.id, now=NOW)
    assert {job.key: job.result for job in Job.objects.all()} == results


def test_only_a_completed_task_has_a_result() -> None:
    worker, job = make_worker(), make_job(**TASK)
    report(worker, claim_one(worker), Kind.FAILED, result="half")
    job.refresh_from_db()
    assert job.result is None


def test_a_late_report_leaves_no_result() -> None:
    worker, job = make_worker(), make_job(**TASK)
    late = claim_one(worker)
    ledger.release([late], now=NOW)
    report(worker, late, result="late")
    job.refresh_from_db()
    assert job.result is None


def test_a_traceback_is_stored_with_its_attempt() -> None:
    worker, job = make_worker(), make_job(**TASK)
    report(worker, claim_one(worker), Kind.FAILED, error="ValueError: x", traceback="Traceback …")
    attempt = Attempt.objects.get(job=job)
    assert (attempt.error, attempt.traceback) == ("ValueError: x", "Traceback …")


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:12])
def test_no_traceback_is_too_strange_to_store(text: str) -> None:
    worker, job = make_worker(), make_job(**TASK)
    report(worker, claim_one(worker), Kind.FAILED, traceback=text)
    assert len(Attempt.objects.get(job=job).traceback) == len(text)


def refuse(worker: Worker, job: Job, now: datetime) -> Job:
    """Its worker does not know the task, at that time."""
    Job.objects.filter(id=job.id).update(state=JobState.PENDING)
    made = reported(claim_one(worker), Kind.NOT_STARTED, obstacle=Obstacle.UNKNOWN_TASK, error="?")
    ledger.report([made], worker_id=worker.id, now=now)
    job.refresh_from_db()
    return job


def test_a_task_nobody_knows_is_put_off_without_an_attempt_until_a_day_is_over() -> None:
    worker, job = make_worker(), make_job(**TASK)
    for hours in (0, 1, 23):
        now = NOW + seconds(3600 * hours)
        refuse(worker, job, now)
        assert (job.state, job.put_off_since) == (JobState.SCHEDULED, NOW)
        assert job.due_at == now + seconds(30)
    refuse(worker, job, NOW + seconds(86_400))
    assert (job.state, job.put_off_since, job.last_error) == (JobState.DEAD, None, "?")
    assert (job.runs, job.attempts, Attempt.objects.count()) == (0, 0, 0)


def test_a_task_that_ran_has_not_been_put_off() -> None:
    worker, job = make_worker(), make_job(**TASK)
    refuse(worker, job, NOW)
    Job.objects.update(state=JobState.PENDING)
    report(worker, claim_one(worker), Kind.FAILED)
    job.refresh_from_db()
    assert job.put_off_since is None


def test_a_release_keeps_since_when_a_task_is_put_off() -> None:
    worker, job = make_worker(), make_job(**TASK)
    refuse(worker, job, NOW)
    Job.objects.update(state=JobState.PENDING)
    ledger.release([claim_one(worker)], now=NOW)
    job.refresh_from_db()
    assert (job.state, job.put_off_since) == (JobState.PENDING, NOW)


def test_no_reports_no_harm() -> None:
    assert ledger.report([], worker_id=None, now=NOW) == set()


# Release


def test_a_released_job_is_pending_at_its_old_place_at_no_cost() -> None:
    job = make_job(due_at=NOW - seconds(50), attempts=1, losses=1, interruptions=1, runs=3)
    work = claim_one(make_worker())
    assert ledger.release([work], now=NOW) == 1
    job.refresh_from_db()
    assert (job.state, job.due_at, job.lease) == (JobState.PENDING, NOW - seconds(50), None)
    assert (job.attempts, job.losses, job.interruptions, job.runs) == (1, 1, 1, 3)


def test_a_released_job_still_tells_why_its_last_run_failed() -> None:
    worker, job = make_worker(), make_job()
    report(worker, claim_one(worker), Kind.FAILED, error="disk on fire")
    Job.objects.update(state=JobState.PENDING)
    ledger.release([claim_one(worker)], now=NOW)
    job.refresh_from_db()
    assert (job.state, job.last_error, job.attempts) == (JobState.PENDING, "disk on fire", 1)


def test_a_released_job_has_not_started() -> None:
    job = make_job()
    ledger.release([claim_one(make_worker())], now=NOW)
    job.refresh_from_db()
    assert (job.started_at, Attempt.objects.count()) == (None, 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("back", ["released", "lost"])
def test_idle_workers_hear_of_a_job_that_another_gives_back(back: str) -> None:
    """It may have no room for it itself: without a hint they would look a second later."""
    if not dialect.can_notify():
        return  # any commit to the file is heard
    listener = dialect.listener()
    try:
        make_jobs(2)
        worker = make_worker()
        report(worker, claim_one(worker))
        assert list(listener.notifies(timeout=0.1)) == []
        work = claim_one(worker)
        if back == "released":
            ledger.release([work], now=NOW)
        else:
            report(worker, work, Kind.LOST)
        assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1
    finally:
        listener.close()


def test_a_release_by_a_late_worker_is_not_counted() -> None:
    make_job()
    work = claim_one(make_worker())
    ledger.release([work], now=NOW)
    other = claim_one(make_worker())
    assert ledger.release([work], now=NOW) == 0
    assert other.lease.startswith(Job.objects.processing().get().lease.hex)


def test_a_released_job_whose_cancellation_was_asked_for_ends() -> None:
    job = make_job()
    work = claim_one(make_worker())._replace(cancel_requested=True)
    ledger.release([work], now=NOW)
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED


def test_claims_a_worker_never_heard_of_are_released_and_no_others() -> None:
    worker, other = make_worker(), make_worker()
    make_jobs(3)
    known, unknown = claim(worker, free=2)
    foreign = claim_one(other)
    assert ledger.release_unknown(worker.id, known={known.lease}, now=NOW) == 1
    states = {job.key: job.state for job in Job.objects.all()}
    assert states == {known.key: "processing", unknown.key: "pending", foreign.key: "processing"}


def test_a_heartbeat_reads_nothing_of_the_jobs_it_knows_but_their_leases() -> None:
    worker = make_worker()
    make_job(command="a secret that is long")
    work = claim_one(worker)
    with CaptureQueriesContext(connection) as queries:
        assert ledger.release_unknown(worker.id, known={work.lease}, now=NOW) == 0
    assert len(queries) == 1 and '"command"' not in queries[0]["sql"]


# Marking and looking


def test_a_job_claimed_ahead_is_recorded_as_started() -> None:
    job = make_job()
    (work,) = claim(make_worker(), free=0, ahead=1)
    ledger.mark_started([(work, NOW - seconds(3))], NOW)
    job.refresh_from_db()
    assert job.started_at == NOW - seconds(3)


def test_a_late_start_is_not_recorded() -> None:
    job = make_job()
    (work,) = claim(make_worker(), free=0, ahead=1)
    ledger.release([work], now=NOW)
    claim(make_worker(), free=0, ahead=1)
    ledger.mark_started([(work, NOW)], NOW)
    job.refresh_from_db()
    assert job.started_at is None


def test_a_worker_finds_the_cancel_requests_for_its_own_jobs() -> None:
    worker, other = make_worker(), make_worker()
    make_jobs(3)
    wanted, unwanted = claim(worker, free=2)
    foreign = claim_one(other)
    Job.objects.filter(key__in=[unwanted.key, foreign.key]).update(cancel_requested_at=NOW)
    assert ledger.cancel_requests(worker.id) == {unwanted.lease}
    assert wanted.lease not in ledger.cancel_requests(other.id)


def test_a_distrusted_job_is_not_prefetched_again() -> None:
    make_job()
    worker = make_worker()
    work = claim_one(worker)
    ledger.distrust([work])
    ledger.release([work], now=NOW)
    assert claim(worker, free=0, ahead=1) == []
