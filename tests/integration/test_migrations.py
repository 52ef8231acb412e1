"""Migrations on a database that is at work, and those that were cut short."""

from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder

from jobs import dialect
from tests.integration.builders import another_session
from tests.integration.test_concurrency import at_once
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

INDEX, BEFORE, IT = "queuectl_job_command", "0002", "0003_command_index"
WRITE = "UPDATE queuectl_job SET priority = priority WHERE false"


ON_POSTGRESQL = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="SQLite has one writer at a time whatever it does"
)


def migrate(*to: str) -> None:
    call_command("migrate", "queuectl", *to, verbosity=0)


@pytest.fixture(autouse=True)
def up_to_it_and_all_afterwards() -> Iterator[None]:
    migrate(IT)
    yield
    migrate()
    assert dialect.unapplied("queuectl") == [] and is_there()


def is_applied() -> bool:
    return IT not in dialect.unapplied("queuectl")


def is_there() -> bool:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "queuectl_job")
    return INDEX in found


def is_valid() -> bool:
    with another_session() as other:
        asked = "SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass"
        return bool(other.execute(asked, [INDEX]).fetchone()[0])


def test_the_index_is_taken_back_and_made_again() -> None:
    migrate(BEFORE)
    assert not is_there()
    migrate(IT)
    assert is_there()


def test_a_migration_that_was_cut_short_before_it_was_written_down_is_done_again() -> None:
    MigrationRecorder(connection).record_unapplied("queuectl", IT)
    assert not is_applied() and is_there()
    migrate(IT)
    assert is_applied()


def test_one_that_was_cut_short_on_its_way_back_is_taken_back_again() -> None:
    migrate(BEFORE)
    MigrationRecorder(connection).record_applied("queuectl", IT)
    migrate(BEFORE)
    assert not is_applied()


@ON_POSTGRESQL
@pytest.mark.parametrize("to", [(IT,), (BEFORE,)], ids=["forwards", "backwards"])
def test_a_server_is_told_to_let_others_write_outside_a_transaction(to: tuple[str, ...]) -> None:
    if to == (IT,):
        migrate(BEFORE)
    said: list[tuple[str, bool]] = []

    def record(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if INDEX in sql:
            said.append((sql, connection.in_atomic_block))
        return execute(sql, *rest)

    with connection.execute_wrapper(record):
        migrate(*to)
    assert said
    for sql, in_transaction in said:
        assert "INDEX CONCURRENTLY" in sql and not in_transaction


@ON_POSTGRESQL
def test_others_write_while_the_index_is_made() -> None:
    migrate(BEFORE)
    writes = Event()

    def make() -> None:
        assert writes.wait(10)
        migrate(IT)

    def write() -> None:
        with another_session() as first, another_session() as second, first.transaction():
            first.execute(WRITE)
            writes.set()
            wait_until(lambda: somebody_waits(second))
            second.execute("SET lock_timeout = '2s'")
            second.execute(WRITE)

    at_once(make, write)
    assert is_valid()


def somebody_waits(session: psycopg.Connection[Any]) -> bool:
    asked = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return session.execute(asked).fetchone() is not None


@ON_POSTGRESQL
def test_an_index_that_was_left_half_made_is_made_anew() -> None:
    migrate(BEFORE)
    with another_session() as writer, connection.cursor() as cursor:
        with writer.transaction():
            writer.execute(WRITE)
            cursor.execute("SET lock_timeout = '100ms'")
            with pytest.raises(OperationalError, match="lock timeout"):
                migrate(IT)
        cursor.execute("RESET lock_timeout")
    assert not is_valid()
    migrate(IT)
    assert is_valid()


@ON_POSTGRESQL
@pytest.mark.parametrize("path", ["public, elsewhere", "elsewhere, public"])
def test_the_index_of_another_schema_with_its_name_stays(path: str) -> None:
    migrate(BEFORE)
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA elsewhere CREATE TABLE other (number integer)")
        try:
            cursor.execute(f"CREATE INDEX {INDEX} ON elsewhere.other (number)")
            cursor.execute(f"SET search_path = {path}")
            migrate(IT)
            migrate(BEFORE)
            assert not is_there()
            asked = "SELECT 1 FROM pg_indexes WHERE schemaname = 'elsewhere' AND indexname = %s"
            cursor.execute(asked, [INDEX])
            assert cursor.fetchone()
        finally:
            cursor.execute("RESET search_path")
            cursor.execute("DROP SCHEMA elsewhere CASCADE")
