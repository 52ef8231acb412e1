"""What is left when a run is over: rows, logs, processes, files and the database's own word."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.acceptance.site import Site, environ, moment
from tests.chaos import fleet as parts
from tests.chaos.checker import digest
from tests.chaos.fleet import Fleet
from tests.chaos.history import Attempt, Effect, Event, Job, Step, Usage, Worker, now, unmoved


def effects(path: Path) -> tuple[Effect, ...]:
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        what, key, attempt, lease, worker, pid, at = line.split()
        found.append(Effect(what, key, int(attempt), lease, worker, int(pid), float(at)))
    return tuple(found)


class Rows:
    """The tables of a site, their times as CLOCK_BOOTTIME."""

    def __init__(self, site: Site, clock: tuple[Step, ...] = ()) -> None:
        self.site, self.clock = site, clock
        self.offset = time.time() - now()

    def _time(self, value: Any) -> Any:
        return (
            None if value is None else unmoved(self.clock, moment(value).timestamp() - self.offset)
        )

    def jobs(self) -> tuple[Job, ...]:
        rows = self.site.sql(
            "SELECT key, state, attempts, max_retries, runs, losses, interruptions, "
            "lease IS NOT NULL, due_at, created_at, backoff_base, last_error, id, priority, finished_at, "
            "COALESCE(unique_key, ''), result FROM queuectl_job ORDER BY id"
        )
        return tuple(
            Job(
                *row[:7],
                bool(row[7]),
                self._time(row[8]),
                self._time(row[9]),
                row[10] or 2.0,
                *row[11:14],
                self._time(row[14]),
                row[15],
                json.loads(row[16]) if isinstance(row[16], str) else row[16],
            )
            for row in rows
        )

    def attempts(self) -> tuple[Attempt, ...]:
        rows = self.site.sql(
            "SELECT j.key, a.number, a.outcome, a.exit_code, a.signal, a.started_at, a.finished_at, "
            "COALESCE(w.name, ''), a.worker_id, a.stdout_bytes, a.error FROM queuectl_attempt a "
            "LEFT JOIN queuectl_job j ON j.id = a.job_id "
            "LEFT JOIN queuectl_worker w ON w.id = a.worker_id ORDER BY a.job_id, a.number"
        )
        kept = self._output()
        return tuple(
            Attempt(
                row[0] or "", *row[1:5], self._time(row[5]), self._time(row[6]), row[7], row[8],
                digest(kept.get((row[0], row[1]), b"")), *row[9:11],
            )
            for row in rows
        )  # fmt: skip

    def _output(self) -> dict[tuple[str, int], bytes]:
        rows = self.site.sql(
            "SELECT j.key, o.attempt, o.data FROM queuectl_output o JOIN queuectl_job j "
            "ON j.id = o.job_id WHERE o.stream = 1 ORDER BY o.job_id, o.attempt, o.sequence"
        )
        found: dict[tuple[str, int], bytes] = {}
        for key, number, data in rows:
            found[key, number] = found.get((key, number), b"") + bytes(data)
        return found

    def workers(self) -> tuple[Worker, ...]:
        rows = self.site.sql(
            'SELECT id, name, heartbeat_at, stopped_at, "end" FROM queuectl_worker ORDER BY id'
        )
        return tuple(
            Worker(*row[:2], self._time(row[2]), self._time(row[3]), row[4]) for row in rows
        )

    def events(self) -> tuple[Event, ...]:
        rows = self.site.sql(
            "SELECT action, subject, before, after, at FROM queuectl_event ORDER BY id"
        )
        return tuple(
            Event(action, subject.removeprefix("job "), before, after, self._time(at))
            for action, subject, before, after, at in rows
        )


def usage(fleet: Fleet) -> Iterator[Usage]:
    """What each process of each worker holds now."""
    for name, worker in fleet.workers.items():
        tasks = parts.task_runners(worker)
        for part, found in (
            ("supervisor", [worker.supervisor()]),
            ("ledger", parts.ledgers(worker)),
            ("runner", parts.runners(worker)),
            ("tasks", tasks),
        ):
            for process in found:
                with suppress(psutil.Error):
                    rss = process.memory_info().rss // 2**20
                    yield Usage(name, part, process.num_fds(), rss, len(tasks))


def connections(fleet: Fleet) -> tuple[int, int]:
    """How many there are to the server, and how many may be: the ledger's, its listener's, and one
    for each task runner.
    """
    if not fleet.site.is_postgresql:
        return 0, 0
    may = sum(2 + len(parts.task_runners(worker)) for worker in fleet.workers.values())
    return len(list(_connections(fleet.site))), may


def residue(site: Site, killed: set[str]) -> Iterator[str]:
    """What should have ended with the last worker.

    Commands of a worker that was killed all at once go on to their end: nobody knows them.
    """
    for process in site.processes():
        with suppress(psutil.Error):
            if environ(process).get("CHAOS_WORKER") not in killed:
                yield f"process {process.pid}: {' '.join(process.cmdline())}"
    for lock, worker in _locks(site):
        # A rescuer that dies after the rescue and before it has removed the file leaves it.
        if worker not in killed:
            yield f"lock file {lock} of {worker}"
    if site.is_postgresql:
        yield from _connections(site)


def _connections(site: Site) -> Iterator[str]:
    name = site.database_url.rsplit("/", 1)[1]
    query = (
        "SELECT state, query FROM pg_stat_activity "
        "WHERE datname = %s AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    yield from (f"connection {state}: {text}" for state, text in site.sql(query, [name]))


def _locks(site: Site) -> list[tuple[str, str]]:
    """Lock files of workers that had a row; one that died before it had leaves its file for good."""
    rows = site.sql("SELECT DISTINCT lock, name FROM queuectl_worker")
    return [(lock, name) for lock, name in rows if Path(lock).exists()]


def damage(site: Site) -> Iterator[str]:
    """What the database finds wrong with itself."""
    if site.is_postgresql:
        site.sql("CREATE EXTENSION IF NOT EXISTS amcheck")
        query = (
            "SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_am a ON a.oid = c.relam "
            "WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relname LIKE %s"
        )
        try:
            site.sql(query, ["queuectl%"])
        except Exception as error:  # it says what is wrong by raising
            yield str(error)
        return
    for [said] in site.sql("PRAGMA integrity_check"):
        if said != "ok":
            yield str(said)
    for table, *_ in site.sql("PRAGMA foreign_key_check"):
        yield f"a row of {table} points nowhere"


def complaints(site: Site) -> Iterator[str]:
    """Tracebacks, but for those of failpoints."""
    for worker in site.workers:
        for told in worker.log.split("Traceback (most recent call last)")[1:]:
            if "a failpoint went off" not in told and "PlannedError: code" not in told:
                yield f"{worker.stderr_file.name}: {told[:1500]}"


def leaks(site: Site) -> Iterator[str]:
    secrets = {"SECRET_KEY": site.env["SECRET_KEY"]}
    if site.is_postgresql:
        secrets["the database's password"] = site.database_url.split(":")[2].partition("@")[0]
    texts = {
        " ".join(map(str, worker.args[-1:])): worker.output + worker.log for worker in site.workers
    }
    for [message] in site.sql("SELECT last_error FROM queuectl_job WHERE last_error <> ''"):
        texts["last_error"] = texts.get("last_error", "") + message
    for name, secret in secrets.items():
        yield from (f"{name} in {where}" for where, text in texts.items() if secret in text)
