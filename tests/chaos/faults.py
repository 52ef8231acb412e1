"""What can be done to a run. Each fault is a context: it strikes, lasts, and is over.

It yields its evidence, or nothing where it found no victim: then it did not land.
"""

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from tests.acceptance.databases import PostgresDatabases
from tests.acceptance.site import Site, alive, signal_all, wait_gone
from tests.chaos import failpoints, fleet
from tests.chaos.fleet import Fleet
from tests.chaos.history import Bounds
from tests.chaos.place import Disk
from tests.postgres import Cluster
from tests.support import wait_until


@dataclass
class Arena:
    """All that a fault may touch."""

    site: Site
    fleet: Fleet
    bounds: Bounds
    rng: random.Random
    cluster: Cluster | None = None
    client: subprocess.Popen[bytes] | None = None
    disk: Disk | None = None
    """Where the database is alone on a file system of its own."""

    killed: set[str] = field(default_factory=set)
    """Workers whose commands nobody was left to end."""

    @property
    def markers(self) -> Path:
        return self.site.directory / "markers"

    @property
    def file(self) -> str:
        return self.site.database_url.removeprefix("sqlite:///")


Strike = Callable[[Arena, str], AbstractContextManager[str]]
BOTH, POSTGRESQL, SQLITE = ("postgresql", "sqlite"), ("postgresql",), ("sqlite",)


@dataclass(frozen=True)
class Kind:
    """A fault of the catalogue."""

    name: str
    number: str
    strike: Strike
    on: tuple[str, ...]
    holds: float
    may: tuple[str, ...]
    may_on_postgresql: tuple[str, ...]
    aims: bool
    """Whether it has one worker as its target."""

    brings: bool
    """Whether it brings its victim along, and names it first in its evidence."""

    needs_disk: bool = False
    on_request: bool = False
    """Not one of all, but only where it is named."""

    @property
    def lasts(self) -> float:
        """About how many seconds it takes."""
        return self.holds + (5.0 if self.name.startswith("failpoint") else 1.0)

    def target(self, aimed_at: str, evidence: str) -> str:
        return evidence.partition(" ")[0] if self.brings else aimed_at if self.aims else ""

    def consequences(self, database: str) -> tuple[str, ...]:
        return self.may + (self.may_on_postgresql if database == "postgresql" else ())


CATALOGUE: dict[str, Kind] = {}


def fault(
    name: str,
    number: str,
    *may: str,
    on: tuple[str, ...] = BOTH,
    holds: float = 0.0,
    on_postgresql: tuple[str, ...] = (),
    aims: bool = True,
    brings: bool = False,
    needs_disk: bool = False,
    on_request: bool = False,
) -> Callable[[Callable[[Arena, str], Iterator[str]]], Strike]:
    def register(function: Callable[[Arena, str], Iterator[str]]) -> Strike:
        strike = contextmanager(function)
        CATALOGUE[name] = Kind(
            name, number, strike, on, holds, may, on_postgresql, aims, brings,
            needs_disk, on_request,
        )  # fmt: skip
        return strike

    return register


# Death


@fault("kill-worker", "F1", "loses", "overlaps", "must-lose")
def kill_worker(arena: Arena, name: str) -> Iterator[str]:
    """All of a worker in one moment: none of its processes sees another die."""
    _wait_until_busy(arena, name)
    worker = arena.fleet.forget(name)
    found = fleet.parts(worker)
    arena.killed.add(name)
    signal_all(found, signal.SIGSTOP)
    yield _killed(found)
    worker.wait(10)


@fault("kill-supervisor", "F5", "interrupts", "loses")
def kill_supervisor(arena: Arena, name: str) -> Iterator[str]:
    _wait_until_busy(arena, name)
    worker = arena.fleet.forget(name)
    left = fleet.parts(worker)
    worker.kill()
    worker.wait(10)
    yield "supervisor"
    wait_gone(left, arena.bounds.kill + 10)


@fault("kill-ledger", "F20", "loses", "interrupts")
def kill_ledger(arena: Arena, name: str) -> Iterator[str]:
    _wait_until_busy(arena, name)
    arena.fleet.ledger_deaths[name] += 1
    yield _killed(_victims(lambda: fleet.ledgers(arena.fleet.workers[name])))


@fault("kill-runner", "F20", "loses")
def kill_runner(arena: Arena, name: str) -> Iterator[str]:
    _wait_until_busy(arena, name)
    yield _killed(_one(arena, lambda: fleet.runners(arena.fleet.workers[name])))


@fault("kill-ledger-and-runners", "F4", "loses", "interrupts")
def kill_ledger_and_runners(arena: Arena, name: str) -> Iterator[str]:
    _wait_until_busy(arena, name)
    arena.fleet.ledger_deaths[name] += 1
    found = _victims(lambda: fleet.parts(arena.fleet.workers[name])[1:])
    signal_all(found, signal.SIGSTOP)
    yield _killed(found)


@fault("kill-command", "F16", "fails")
def kill_command(arena: Arena, name: str) -> Iterator[str]:
    yield _killed(_one(arena, lambda: fleet.commands(arena.site, name)))


@fault("kill-client", "F78", aims=False)
def kill_client(arena: Arena, _: str) -> Iterator[str]:
    client = arena.client
    if client is None or client.poll() is not None:
        yield ""
        return
    client.kill()
    client.wait(10)
    yield f"client {client.pid}"


# Orderly ends


@fault("stop-by-signal", "F11", "interrupts")
def stop_by_signal(arena: Arena, name: str) -> Iterator[str]:
    _wait_until_busy(arena, name)
    worker = arena.fleet.forget(name)
    worker.terminate()
    limit = arena.bounds.grace + arena.bounds.kill + 5
    code = worker.wait(limit + 5)
    if code != 0:
        arena.fleet.complaints.append(f"{name} was asked to stop and ended with {code}")
    yield f"ended with {code}"


@fault("stop-by-two-signals", "F14", "interrupts")
def stop_by_two_signals(arena: Arena, name: str) -> Iterator[str]:
    _wait_until_busy(arena, name)
    worker = arena.fleet.forget(name)
    for number in (signal.SIGTERM, signal.SIGINT):
        worker.send_signal(number)
    code = worker.wait(arena.bounds.kill + 10)
    if code not in (0, 130):  # the two may arrive as one
        arena.fleet.complaints.append(f"{name} was told twice to stop and ended with {code}")
    yield f"ended with {code}"


# Standing still


@fault("pause-short", "F7", "stands", holds=2)
def pause_short(arena: Arena, name: str) -> Iterator[str]:
    yield from _paused(fleet.parts(arena.fleet.workers[name]))


@fault(
    "pause-long",
    "F8",
    "stands",
    holds=9,
    on_postgresql=("loses", "interrupts", "overlaps", "others-flow"),
)
def pause_long(arena: Arena, name: str) -> Iterator[str]:
    _wait_until_busy(arena, name)
    yield from _paused(fleet.parts(arena.fleet.workers[name]))


@fault("pause-ledger", "F8", "stands", "loses", "interrupts", holds=9)
def pause_ledger(arena: Arena, name: str) -> Iterator[str]:
    arena.fleet.ledger_deaths[name] += 1
    yield from _paused(_victims(lambda: fleet.ledgers(arena.fleet.workers[name])))


@fault("pause-runner", "F8", holds=3)
def pause_runner(arena: Arena, name: str) -> Iterator[str]:
    yield from _paused(_one(arena, lambda: fleet.runners(arena.fleet.workers[name])))


@fault("pause-supervisor", "F8", "stands", holds=7)
def pause_supervisor(arena: Arena, name: str) -> Iterator[str]:
    yield from _paused([arena.fleet.workers[name].supervisor()])


@fault("freeze-all", "F10", "away", holds=8, aims=False, on_postgresql=("interrupts",))
def freeze_all(arena: Arena, _: str) -> Iterator[str]:
    yield from _paused([part for w in arena.fleet.workers.values() for part in fleet.parts(w)])


# The machine


@fault(
    "power-loss",
    "F49 F52",
    "loses",
    "interrupts",
    "away",
    holds=2,
    aims=False,
    needs_disk=True,
)
def power_loss(arena: Arena, _: str) -> Iterator[str]:
    """What was not on the disk is gone, and with it every process."""
    assert arena.disk is not None
    calls = arena.site.directory / "client.log"
    before = _acknowledged(calls)
    wait_until(lambda: _acknowledged(calls) >= before + 3, timeout=20)
    everything = [p for p in arena.site.processes() if alive(p)]
    signal_all(everything, signal.SIGSTOP)
    arena.disk.lose_power()
    _killed(everything)
    while left := arena.site.processes():
        _killed(left)  # what one of them had started between the look and its end
    for name in list(arena.fleet.workers):
        arena.fleet.forget(name).wait(10)
    if arena.client is not None:
        arena.client.wait(10)
    if arena.cluster is not None:
        arena.cluster.crash()
    arena.disk.unmount()
    arena.disk.mount()
    if arena.cluster is not None:
        arena.cluster.start_again()
    yield f"{len(everything)} processes"


def _acknowledged(calls: Path) -> int:
    return calls.read_text().count('"phase": "ok"') if calls.exists() else 0


# PostgreSQL

_END_CONNECTIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = %s AND pid <> pg_backend_pid()
"""


@fault("end-connections", "F37", on=POSTGRESQL, aims=False)
def end_connections(arena: Arena, _: str) -> Iterator[str]:
    yield _ended_connections(arena)


@fault("restart-server", "F36", "away", "interrupts", "loses", on=POSTGRESQL, holds=1, aims=False)
def restart_server(arena: Arena, _: str) -> Iterator[str]:
    assert arena.cluster is not None
    arena.cluster.crash()
    try:
        yield "stopped at once"
    finally:
        arena.cluster.start_again()


@fault("outage-short", "F36", "away", "interrupts", on=POSTGRESQL, holds=1.5, aims=False)
def outage_short(arena: Arena, _: str) -> Iterator[str]:
    yield from _refused(arena)


@fault("outage-long", "F40", "away", "interrupts", "loses", on=POSTGRESQL, holds=8, aims=False)
def outage_long(arena: Arena, _: str) -> Iterator[str]:
    yield from _refused(arena)


@fault(
    "cut-off", "F40", "interrupts", "loses", "others-flow", on=POSTGRESQL, holds=9,
)  # fmt: skip
def cut_off(arena: Arena, name: str) -> Iterator[str]:
    """One worker cannot reach the database; the others can."""
    proxy = arena.fleet.proxies[name]
    _wait_until_busy(arena, name)
    proxy.refuses = True
    try:
        ended = proxy.cut()
        yield f"{ended} connections" if ended else ""
    finally:
        proxy.refuses = False


@fault(
    "back-after-judgement",
    "F8",
    "interrupts",
    "away",
    on=POSTGRESQL,
    holds=4,
    aims=False,
    on_request=True,
)
def back_after_judgement(arena: Arena, _: str) -> Iterator[str]:
    """Workers come back between being found silent and being rescued."""
    text = "before_rescue:sleep=3"
    before = list(arena.fleet.workers.values())
    slow = arena.fleet.start("x", CHAOS_FAILPOINT=text, CHAOS_MARKERS=str(arena.markers))
    arena.fleet.wait_ready([slow])
    found = [part for worker in before for part in fleet.parts(worker)]
    signal_all(found, signal.SIGSTOP)
    marker = arena.markers / text.replace(":", "-")
    with suppress(AssertionError):
        wait_until(marker.exists, timeout=arena.bounds.lease + 5)
    signal_all(found, signal.SIGCONT)
    yield f"judged by {slow}" if marker.exists() else ""
    worker = arena.fleet.forget(slow)
    worker.terminate()
    worker.wait(20)


@fault("silence", "F41", "interrupts", "loses", "away", on=POSTGRESQL, holds=3)
def silence(arena: Arena, name: str) -> Iterator[str]:
    """Nothing of what one worker and the server say arrives, and nothing says so."""
    proxy = arena.fleet.proxies[name]
    proxy.flows.clear()
    try:
        yield "nothing flowed"
    finally:
        proxy.flows.set()


@fault("lost-commit-reply", "F38", on=POSTGRESQL, holds=2)
def lost_commit_reply(arena: Arena, name: str) -> Iterator[str]:
    yield from _lost_replies(arena, name)


@fault("lost-enqueue-reply", "F38", on=POSTGRESQL, holds=2, aims=False)
def lost_enqueue_reply(arena: Arena, _: str) -> Iterator[str]:
    yield from _lost_replies(arena, "client")


@fault("locked-rows", "F45", "others-flow", on=POSTGRESQL, holds=5, aims=False)
def locked_rows(arena: Arena, _: str) -> Iterator[str]:
    """An operator's transaction holds rows that come next, or soon."""
    with psycopg.connect(arena.site.database_url) as connection:
        rows = wait_until(
            lambda: connection.execute(
                "SELECT id FROM queuectl_job WHERE state IN ('pending', 'failed', 'scheduled') "
                "ORDER BY due_at LIMIT 5 FOR UPDATE SKIP LOCKED"
            ).fetchall(),
            timeout=15,
        )
        yield f"{len(rows)} rows"
        with suppress(psycopg.Error):
            connection.rollback()


# SQLite


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


@fault("disk-full", "F58", "away", on=SQLITE, holds=3, aims=False, needs_disk=True)
def disk_full(arena: Arena, _: str) -> Iterator[str]:
    assert arena.disk is not None
    filler = arena.disk.path / "filler"
    size = 0
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            size += file.write(bytes(4096))
    try:
        yield f"{size} bytes more"
    finally:
        filler.unlink()


# Failpoints: a worker more, that dies, stops or fails at one place inside

_RUNNERS = ("before_start", "after_start", "after_exit")


def _failpoint(text: str) -> None:
    place, action = text.split(":")
    rescues = "rescue" in place
    consequences = ("loses", "interrupts")
    if action == "raise" and place not in _RUNNERS and place != "boot":
        consequences = ()
    if rescues:
        consequences = ("loses", "interrupts", "overlaps", "away")

    def strike(arena: Arena, _: str) -> Iterator[str]:
        name = arena.fleet.start(
            f"x{arena.fleet.started}", CHAOS_FAILPOINT=text, CHAOS_MARKERS=str(arena.markers)
        )
        marker = arena.markers / text.replace(":", "-")
        if rescues:
            arena.fleet.wait_ready([name])
            _leave_alone(arena, name)
        with suppress(AssertionError):
            wait_until(marker.exists, timeout=10)
        pids = marker.read_text().split() if marker.exists() else []
        yield f"{name} {pids}" if pids else ""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGCONT)
        worker = arena.fleet.forget(name)
        worker.terminate()
        worker.wait(arena.bounds.grace + arena.bounds.kill + 20)
        # Not before: without it the next process to come by would think it the first.
        marker.unlink(missing_ok=True)

    holds = 6.0 if action.startswith("stop") else 0.5
    fault(f"failpoint {text}", "F2", *consequences, holds=holds, brings=not rescues, aims=False)(
        strike
    )


def _leave_alone(arena: Arena, name: str) -> None:
    """All other workers die with what they run, so that this one has to rescue it."""
    others = [other for other in arena.fleet.workers if other != name]
    arena.killed.update(others)
    found = [part for other in others for part in fleet.parts(arena.fleet.workers[other])]
    signal_all(found, signal.SIGSTOP)
    _killed(found)
    for other in others:
        arena.fleet.forget(other).wait(10)


for _place in failpoints.PLACES:
    # A place that few pass: maintenance and time have faults and tests of their own.
    if _place not in ("in_prune", "before_rescue", "after_release_commit"):
        for _action in ("kill9", "stop", "raise"):
            _failpoint(f"{_place}:{_action}")


# How


def _wait_until_busy(arena: Arena, name: str) -> None:
    """Until that worker has a job that will not be over in a moment, or has none to have."""

    def busy() -> bool:
        now = time.time()
        return any(now - p.create_time() > 0.1 for p in fleet.commands(arena.site, name))

    with suppress(AssertionError, psutil.NoSuchProcess):
        wait_until(busy, timeout=3)


Find = Callable[[], list[psutil.Process]]


def _victims(find: Find) -> list[psutil.Process]:
    """Those that are there, or soon: a worker may have been started a moment ago."""
    with suppress(AssertionError):
        return wait_until(find, timeout=5)
    return []


def _one(arena: Arena, find: Find) -> list[psutil.Process]:
    found = _victims(find)
    return [arena.rng.choice(found)] if found else []


def _killed(found: list[psutil.Process]) -> str:
    signal_all(found, signal.SIGKILL)
    wait_gone(found, 10)
    return f"killed {[process.pid for process in found]}" if found else ""


def _paused(found: list[psutil.Process]) -> Iterator[str]:
    signal_all(found, signal.SIGSTOP)
    stopped = [p for p in found if alive(p)]
    try:
        yield f"stopped {[process.pid for process in stopped]}" if stopped else ""
    finally:
        signal_all(found, signal.SIGCONT)


def _ended_connections(arena: Arena) -> str:
    databases = arena.site.databases
    assert isinstance(databases, PostgresDatabases)
    name = arena.site.database_url.rsplit("/", 1)[1]
    [[ended]] = databases.query(databases.maintenance, _END_CONNECTIONS, [name])
    return f"{ended} connections" if ended else ""


def _refused(arena: Arena) -> Iterator[str]:
    databases = arena.site.databases
    assert isinstance(databases, PostgresDatabases)
    name = arena.site.database_url.rsplit("/", 1)[1]
    databases.execute("ALTER DATABASE {} ALLOW_CONNECTIONS false", name)
    try:
        yield _ended_connections(arena) or "nobody was connected"
    finally:
        databases.execute("ALTER DATABASE {} ALLOW_CONNECTIONS true", name)


def _lost_replies(arena: Arena, name: str) -> Iterator[str]:
    proxy = arena.fleet.proxies[name]
    before = proxy.commits_lost
    proxy.commits_to_lose = 2
    with suppress(AssertionError):
        wait_until(lambda: proxy.commits_lost > before, timeout=5)
    lost = proxy.commits_lost - before
    yield f"{lost} replies" if lost else ""
    proxy.commits_to_lose = 0
