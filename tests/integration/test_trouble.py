"""What a ledger process does when its database is in trouble, or it itself is."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from django.db import OperationalError, connection, connections

from jobs import clock, dialect
from jobs.dialect import transactions
from jobs.exceptions import LeaseLost
from jobs.execution.processes import MARK, lease_of
from jobs.models import Attempt, Job, Setting, Worker
from jobs.outcome import Kind, Outcome
from jobs.worker import maintenance
from tests.integration.builders import another_session, claim, make_worker, new_job
from tests.integration.ledgers import Busy
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def busy(busy: Busy) -> Busy:
    busy.process.maintenance = None
    return busy


def test_every_migration_is_applied_here() -> None:
    assert dialect.unapplied("queuectl") == []


def test_migrations_that_are_not_applied_are_named_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_others = {("auth", "0001_initial"): None, ("queuectl", "0099_of_a_later_version"): None}
    monkeypatch.setattr(
        "jobs.dialect.schema.MigrationRecorder.applied_migrations", lambda self: of_others
    )
    assert dialect.unapplied("queuectl")[:2] == ["0001_initial", "0002_put_off_since"]


def test_an_app_without_migrations_lacks_none(settings: pytest.FixtureRequest) -> None:
    settings.MIGRATION_MODULES = {"queuectl": None}  # type: ignore[attr-defined]
    assert dialect.unapplied("queuectl") == []


def test_a_turn_that_has_to_wait_tells_right_when_a_run_was(
    busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    Job.objects.bulk_create([new_job(state="pending")])
    busy.process.turn()
    [held] = busy.process.hands.held.values()
    began = clock.monotonic()
    ran = Outcome(kind=Kind.SUCCEEDED, started=began - 1, ended=began)
    busy.end(held.runner, (held.work, ran))
    busy.process.hands.hear(held.runner, 1)
    ended_at, inner = dialect.now(), dialect.turn

    @contextmanager
    def turn_of_one_who_waits() -> Iterator[datetime]:
        clock.pause(0.5)  # for the write lock, say
        with inner() as now:
            yield now

    monkeypatch.setattr(dialect, "turn", turn_of_one_who_waits)
    busy.process.turn()
    attempt = Attempt.objects.get()
    assert attempt.started_at is not None
    assert attempt.finished_at - attempt.started_at == timedelta(seconds=1)
    assert abs(attempt.finished_at - ended_at) < timedelta(seconds=0.25)


def test_wake_ups_are_back_as_soon_as_the_database_is(busy: Busy) -> None:
    process = busy.process
    process.go_on()
    assert process.hints.is_open
    process.attempt(_away)
    assert not process.hints.is_open
    process.look_at = 0.0
    process.hinted = False
    process.go_on()
    assert process.hints.is_open
    assert process.hinted, "what was committed before has been told to nobody"


def test_a_lock_that_somebody_holds_is_no_reason_to_connect_anew(busy: Busy) -> None:
    """Each connection closed after a failed statement lives on, with its descriptors, in a cycle."""

    def waits_in_vain() -> None:
        cause = Exception()
        cause.sqlite_errorcode, cause.sqlstate = 5, "55P03"  # type: ignore[attr-defined]
        raise OperationalError("locked") from cause

    dialect.now()
    before = connection.connection
    busy.process.attempt(waits_in_vain)
    assert connection.connection is before
    assert busy.process.careful


def test_a_row_that_is_there_no_more_is_not_taken_for_a_locked_one(busy: Busy) -> None:
    """What became of it would be kept for ever, and the worker could never leave."""
    Job.objects.bulk_create([new_job(state="pending")])
    busy.process.turn()
    busy.answer()
    Job.objects.all().delete_whole(list(Job.objects.values_list("id", flat=True)))
    busy.process.careful = True
    busy.process.attempt(busy.process.turn)
    assert not busy.process.hands
    assert not busy.process.careful


@pytest.mark.parametrize(("holds", "longest"), [(True, 1.0), (False, 5.0)])
def test_a_database_that_is_back_is_found_before_a_lease_is_over(
    busy: Busy, holds: bool, longest: float
) -> None:
    if holds:
        Job.objects.bulk_create([new_job(state="pending")])
        busy.process.turn()
    for _ in range(20):
        busy.process.attempt(_away)
        assert busy.process.retry_at - clock.monotonic() <= longest
    assert busy.process.retry_at - clock.monotonic() > 0.4 * longest


def test_a_worker_that_leaves_gives_back_what_it_never_heard_of(busy: Busy) -> None:
    Job.objects.bulk_create([new_job(state="pending")])
    worker = Worker.objects.get()
    with dialect.turn():
        claim(worker)
    busy.process.attempt(_away)
    busy.process.drain(0.0, "stopped")
    busy.process.attempt(busy.process.close)
    job = Job.objects.get()
    assert (job.state, job.worker_id, job.runs) == ("pending", None, 0)
    assert Worker.objects.get().stopped_at is not None


def _away() -> None:
    raise OperationalError("the server closed the connection unexpectedly")


if connection.vendor == "postgresql":

    def test_a_row_that_somebody_keeps_locked_keeps_nothing_else_back(busy: Busy) -> None:
        """Not the heartbeat, no other outcome, no other claim."""
        Job.objects.bulk_create([new_job(state="pending", key=key) for key in ("one", "two")])
        process, worker = busy.process, Worker.objects.get()
        process.turn()
        busy.answer()
        Job.objects.bulk_create([new_job(state="pending", key="three")])
        process.beat_at = 0.0
        with another_session() as other, other.transaction():
            other.execute("SELECT 1 FROM queuectl_job WHERE key = 'one' FOR UPDATE")
            for _ in range(3):
                process.attempt(process.turn)
            states = dict(Job.objects.values_list("key", "state"))
            beats = Worker.objects.get().heartbeat_at
        assert states == {"one": "processing", "two": "completed", "three": "processing"}
        assert beats > worker.heartbeat_at
        assert process.retry_at > clock.monotonic() - 1, "it does not turn for ever meanwhile"
        process.attempt(process.turn)
        assert Job.objects.get(key="one").state == "completed"
        assert not process.careful

    def test_a_table_of_jobs_that_somebody_has_locked_does_not_keep_back_the_heartbeat(
        busy: Busy,
    ) -> None:
        process, before = busy.process, Worker.objects.get().heartbeat_at
        Setting.objects.create(key="job-timeout", value=7, updated_at=before)
        with another_session() as other, other.transaction():
            other.execute("LOCK TABLE queuectl_job")
            for _ in range(2):  # the first learns of the lock
                process.beat_at = 0.0
                process.attempt(process.turn)
            assert process.failures == 2
            assert Worker.objects.get().heartbeat_at > before
            assert process.beat_at > clock.monotonic()
            assert process.policy.job_timeout == 7
        process.attempt(process.turn)
        assert not process.careful

    def test_a_rescue_passes_over_what_somebody_keeps_locked_and_comes_back() -> None:
        worker = make_worker(lock="/gone")
        Job.objects.bulk_create([new_job(state="pending", key=key) for key in ("one", "two")])
        claim(worker)
        with another_session() as other, other.transaction():
            other.execute("SELECT 1 FROM queuectl_job WHERE key = 'one' FOR UPDATE")
            assert maintenance.rescue(worker.id, last_heard=None, why="it is gone") == 1
            assert Worker.objects.get().stopped_at is None
        assert maintenance.rescue(worker.id, last_heard=None, why="it is gone") == 1
        assert Worker.objects.get().stopped_at is not None
        assert Job.objects.filter(state="pending").count() == 2

    def test_a_worker_that_stands_still_within_a_turn_does_not_keep_its_rows_for_ever(
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(transactions, "IDLE_SECONDS", 1)
        worker, stands, over = make_worker(), threading.Event(), threading.Event()
        errors: list[Exception] = []

        def stand_still() -> None:
            try:
                with dialect.turn():
                    Worker.objects.select_for_update().get(id=worker.id)
                    stands.set()
                    over.wait(20)
                    Worker.objects.count()
            except Exception as error:
                errors.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=stand_still)
        thread.start()
        assert stands.wait(10)

        def is_free() -> bool:
            with dialect.turn():
                rows = Worker.objects.select_for_update(skip_locked=True).filter(id=worker.id)
                return rows.first() is not None

        assert not is_free(), "its row was not locked: the test shows nothing"
        wait_until(is_free, timeout=5, message="nobody could ever rescue its jobs")
        over.set()
        thread.join(10)
        assert [dialect.is_trouble(error) for error in errors] == [True]

else:

    def test_a_full_disk_keeps_the_connection_and_other_trouble_does_not(busy: Busy) -> None:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA page_count")
            [pages] = cursor.fetchone()
            cursor.execute(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(OperationalError, match="full") as full:
                for _ in range(10_000):  # other tests may have left pages to use first
                    make_worker(lock="x" * 4000)
            cursor.execute("PRAGMA max_page_count = 1073741823")
        busy.process.back_off(full.value)
        assert connection.connection is not None
        busy.process.back_off(OperationalError("disk I/O error"))
        assert connection.connection is None


def test_a_worker_whose_database_file_was_replaced_starts_anew(
    busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy.process.watch(0.0)
    monkeypatch.setattr(dialect, "file_identity", lambda: (1, 1))
    with pytest.raises(LeaseLost, match="another database file"):
        busy.process.watch(0.0)
    monkeypatch.setattr(dialect, "file_identity", lambda: None)
    busy.process.watch(0.0)


def test_an_orphan_does_not_wait_for_its_database_for_ever(
    busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = busy.process
    Job.objects.bulk_create([new_job(state="pending")])
    process.turn()

    def unreachable() -> None:
        raise OperationalError("the database has gone away")

    monkeypatch.setattr(dialect, "turn", unreachable)
    busy.sockets[-1].close()  # the supervisor's end
    process.hear_supervisor()
    lease = process.settings.LEASE_SECONDS
    assert 0 < process.leave_by - clock.monotonic() <= lease
    process.leave_by = clock.monotonic() + 0.2
    process.run()
    assert process.hands, "what could not be written is given up, not forgotten before"


def test_what_an_orphan_leaves_to_others_is_not_said_to_have_never_started(busy: Busy) -> None:
    process = busy.process
    Job.objects.bulk_create([new_job(state="pending")])
    process.turn()
    process.uncertain = True
    process.close()
    assert Job.objects.get().state == "processing"


@pytest.mark.parametrize("heard", ["before", "after"])
def test_an_orphan_loses_what_a_dead_runner_held_when_nothing_of_it_runs(
    busy: Busy, heard: str
) -> None:
    """Whether that runner's death was heard before its supervisor's or after."""
    process = busy.process
    Job.objects.bulk_create([new_job(state="pending"), new_job(state="pending")])
    process.turn()
    dead, lives = (process.hands.runners[index].held for index in (0, 1))
    [lease], [other] = list(dead), list(lives)
    left, spared = (
        subprocess.Popen(["sleep", "60"], env=os.environ | {MARK: mark}) for mark in (lease, other)
    )
    wait_until(lambda: (lease_of(left.pid), lease_of(spared.pid)) == (lease, other))
    ends = [busy.runners[0].socket, busy.sockets[-1]]
    for end in ends if heard == "before" else reversed(ends):
        end.close()
        process.wait()
    assert left.wait(10) == -9
    assert [(h.work.lease, o.kind) for h, o in process.hands.ended] == [(lease, Kind.LOST)]
    assert spared.poll() is None, "a runner that lives ends its commands itself"
    assert list(process.hands.held) == [other]
    spared.kill()
    spared.wait()
