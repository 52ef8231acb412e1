import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    *,
    timeout: float = 10,
    every: float = 0.02,
    message: str | Callable[[], str] = "the condition never held",
) -> T:
    """The first true value of `condition()`; fails with `message` when none came in time."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"after {timeout:g} s: {message() if callable(message) else message}"
            )
        time.sleep(every)
    return value


@contextmanager
def damaged(file: str, table: str) -> Iterator[None]:
    """The first page of a table in a SQLite file cannot be right meanwhile; then it is as it was."""
    # Opened before the connection and closed after it: any close drops the locks of a process.
    fd = os.open(file, os.O_RDWR)
    try:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=20)) as connection:
            query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
            [page] = connection.execute(query, [table]).fetchone()
            [size] = connection.execute("PRAGMA page_size").fetchone()
            # The newest state of that page would be in the log else, and nobody would miss it.
            [busy, *_] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert not busy, "somebody else reads"
            at = (page - 1) * size
            before = os.pread(fd, size, at)
            try:
                os.pwrite(fd, b"\xff" * size, at)
                _others_read_anew(connection)
                yield
            finally:
                os.pwrite(fd, before, at)
                _others_read_anew(connection)
    finally:
        os.close(fd)


def _others_read_anew(connection: sqlite3.Connection) -> None:
    """By a commit: what they have in memory would do for a while."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version + 1}")
