"""A file that is locked by others, and writers that die or stand still inside a transaction."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tests.chaos.checker import FINAL
from tests.chaos.faults.kinds import SQLITE, Arena, enqueue_more, fault
from tests.support import wait_until


@fault("long-writer", "F55", "away", on=SQLITE, holds=7, aims=False)
def long_writer(arena: Arena, _: str) -> Iterator[str]:
    with closing(sqlite3.connect(arena.file, isolation_level=None, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield "the write lock"
        connection.execute("ROLLBACK")


@fault("long-reader", "F57", on=SQLITE, holds=4, aims=False)
def long_reader(arena: Arena, _: str) -> Iterator[str]:
    with closing(sqlite3.connect(arena.file, isolation_level=None, timeout=20)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM queuectl_job").fetchone()
        before = os.path.getsize(f"{arena.file}-wal")
        yield f"a view of the database, its log at {before} bytes"
        connection.execute("ROLLBACK")


OLD_SECONDS = 300
LOG_MAY_STAY = 64 * 2**20
"""Bytes; `journal_size_limit` of the project."""


@fault(
    "old-reader", "F57", on=SQLITE, holds=0, aims=False, on_request=True, takes=OLD_SECONDS + 2.0,
)  # fmt: skip
def old_reader(arena: Arena, _: str) -> Iterator[str]:
    """A view of the database that lasts five minutes: the log grows, and is used anew after it."""
    log = Path(f"{arena.file}-wal")
    with closing(sqlite3.connect(arena.file, isolation_level=None, timeout=20)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM queuectl_job").fetchone()
        before, began = log.stat().st_size, _times_begun(log)
        time.sleep(OLD_SECONDS)
        grown = log.stat().st_size
        connection.execute("ROLLBACK")

    def used_anew() -> bool:
        return _times_begun(log) != began and log.stat().st_size <= LOG_MAY_STAY

    with suppress(AssertionError):
        wait_until(used_anew, timeout=20)
    after = log.stat().st_size
    if not used_anew():
        arena.fleet.complaints.append(f"the log of {grown} bytes was not used anew, now {after}")
    yield f"the log at {before} bytes, {grown} after {OLD_SECONDS} s, {after} once it was used anew"


def _times_begun(log: Path) -> int:
    """How often a writer has begun the log again at its start: a field of its header."""
    with log.open("rb") as file:
        file.seek(12)
        return int.from_bytes(file.read(4), "big")


# Holds the write lock with a row that is not committed, and says so.
WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO queuectl_event (at, actor, via, action, subject, before, after, note)"
                   " VALUES ('2000-01-01', '', 'cli', 'retry', 'job never', '', '', '')")
print("writing", flush=True)
time.sleep(60)
"""
FREE_WITHIN = 1.0
"""Seconds after its holder's death in which the write lock must be had, between turns of workers."""


@contextmanager
def _writer(arena: Arena) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, arena.file], stdout=subprocess.PIPE
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"writing\n"
            yield writer
        finally:
            writer.kill()


def _take_write_lock(arena: Arena) -> float:
    """Seconds until it was had."""
    began = time.monotonic()
    with closing(sqlite3.connect(arena.file, isolation_level=None, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        took = time.monotonic() - began
        connection.execute("ROLLBACK")
    return took


@fault("kill-writer", "F53", on=SQLITE, aims=False)
def kill_writer(arena: Arena, _: str) -> Iterator[str]:
    """SIGKILL inside BEGIN IMMEDIATE: the lock is free at once, and nothing of it is stored."""
    with _writer(arena) as writer:
        writer.kill()
        writer.wait(10)
        took = _take_write_lock(arena)
    if took > FREE_WITHIN:
        arena.fleet.complaints.append(
            f"the write lock of a dead process was free after {took:.1f} s"
        )
    yield f"free after {took * 1000:.0f} ms"


@fault("pause-writer", "F54", "away", on=SQLITE, holds=6, aims=False)
def pause_writer(arena: Arena, _: str) -> Iterator[str]:
    """SIGSTOP inside BEGIN IMMEDIATE."""
    with _writer(arena) as writer:
        writer.send_signal(signal.SIGSTOP)
        yield f"stopped {writer.pid}"


STORM_PROCESSES, STORM_JOBS = 32, 160


@fault("busy-storm", "F56", on=SQLITE, holds=1, aims=False)
def busy_storm(arena: Arena, _: str) -> Iterator[str]:
    """32 processes enqueue at the same moment: none of them hears that the database is locked."""
    heard = arena.calls.read_text().count("locked") if arena.calls.exists() else 0
    enqueue_more(arena, STORM_JOBS, STORM_PROCESSES)
    if arena.calls.read_text().count("locked") > heard:
        arena.fleet.complaints.append("in a busy storm a client heard that the database is locked")
    yield f"{STORM_JOBS} jobs by {STORM_PROCESSES} processes"


@fault("file-replaced", "F60", "away", on=SQLITE, holds=3, aims=False, on_request=True, takes=6.0)
def file_replaced(arena: Arena, _: str) -> Iterator[str]:
    """The database file gives way to a copy of itself, as by a restore under running workers.

    What is done after the copy was made is not in it: so the client is dead by then, and all jobs have ended.
    """
    if arena.client is None or arena.client.poll() is not None:
        yield ""
        return
    arena.client.kill()
    arena.client.wait(10)
    with suppress(AssertionError):
        wait_until(lambda: set(arena.site.counts()) <= set(FINAL), timeout=30)
    if not set(arena.site.counts()) <= set(FINAL):
        yield ""
        return
    copy = f"{arena.file}.copy"
    with closing(sqlite3.connect(arena.file)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
    for suffix in ("-wal", "-shm"):
        if os.path.exists(arena.file + suffix):
            os.rename(arena.file + suffix, f"{arena.file}.old{suffix}")
    os.replace(copy, arena.file)
    yield "another file"
