"""A server that is away, slow, or says nothing, and connections that are cut or used up."""

import signal
from collections.abc import Iterator
from contextlib import suppress

import psycopg

from tests.acceptance.databases import PostgresDatabases
from tests.acceptance.site import signal_all
from tests.chaos import fleet
from tests.chaos.faults.kinds import (
    POSTGRESQL,
    Arena,
    enqueue_more,
    fault,
    started_by,
    stop_in_order,
    wait_until_busy,
)
from tests.chaos.place import Pooler
from tests.chaos.standby import Standby
from tests.support import wait_until

_END_CONNECTIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = %s AND pid <> pg_backend_pid()
"""


@fault("end-connections", "F37", on=POSTGRESQL, aims=False)
def end_connections(arena: Arena, _: str) -> Iterator[str]:
    yield ended_connections(arena)


@fault("restart-server", "F36", "away", "interrupts", "loses", on=POSTGRESQL, holds=1, aims=False)
def restart_server(arena: Arena, _: str) -> Iterator[str]:
    assert arena.cluster is not None
    arena.cluster.crash()
    try:
        yield "stopped at once"
    finally:
        arena.cluster.start_again()


@fault(
    "failover", "F50", "away", "interrupts", "loses", on=POSTGRESQL, holds=5, aims=False,
    needs=("standby",),
)  # fmt: skip
def failover(arena: Arena, _: str) -> Iterator[str]:
    """The server dies, and a standby that had every commit takes its place."""
    assert arena.cluster is not None
    before = _line_of_time(arena)
    with Standby(arena.cluster) as standby:
        standby.take_over()
    after = _line_of_time(arena)
    yield f"from timeline {before} to {after}" if after > before else ""


def _line_of_time(arena: Arena) -> int:
    with psycopg.connect(arena.site.database_url) as connection:
        found = connection.execute(_LINE_OF_TIME).fetchone()
    return int(found[0]) if found else 0


_LINE_OF_TIME = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"


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
    wait_until_busy(arena, name)
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


@fault("old-snapshot", "F46", "others-flow", on=POSTGRESQL, holds=6, aims=False)
def old_snapshot(arena: Arena, _: str) -> Iterator[str]:
    """A transaction that was opened long ago keeps every dead row."""
    with psycopg.connect(arena.site.database_url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM queuectl_job")
        [xmin] = connection.execute(
            "SELECT backend_xmin FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone() or [None]
        yield f"xmin {xmin}" if xmin else ""
        with suppress(psycopg.Error):
            connection.rollback()


@fault(
    "no-connections-left", "F47", "away", "interrupts", "loses", on=POSTGRESQL, holds=4, aims=False
)  # fmt: skip
def no_connections_left(arena: Arena, _: str) -> Iterator[str]:
    """Somebody has every connection that the server gives, and workers have lost theirs."""
    held: list[psycopg.Connection[object]] = []

    def take_all() -> None:
        with suppress(psycopg.OperationalError):
            while True:
                held.append(psycopg.connect(arena.site.database_url))  # type: ignore[arg-type]

    try:
        take_all()
        held[0].execute(_END_OTHERS, [[c.info.backend_pid for c in held]])
        held[0].commit()
        take_all()
        yield f"{len(held)} connections"
    finally:
        for connection in held:
            connection.close()


_END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> ALL(%s)
"""


@fault(
    "behind-a-pooler", "F51", "interrupts", "loses", on=POSTGRESQL, holds=5, aims=False, brings=True,
    needs=("pooler",),
)  # fmt: skip
def behind_a_pooler(arena: Arena, _: str) -> Iterator[str]:
    """A worker reaches the server through PgBouncer in transaction mode, which is restarted twice."""
    assert arena.cluster is not None
    with Pooler(arena.cluster, arena.site.directory) as pooler:
        name = f"pooled{arena.fleet.started}"
        url = pooler.through(arena.site.database_url)
        worker = arena.fleet.start(name, queue=name, DATABASE_URL=url)
        arena.fleet.wait_ready([worker])
        started = [0]
        for _ in range(2):
            enqueue_more(arena, 8, queue=name, DATABASE_URL=url)
            started.append(_wait_for_starts(arena, worker, started[-1] + 8))
            pooler.restart()
        _, first, second = started
        yield f"{worker} started {first} and {second - first} jobs" if 0 < first < second else ""
        stop_in_order(arena, worker)


def _wait_for_starts(arena: Arena, worker: str, number: int) -> int:
    """How many it has begun, once there are that many or it takes too long."""
    with suppress(AssertionError):
        wait_until(lambda: started_by(arena, worker) >= number, timeout=20)
    return started_by(arena, worker)


# How


def ended_connections(arena: Arena) -> str:
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
        yield ended_connections(arena) or "nobody was connected"
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
