import json
import os
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs import dialect, lockfile, operations, stats
from jobs.models import Attempt, Output, Queue, Stream
from jobs.states import JobState
from jobs.stats import Count
from tests.integration.builders import NOW, make_job, make_jobs, make_queues, make_worker, seconds
from tests.integration.test_query_plans import plan, recorded

pytestmark = pytest.mark.django_db

ORIGINAL = [
    "id", "command", "state", "attempts", "max_retries", "created_at", "updated_at", "next_retry_at",
    "error_message", "priority", "run_at", "stdout", "stderr", "execution_time", "started_at",
    "completed_at",
]  # fmt: skip


def test_a_snapshot_counts_every_state() -> None:
    for number, state in enumerate(JobState, 1):
        make_jobs(number, state=state)
    found = stats.snapshot()
    assert {state: count.number for state, count in found.states.items()} == {
        state: number for number, state in enumerate(JobState, 1)
    }
    assert found.total == Count(36)


def test_what_is_dead_or_waits_for_a_retry_is_counted_by_an_index_of_its_queue() -> None:
    """Else each of many queues would be looked for among all that are dead."""
    make_queues("a", "b")
    make_jobs(3, queue="b", state=JobState.DEAD)
    with recorded() as statements:
        found = stats.snapshot()
    assert [queue.dead for queue in found.queues if queue.name in ("a", "b")] == [
        Count(0),
        Count(3),
    ]
    counts = [s for s in statements if '"queue" = ' in s[0] and "COUNT" in s[0]]
    for state in ("failed", "dead"):
        own = [each for each in counts if f"'{state}'" in each[0] or state in (each[1] or ())]
        assert len(own) == len(found.queues)
        if not dialect.can_notify():  # PostgreSQL goes by how many there are
            assert all(f"queuectl_job_{state}_queue" in plan(each) for each in own)


@pytest.mark.parametrize(
    ("number", "count", "shown"),
    [(4, Count(4), "4"), (5, Count(5), "5"), (6, Count(5, True), "5+")],
)
def test_a_count_is_exact_up_to_its_cap(number: int, count: Count, shown: str) -> None:
    make_jobs(number)
    found = stats.snapshot(cap=5).states[JobState.PENDING]
    assert (found, str(found)) == (count, shown)


def test_a_capped_part_makes_the_total_capped() -> None:
    make_jobs(3)
    make_job(state=JobState.DEAD)
    assert str(stats.snapshot(cap=2).total) == "3+"


def test_a_snapshot_in_json_names_what_is_not_exact() -> None:
    make_jobs(3)
    found = stats.snapshot_object(stats.snapshot(cap=2))
    assert (found["pending"], found["approximate"]) == (2, ["pending"])


def test_a_queue_shows_its_oldest_pending_job_and_who_serves_it() -> None:
    now = dialect.now()
    make_queues("a", "b")
    make_job(queue="a", due_at=now - seconds(90))
    make_job(queue="a", due_at=now - seconds(30))
    make_job(queue="b", state=JobState.FAILED)
    first, second = stats.snapshot().queues
    assert (first.name, first.pending, first.failed) == ("a", Count(2), Count(0))
    assert first.oldest_pending is not None
    assert seconds(90) <= first.oldest_pending < seconds(100)
    assert (second.failed, second.oldest_pending, second.served) == (Count(1), None, False)


def test_the_oldest_pending_job_of_a_queue_may_be_of_any_priority() -> None:
    now = dialect.now()
    make_queues("a")
    for priority, age in [(9, 30), (5, 90), (5, 60), (-3, 600), (-4, 20)]:
        make_job(queue="a", priority=priority, due_at=now - seconds(age))
    make_job(queue="b", priority=1, due_at=now - seconds(900))
    make_job(queue="a", priority=1, due_at=now - seconds(900), state=JobState.FAILED)
    found = stats.snapshot().queues[0].oldest_pending
    assert found is not None and seconds(600) <= found < seconds(610)


def test_a_paused_queue_says_so() -> None:
    Queue.objects.create(name="a", created_at=NOW, paused_at=NOW)
    assert stats.snapshot().queues[0].paused


def test_a_snapshot_asks_no_more_the_more_jobs_there_are() -> None:
    make_queues("default")
    counts = []
    for _ in range(2):
        make_jobs(50)
        with CaptureQueriesContext(connection) as captured:
            stats.snapshot()
        counts.append(len(captured))
    assert counts[0] == counts[1]


# Workers that live


def test_a_worker_whose_lock_is_free_is_not_alive() -> None:
    fd, path = lockfile.acquire(f"test-{dialect.now().timestamp()}")
    try:
        make_worker(boot=lockfile.boot(), lock=str(path), heartbeat_at=dialect.now())
        assert len(stats.live_workers(dialect.now())) == 1
    finally:
        os.close(fd)
    assert stats.live_workers(dialect.now()) == []
    lockfile.remove(path)


def test_a_worker_that_stopped_is_not_alive() -> None:
    make_worker(stopped_at=NOW)
    assert stats.live_workers(dialect.now()) == []


def test_slots_are_those_of_live_workers() -> None:
    fd, path = lockfile.acquire(f"test-{dialect.now().timestamp()}")
    make_worker(boot=lockfile.boot(), lock=str(path), heartbeat_at=dialect.now(), slots=7)
    make_worker(stopped_at=NOW, slots=9)
    try:
        found = stats.snapshot()
        assert found.slots == stats.snapshot_object(found)["active_workers"] == 7
    finally:
        os.close(fd)
        lockfile.remove(path)


def test_a_worker_of_another_host_lives_by_its_heartbeat() -> None:
    now = dialect.now()
    make_worker(name="beats", boot="elsewhere", heartbeat_at=now)
    make_worker(name="silent", boot="elsewhere", heartbeat_at=now - timedelta(hours=1))
    # All workers of a SQLite file are on this host, and one of an earlier boot is dead.
    expected = [] if dialect.workers_share_a_host() else ["beats"]
    assert [worker.name for worker in stats.live_workers(now)] == expected


# Objects


@pytest.mark.parametrize("state", JobState)
def test_a_job_in_json_begins_with_the_originals_sixteen_keys(state: JobState) -> None:
    found = stats.job_object(make_job(state=state))
    assert list(found)[:16] == ORIGINAL
    json.dumps(found)


def test_times_in_json_are_utc_and_end_in_z() -> None:
    job = make_job(state=JobState.FAILED, due_at=NOW + seconds(0.5), run_at=None)
    found = stats.job_object(job)
    assert (found["created_at"], found["run_at"]) == ("2030-05-17T12:00:00Z", None)
    assert found["next_retry_at"] == "2030-05-17T12:00:00.500000Z"


@pytest.mark.parametrize("state", [s for s in JobState if s is not JobState.FAILED])
def test_only_a_failed_job_has_a_next_retry(state: JobState) -> None:
    assert stats.job_object(make_job(state=state))["next_retry_at"] is None


@pytest.mark.parametrize("state", [JobState.DEAD, JobState.CANCELLED])
def test_only_a_success_counts_as_completed(state: JobState) -> None:
    found = stats.job_object(make_job(state=state))
    assert (found["completed_at"], found["finished_at"]) == (None, "2030-05-17T12:00:00Z")


def test_the_values_of_env_are_never_shown() -> None:
    found = stats.job_object(make_job(env={"B": "hunter2", "A": "hunter2"}))
    assert found["env"] == ["A", "B"] and "hunter2" not in json.dumps(found)


def test_the_time_of_the_last_run_is_the_execution_time() -> None:
    job = make_job(state=JobState.COMPLETED)
    attempt = Attempt(job=job, number=1, started_at=NOW - seconds(1.5), finished_at=NOW)
    assert stats.job_object(job, attempt)["execution_time"] == 1.5


# Lists


def test_a_stream_is_every_job_oldest_first() -> None:
    expected = [job.key for job in make_jobs(1203)]
    assert [job.key for job in stats.stream()] == expected


def test_a_stream_of_a_state_is_those_jobs_only() -> None:
    make_jobs(2)
    dead = make_jobs(2, state=JobState.DEAD)
    assert [job.key for job in stats.stream(state="dead")] == [job.key for job in dead]


def test_the_newest_come_newest_last() -> None:
    jobs = make_jobs(5)
    assert [job.key for job in stats.newest(2)] == [job.key for job in jobs[-2:]]


def test_output_is_read_back_in_order_with_its_offsets() -> None:
    job = make_job()
    for sequence, offset, data in ((1, 90, b"tail"), (0, 0, b"head")):
        Output.objects.create(
            job=job, attempt=2, stream=1, sequence=sequence, offset=offset, data=data
        )
    assert stats.output(job, 2, Stream.STDOUT) == [(0, b"head"), (90, b"tail")]
    assert stats.output(job, 1, Stream.STDOUT) == stats.output(job, 2, Stream.STDERR) == []


@pytest.mark.parametrize(("most", "number"), [(1, 1), (10, 1), (11, 2), (20, 2), (21, 4), (99, 5)])
def test_of_long_output_the_last_chunks_are_read(most: int, number: int) -> None:
    job = make_job()
    for sequence in range(5):
        Output.objects.create(
            job=job, attempt=1, stream=1, sequence=sequence, offset=10 * sequence, data=b"x" * 10
        )
    whole = stats.output(job, 1, Stream.STDOUT)
    assert stats.end_of_output(job, 1, Stream.STDOUT, most) == whole[-number:]
    assert stats.end_of_output(job, 1, Stream.STDERR, most) == []


def test_the_newest_attempts_come_newest_last_and_without_tracebacks() -> None:
    job = make_job()
    for number in (3, 1, 2):
        Attempt.objects.create(job=job, number=number, outcome="failed", finished_at=NOW)
    found = stats.newest_attempts(job, 2)
    assert [attempt.number for attempt in found] == [2, 3]
    assert all("traceback" in attempt.get_deferred_fields() for attempt in found)


def test_dead_jobs_are_counted() -> None:
    make_jobs(3, state=JobState.DEAD)
    make_job()
    assert stats.count_dead() == 3
    operations.discard_many(type(make_job()).objects.dead(), operations.Actor("ann", "cli"))
    assert stats.count_dead() == 0
