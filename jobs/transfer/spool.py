"""What an import has read and checked, waiting on disk for the one transaction.

A scratch database of SQLite's own kind, whatever the queue's is: it finds an id that comes twice
among millions without holding them in memory, and gives back rows that are ready to insert.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from ..exceptions import QueueCTLError
from ..states import ACTIVE

JOB = (
    "key", "queue", "command", "argv", "task", "args", "cwd", "env", "state", "priority", "run_at",
    "due_at", "attempts", "max_retries", "runs", "losses", "interruptions", "prefetchable", "timeout",
    "backoff_base", "exit_codes", "unique_key", "concurrency_key", "created_at", "updated_at",
    "started_at", "finished_at", "cancel_requested_at", "result", "last_error", "fingerprint",
    "request_digest", "enqueued_by", "signature",
)  # fmt: skip
ATTEMPT = (
    "job_id", "number", "outcome", "started_at", "finished_at", "exit_code", "signal", "cpu_seconds",
    "peak_memory_bytes", "stdout_bytes", "stderr_bytes", "error", "traceback",
)  # fmt: skip
OUTPUT = ("job_id", "attempt", "stream", "sequence", "offset", "data")

PAGE = 500
_CACHE_KIBIBYTES = 65_536


@contextmanager
def spooled() -> Iterator[Spool]:
    """A spool in the temporary directory, and nothing of it afterwards."""
    try:
        made = TemporaryDirectory(prefix="queuectl-import-")
    except OSError as error:
        raise NoRoom(error.strerror or str(error)) from None
    with made as directory, closing(Spool(directory)) as spool:
        yield spool


class NoRoom(QueueCTLError):
    """The temporary directory cannot hold what was read."""

    code = "no_room"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The temporary directory cannot hold what was read: {why}",
            hint="nothing was stored; name a larger directory in TMPDIR",
        )


class Spool:
    """Jobs in the order of the file, each with a number; attempts and output name that number."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, "spool.sqlite3")
        # Autocommit, since transactions are begun and ended here by hand.
        self.file = sqlite3.connect(self.path, isolation_level=None)
        for statement in (
            "PRAGMA synchronous = OFF",
            "PRAGMA journal_mode = MEMORY",
            f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}",
            "CREATE TABLE job (number INTEGER PRIMARY KEY, place, kept, active_key UNIQUE, "
            f"{names(JOB)}, UNIQUE (key))",
            f"CREATE TABLE attempt ({names(ATTEMPT)}, UNIQUE (job_id, number))",
            f"CREATE TABLE output ({names(OUTPUT)}, UNIQUE (job_id, attempt, stream, sequence))",
            "BEGIN",
        ):
            self._run(statement)
        self._add_job = _insert("job", ("number", "place", "kept", "active_key", *JOB))
        self._add_attempt = _insert("attempt", ATTEMPT)
        self._add_output = _insert("output", OUTPUT)
        self.jobs = 0

    def close(self) -> None:
        self.file.close()

    def settle(self) -> None:
        """Let others read what has been written so far."""
        self._run("COMMIT")
        self._run("BEGIN")

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self.file.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise NoRoom(str(error)) from None

    def add_job(self, place: str, values: Mapping[str, Any], *, active: bool) -> bool:
        """False where its id, or the unique_key of an active one, has come before."""
        row = [values[name] for name in JOB]
        active_key = values["unique_key"] if active else None
        added = self._add(self._add_job, [self.jobs + 1, place, 1, active_key, *row])
        self.jobs += added
        return added

    def add_attempt(self, values: Mapping[str, Any]) -> bool:
        """An attempt of the job added last; False where that number has come before."""
        return self._add(self._add_attempt, [self.jobs, *(values[name] for name in ATTEMPT[1:])])

    def add_output(self, values: Mapping[str, Any]) -> bool:
        """A chunk of an attempt of the job added last; False where it has come before."""
        return self._add(self._add_output, [self.jobs, *(values[name] for name in OUTPUT[1:])])

    def _add(self, statement: str, row: Sequence[Any]) -> bool:
        return self._run(statement, row).rowcount == 1

    def place_of(self, key: str) -> str | None:
        """Where in the file this id is; None where it is not."""
        row = self._run("SELECT place FROM job WHERE key = ?", [key]).fetchone()
        return row and str(row[0])

    # Which are new

    def keep_all(self) -> None:
        self._run("UPDATE job SET kept = 1 WHERE kept = 0")

    def leave_out(self, number: int) -> None:
        """This job is not to be stored."""
        self._run("UPDATE job SET kept = 0 WHERE number = ?", [number])

    def pages(self) -> Iterator[list[tuple[int, str, dict[str, Any]]]]:
        """All jobs, a page at a time: (number, place, values)."""
        columns, last = f"number, place, {names(JOB)}", 0
        query = f"SELECT {columns} FROM job WHERE number > ? ORDER BY number LIMIT {PAGE}"  # noqa: S608
        while rows := self._run(query, [last]).fetchall():
            yield [(row[0], row[1], dict(zip(JOB, row[2:], strict=True))) for row in rows]
            last = rows[-1][0]

    # What is to be stored

    def kept(self, after: int, limit: int) -> list[tuple[Any, ...]]:
        """Rows (number, *JOB) of the jobs to store that come after this number."""
        return self._run(
            f"SELECT number, {names(JOB)} FROM job WHERE kept AND number > ? "  # noqa: S608
            "ORDER BY number LIMIT ?",
            [after, limit],
        ).fetchall()

    def attempts_of(self, first: int, last: int) -> Iterator[tuple[Any, ...]]:
        """Rows ATTEMPT of the jobs with these numbers and those between."""
        query = f"SELECT {names(ATTEMPT)} FROM attempt WHERE job_id BETWEEN ? AND ?"  # noqa: S608
        return self._run(f"{query} ORDER BY job_id, number", [first, last])

    def output_of(self, first: int, last: int) -> Iterator[tuple[Any, ...]]:
        """Rows OUTPUT of the jobs with these numbers and those between."""
        query = f"SELECT {names(OUTPUT)} FROM output WHERE job_id BETWEEN ? AND ?"  # noqa: S608
        order = "ORDER BY job_id, attempt, stream, sequence"
        return self._run(f"{query} {order}", [first, last])

    def count(self) -> int:
        """How many jobs are to be stored."""
        return int(self._run("SELECT count(*) FROM job WHERE kept").fetchone()[0])

    def count_active(self) -> int:
        """How many of them have not ended."""
        among = ", ".join(f"'{state}'" for state in ACTIVE)
        query = f"SELECT count(*) FROM job WHERE kept AND state IN ({among})"  # noqa: S608
        return int(self._run(query).fetchone()[0])

    def count_attempts(self) -> int:
        query = "SELECT count(*) FROM attempt a JOIN job j ON j.number = a.job_id WHERE j.kept"
        return int(self._run(query).fetchone()[0])

    def queues(self) -> list[str]:
        """Queues of the jobs to store."""
        rows = self._run("SELECT DISTINCT queue FROM job WHERE kept ORDER BY queue")
        return [row[0] for row in rows]


def names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def _insert(table: str, columns: Sequence[str]) -> str:
    marks = ", ".join("?" * len(columns))
    # Not an exception: a refused row is an ordinary answer here.
    return f"INSERT OR IGNORE INTO {table} ({names(columns)}) VALUES ({marks})"  # noqa: S608
