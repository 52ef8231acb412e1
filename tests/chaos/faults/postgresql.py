"""A server that is away, slow, or says nothing, and connections that are cut or used up."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg

from tests.acceptance.databases import PostgresDatabases
from tests.acceptance.site import alive, signal_all, wait_gone
from tests.chaos import client, collect, fleet
from tests.chaos.checker import FINAL
from tests.chaos.faults.kinds import (
    POSTGRESQL,
    Arena,
    cancel,
    enqueue_more,
    fault,
    killed,
    started_by,
    stop_in_order,
    wait_until_busy,
)
from tests.chaos.history import Effect, now
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
    with _refused(arena) as ended:
        yield ended


@fault("outage-long", "F40", "away", "interrupts", "loses", on=POSTGRESQL, holds=8, aims=False)
def outage_long(arena: Arena, _: str) -> Iterator[str]:
    with _refused(arena) as ended:
        yield ended


OUTAGE_SECONDS, BACK_WITHIN = 75, 30.0


@fault(
    "outage-of-minutes", "F36 F40", "away", "interrupts", "loses", on=POSTGRESQL, holds=0, aims=False,
    on_request=True, takes=OUTAGE_SECONDS + 5.0,
)  # fmt: skip
def outage_of_minutes(arena: Arena, _: str) -> Iterator[str]:
    """Longer than any lease and any pause between two tries: who lives then has come back by himself."""
    began = now()
    with _refused(arena) as ended:
        time.sleep(OUTAGE_SECONDS)
    over = now()
    try:
        wait_until(lambda: not _absent(arena), timeout=BACK_WITHIN)
    except AssertionError:
        away = _absent(arena)
        arena.fleet.complaints.append(f"{BACK_WITHIN:g} s after an outage {away} had not come back")
    took = now() - over
    ended_meanwhile = {
        (e.key, e.attempt)
        for e in collect.effects(arena.effects)
        if e.what == "end" and began < e.at < over
    }
    kept = ended_meanwhile & set(arena.site.sql(_KEPT))
    if ended_meanwhile and not kept:
        arena.fleet.complaints.append("none of the outcomes that fell into an outage was kept")
    of = len(ended_meanwhile)
    yield f"{ended}, {OUTAGE_SECONDS} s; all back in {took:.1f} s, {len(kept)} of {of} outcomes kept"


_KEPT = """
SELECT j.key, a.number FROM queuectl_attempt a JOIN queuectl_job j ON j.id = a.job_id
WHERE a.outcome IN ('succeeded', 'failed')
"""


def _absent(arena: Arena) -> set[str]:
    """Workers of which no sign of life is fresh."""
    return set(arena.fleet.workers) - {name for (name,) in arena.site.sql(_PRESENT)}


_PRESENT = """
SELECT name FROM queuectl_worker
WHERE stopped_at IS NULL AND heartbeat_at > clock_timestamp() - interval '2 seconds'
"""


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
    takes=12.0,
)
def back_after_judgement(arena: Arena, _: str) -> Iterator[str]:
    """Workers come back between being found silent and being rescued.

    Who is to rescue them waits for less than its supervisor's patience with its ledger, four seconds.
    """
    text = "before_rescue:sleep=2"
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


@fault(
    "silence-long", "F41", "interrupts", "loses", on=POSTGRESQL, holds=7, aims=False, brings=True
)  # fmt: skip
def silence_long(arena: Arena, _: str) -> Iterator[str]:
    """Silence for longer than a lease, and what was said in it never arrives.

    Its commands must be over before the lease is, and run again; as nobody else serves their queue, by
    the same worker, once it reaches the database anew.
    """
    place = f"silent{arena.fleet.started}"
    worker = arena.fleet.start(place, queue=place)
    arena.fleet.wait_ready([worker])
    keys = enqueue_more(arena, arena.fleet.slots, queue=place, mix={"endless": 1})
    _wait_for_starts(arena, worker, len(keys))
    found, proxy = fleet.commands(arena.site, worker), arena.fleet.proxies[worker]
    arena.struck_at = now()
    proxy.swallow()
    try:
        with suppress(AssertionError):
            wait_gone(found, arena.bounds.lease)
        took = now() - arena.struck_at
        if any(map(alive, found)):
            arena.fleet.complaints.append(f"{worker} ran on in silence for {took:.1f} s")
        yield f"{worker} ended its {len(found)} commands in {took:.1f} s" if found else ""
    finally:
        proxy.swallows = False
        proxy.cut()
    with suppress(AssertionError):
        wait_until(lambda: _all_ended(arena, keys), timeout=60)
    if not _all_ended(arena, keys):
        arena.fleet.complaints.append(f"{worker} had not come back a minute after a silence")
    stop_in_order(arena, worker)


def _all_ended(arena: Arena, keys: list[str]) -> bool:
    query = "SELECT state FROM queuectl_job WHERE key = ANY(%s)"
    return all(state in FINAL for (state,) in arena.site.sql(query, [keys]))


DEAF_JOBS, DEAF_SECONDS, DEAF_HEARTBEAT = 8, 12.0, 2.5


@fault("deaf-listener", "F41 F43", on=POSTGRESQL, holds=0, aims=False, brings=True)
def deaf_listener(arena: Arena, _: str) -> Iterator[str]:
    """What is told to one listener never arrives, and nothing says so: polling finds its jobs.

    Its worker beats seldom: with each heartbeat it would look for jobs as well.
    """
    place = f"deaf{arena.fleet.started}"
    seldom = json.dumps({"HEARTBEAT_SECONDS": DEAF_HEARTBEAT})
    worker = arena.fleet.start(place, queue=place, TEST_QUEUECTL=seldom)
    arena.fleet.wait_ready([worker])
    proxy = arena.fleet.proxies[worker]
    wait_until(proxy.deafen, timeout=10)
    keys = enqueue_more(arena, DEAF_JOBS, queue=place, seconds=DEAF_SECONDS)
    _wait_for_starts(arena, worker, len(keys))
    asked = {call.key: call.began for call in client.calls(arena.calls)}
    waits = {
        e.key: e.at - asked[e.key]
        for e in collect.effects(arena.effects)
        if e.what == "start" and e.key in keys
    }
    may = arena.bounds.poll + 1
    for key in keys:
        if waits.get(key, may + 1) > may:
            arena.fleet.complaints.append(f"{key} waited over {may:g} s for a deaf listener")
    heard = f"{worker} heard nothing of {proxy.swallowed} bytes"
    longest = max(waits.values(), default=0.0)
    yield f"{heard}, longest wait {longest:.2f} s" if proxy.swallowed and waits else ""
    stop_in_order(arena, worker)
    proxy.cut()


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
        rows: list[tuple[int]] = []
        with suppress(AssertionError):  # the client may have had its say before
            rows = wait_until(
                lambda: connection.execute(
                    "SELECT id FROM queuectl_job WHERE state IN ('pending', 'failed', 'scheduled') "
                    "ORDER BY due_at LIMIT 5 FOR UPDATE SKIP LOCKED"
                ).fetchall(),
                timeout=15,
            )
        yield f"{len(rows)} rows" if rows else ""
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


POOL = 2
"""Connections to the server for two workers, which so get another in each transaction."""


@fault(
    "behind-a-pooler", "F51", "interrupts", "loses", "overlaps", on=POSTGRESQL, holds=0, aims=False,
    brings=True, needs=("pooler",),
)  # fmt: skip
def behind_a_pooler(arena: Arena, _: str) -> Iterator[str]:
    """Two workers reach the server through PgBouncer in transaction mode, which is restarted.

    They run what fails and is tried again, what is cancelled, and what is long, which one of them dies of.
    """
    assert arena.cluster is not None
    with Pooler(arena.cluster, arena.site.directory, POOL) as pooler:
        place = f"pooled{arena.fleet.started}"
        url = {"DATABASE_URL": pooler.through(arena.site.database_url)}
        dies, lives = (arena.fleet.start(f"{place}{who}", queue=place, **url) for who in "ab")
        arena.fleet.wait_ready([dies, lives])
        keys = enqueue_more(arena, 16, queue=place, mix=MIX_BEHIND_POOLER, **url)
        pooler.restart()
        # More than one of them has slots for.
        long = enqueue_more(arena, arena.fleet.slots + 2, queue=place, mix={"endless": 1}, **url)
        with suppress(AssertionError):
            wait_until(lambda: len(_begun(arena, long)) == len(long), timeout=20)
        ran = Counter(e.worker for e in _begun(arena, long))
        if not (ran[dies] and ran[lives]):
            yield ""
            return
        for e in [e for e in _begun(arena, long) if e.worker == lives][:1]:
            cancel(arena, e.key, **url)
        arena.killed.add(dies)
        worker = arena.fleet.forget(dies)
        found = fleet.parts(worker)
        arena.struck_at = now()
        signal_all(found, signal.SIGSTOP)
        gone = killed(found)
        worker.wait(10)
        for setting in _leaked(arena, pooler):
            arena.fleet.complaints.append(f"through the pooler others have {setting}")
        with suppress(AssertionError):
            wait_until(lambda: _all_ended(arena, [*keys, *long]), timeout=60)
        [[cancelled]] = arena.site.sql(_CANCELLED, [place])
        had = f"{dies} had {ran[dies]} long jobs and {lives} {ran[lives]}, {cancelled} cancelled"
        yield f"{had}; {gone}" if cancelled else ""
        stop_in_order(arena, lives)


_CANCELLED = "SELECT count(*) FROM queuectl_job WHERE queue = %s AND state = 'cancelled'"
MIX_BEHIND_POOLER = {"quick": 2, "task-quick": 2, "flaky": 2, "task-flaky": 2}
BOUNDS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")


def _begun(arena: Arena, keys: list[str]) -> list[Effect]:
    return [e for e in collect.effects(arena.effects) if e.what == "start" and e.key in keys]


def _leaked(arena: Arena, pooler: Pooler) -> list[str]:
    """What a turn sets for itself alone, where another finds it set on a connection of the pool."""
    settings = f"SELECT {', '.join(f'current_setting({name!r})' for name in BOUNDS)}"
    with ExitStack() as stack:
        open_at_once = [
            stack.enter_context(psycopg.connect(pooler.through(arena.site.database_url)))
            for _ in range(POOL)
        ]
        found = {connection.execute(settings).fetchone() for connection in open_at_once}
    with psycopg.connect(arena.site.database_url) as connection:
        usual = connection.execute(settings).fetchone()
    return [f"{BOUNDS} = {values}, not {usual}" for values in found if values != usual]


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


@contextmanager
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
