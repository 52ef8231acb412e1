"""What a ledger process does when its database is in trouble, or it itself is."""

import threading

import pytest
from django.db import OperationalError, connection, connections

from jobs import clock, dialect
from jobs.dialect import transactions
from jobs.exceptions import LeaseLost
from jobs.models import Job, Worker
from tests.integration.builders import make_queues, make_worker, new_job
from tests.integration.test_turn_cost import Busy
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


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


if connection.vendor == "postgresql":

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

    def test_a_full_disk_keeps_the_connection_and_other_trouble_does_not() -> None:
        busy = Busy()
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
        busy.close()


def test_a_worker_whose_database_file_was_replaced_starts_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy = Busy()
    busy.process.watch(0.0)
    monkeypatch.setattr(dialect, "file_identity", lambda: (1, 1))
    with pytest.raises(LeaseLost, match="another database file"):
        busy.process.watch(0.0)
    monkeypatch.setattr(dialect, "file_identity", lambda: None)
    busy.process.watch(0.0)
    busy.close()


def test_an_orphan_does_not_wait_for_its_database_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Busy()
    process = busy.process
    try:
        Job.objects.bulk_create([new_job(state="pending")])
        make_queues("default")
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
    finally:
        busy.close()
