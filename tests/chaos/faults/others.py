"""What others do on the same server: their locks, their settings, their notifications, their migrations."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from tests.acceptance.databases import ROOT, PostgresDatabases
from tests.chaos.faults.kinds import POSTGRESQL, Arena, enqueue_more, fault
from tests.chaos.faults.postgresql import ended_connections

NOTIFICATIONS = 100_000


@fault("notifications-flooded", "F42", "others-flow", on=POSTGRESQL, holds=3, aims=False)
def notifications_flooded(arena: Arena, _: str) -> Iterator[str]:
    """A hundred thousand hints that nothing has happened."""
    with _operator(arena) as connection:
        for part in range(10):
            connection.execute(
                "SELECT pg_notify('queuectl', %s || n) FROM generate_series(1, %s) AS n",
                [f"{part} ", NOTIFICATIONS // 10],
            )
        yield f"{NOTIFICATIONS} notifications"


@fault("listeners-ended", "F42 F43", "others-flow", on=POSTGRESQL, holds=0, aims=False)
def listeners_ended(arena: Arena, _: str) -> Iterator[str]:
    """For four seconds nobody who listens is left to do so."""
    ended, until = 0, time.monotonic() + 4
    with _operator(arena) as connection:
        while time.monotonic() < until:
            ended += len(connection.execute(_END_LISTENERS).fetchall())
            time.sleep(0.1)
    yield f"{ended} listeners" if ended else ""


_END_LISTENERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE 'LISTEN%'
"""


@fault("deadlocks", "F44", "away", on=POSTGRESQL, holds=0, aims=False)
def deadlocks(arena: Arena, _: str) -> Iterator[str]:
    """Somebody locks what runs, row by row, in the order that is not ours, and does not give way."""
    rounds, waits, until = 0, 0, time.monotonic() + 5
    with _operator(arena) as connection:
        connection.execute("SET deadlock_timeout = '20s'")
        while time.monotonic() < until:
            with connection.transaction():
                locked = [_lock_last(connection, before) for before in _downwards(connection)]
                waits += _waiting(connection)
            rounds += sum(locked) > 1
    yield f"{rounds} times two rows or more; {waits} who waited" if rounds and waits else ""


def _waiting(connection: psycopg.Connection[tuple[int]]) -> int:
    """How many others wait for a lock of somebody's."""
    found = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    )
    [(number,)] = found.fetchall()
    return number


def _downwards(connection: psycopg.Connection[tuple[int]]) -> list[int]:
    found = connection.execute("SELECT id FROM queuectl_job WHERE state = 'processing'")
    return sorted((job for (job,) in found), reverse=True)


def _lock_last(connection: psycopg.Connection[tuple[int]], job: int) -> bool:
    time.sleep(0.02)
    found = connection.execute("SELECT id FROM queuectl_job WHERE id = %s FOR UPDATE", [job])
    return found.fetchone() is not None


@fault("locked-table", "F44", "away", on=POSTGRESQL, holds=3, aims=False)
def locked_table(arena: Arena, _: str) -> Iterator[str]:
    """As a migration does that takes its time."""
    with psycopg.connect(arena.site.database_url) as connection:
        connection.execute("LOCK TABLE queuectl_job IN ACCESS EXCLUSIVE MODE")
        yield "the table of jobs"
        with suppress(psycopg.Error):
            connection.rollback()


@fault("serializable", "F44", on=POSTGRESQL, holds=5, aims=False)
def serializable(arena: Arena, _: str) -> Iterator[str]:
    """Whose transactions meet, fails: a site may have chosen that for its database."""
    with _set_for_all(arena, "default_transaction_isolation", "serializable") as evidence:
        yield evidence


@fault("read-only-server", "F48", "away", "interrupts", on=POSTGRESQL, holds=2, aims=False)
def read_only_server(arena: Arena, _: str) -> Iterator[str]:
    with _set_for_all(arena, "default_transaction_read_only", "on") as evidence:
        yield evidence


@fault("short-statements", "F48", "away", on=POSTGRESQL, holds=4, aims=False)
def short_statements(arena: Arena, _: str) -> Iterator[str]:
    """The server ends what takes longer than a moment, for whoever sets no bound of his own."""
    with _set_for_all(arena, "statement_timeout", "2ms") as evidence:
        yield evidence


@fault("failures-first", "F76", "others-flow", holds=3, aims=False)
def failures_first(arena: Arena, _: str) -> Iterator[str]:
    """More jobs than can be run at once, more urgent than all others, and each fails at once."""
    enqueue_more(arena, FAILURES, 4, mix={"task-doomed": 1}, priority=100)
    yield f"{FAILURES} jobs"


FAILURES = 300


@fault("migrated-back", "F70", "away", "interrupts", holds=0, aims=False)
def migrated_back(arena: Arena, _: str) -> Iterator[str]:
    """All migrations but the first are taken back under working workers, and done again."""
    for target in ("0001", ""):
        _migrate(arena, *filter(None, ["queuectl", target]))
        time.sleep(0.5)
    yield "back and forth"


def _migrate(arena: Arena, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity", "0", *arguments],
        cwd=ROOT, env=arena.site.env, stdin=subprocess.DEVNULL, timeout=60, check=True,
    )  # fmt: skip


# How


@contextmanager
def _operator(arena: Arena) -> Iterator[psycopg.Connection[tuple[int]]]:
    with psycopg.connect(arena.site.database_url, autocommit=True) as connection:
        yield connection


@contextmanager
def _set_for_all(arena: Arena, setting: str, value: str) -> Iterator[str]:
    """For every session of the database, also those that are open: they have to begin anew."""
    databases = arena.site.databases
    assert isinstance(databases, PostgresDatabases)
    name = arena.site.database_url.rsplit("/", 1)[1]
    databases.execute(f"ALTER DATABASE {{}} SET {setting} = '{value}'", name)
    try:
        ended_connections(arena)
        yield f"{setting} {value}"
    finally:
        databases.execute(f"ALTER DATABASE {{}} RESET {setting}", name)
        ended_connections(arena)
