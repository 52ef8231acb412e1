"""Transactions, the time in them, and how long they may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import OperationalError, transaction

from .. import clock, conf
from ..exceptions import TooBroad
from .base import alias, connection, is_postgresql
from .errors import is_cut_short

STATEMENT_SECONDS, LOCK_SECONDS, CONNECT_SECONDS = 5, 1, 5
"""How long the ledger waits for one statement, one lock, one connection."""

_STEPS = 10_000
"""Of SQLite's machine, between two looks at the clock: less than a millisecond."""

IDLE_SECONDS, SHORTEST_IDLE_SECONDS = 5.0, 1.0
"""The longest and the shortest that the server waits for the next statement of a turn."""


def now() -> datetime:
    """The database's time: one clock for all hosts. Inside a transaction too it goes on."""
    if not is_postgresql():
        return clock.now()
    with connection().cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


@contextmanager
def atomic() -> Iterator[None]:
    """A transaction on the queue's database, joining the caller's.

    SQLite takes the write lock first (BEGIN IMMEDIATE), also where the host's settings do not
    say so: a read that turns into a write fails at once with BUSY_SNAPSHOT, whatever the timeout.
    The host's next transaction begins as its settings say.
    """
    with _begun("IMMEDIATE"), transaction.atomic(using=alias()):
        yield


@contextmanager
def _begun(mode: str) -> Iterator[None]:
    """On SQLite a transaction that begins in here does so in this mode."""
    base = connection()
    base.ensure_connection()  # which reads the mode from the settings
    if is_postgresql() or base.in_atomic_block:
        yield
        return
    before, base.transaction_mode = getattr(base, "transaction_mode", None), mode
    try:
        yield
    finally:
        base.transaction_mode = before


@contextmanager
def statement() -> Iterator[None]:
    """For a single one: a transaction by itself, or a part of the caller's that can fail alone."""
    if not connection().in_atomic_block:
        yield
        return
    with transaction.atomic(using=alias()):
        yield


@contextmanager
def one_view() -> Iterator[None]:
    """Reads that all see the database as it was at one moment; no write lock is taken."""
    base = connection()
    if base.in_atomic_block:
        yield
        return
    with _begun("DEFERRED"), transaction.atomic(using=alias()):
        if is_postgresql():
            with base.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


_TIMEOUT = """
SELECT set, extract(epoch FROM set::interval) FROM current_setting('statement_timeout') AS its(set)
"""
"""The site's own, as it is written and in seconds; 0 where there is none."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Reads for which somebody waits: together on SQLite, each alone on PostgreSQL, they have that long.

    Raises TooBroad. A transaction of the caller's goes on.
    """
    bounded = _bounded_by_server if is_postgresql() else _bounded_by_us
    try:
        with bounded(seconds):
            yield
    except OperationalError as error:
        if not is_cut_short(error):
            raise
        raise TooBroad from None


@contextmanager
def _bounded_by_server(seconds: float) -> Iterator[None]:
    with transaction.atomic(using=alias()), connection().cursor() as cursor:
        cursor.execute(_TIMEOUT)
        before, its_seconds = cursor.fetchone()
        _set_timeout(cursor, f"{int(1000 * min(seconds, float(its_seconds) or seconds))}ms")
        yield
        _set_timeout(cursor, before)


def _set_timeout(cursor: Any, value: str) -> None:
    cursor.execute("SELECT set_config('statement_timeout', %s, true)", [value])


@contextmanager
def _bounded_by_us(seconds: float) -> Iterator[None]:
    base, until = connection(), clock.monotonic() + seconds
    base.ensure_connection()
    base.connection.set_progress_handler(lambda: clock.monotonic() > until, _STEPS)
    try:
        yield
    finally:
        if base.connection is not None:
            base.connection.set_progress_handler(None, _STEPS)


def in_transaction() -> bool:
    """Whether the caller is inside a transaction, which may yet be rolled back."""
    return bool(connection().in_atomic_block)


def give_up() -> None:
    """Whatever becomes of the caller's transaction, it does not commit."""
    if in_transaction():
        transaction.set_rollback(True, using=alias())


def on_commit(function: Any) -> None:
    transaction.on_commit(function, using=alias())


@contextmanager
def turn() -> Iterator[datetime]:
    """One bounded transaction of the ledger; gives the database's time.

    On PostgreSQL the server ends it if this process stands still inside, long before its lease may run
    out: it would keep its rows locked, which nobody could rescue then, and what it claimed after a
    rescue would belong to nobody. On SQLite nobody can rescue meanwhile, for the write lock is ours.

    The bounds are set per transaction on PostgreSQL: a pooler in transaction mode forgets what a
    session set.
    """
    with atomic():
        yield _bounded_now(connection())


@contextmanager
def look() -> Iterator[datetime]:
    """Reads of a worker, in PostgreSQL bounded like a turn; gives the database's time.

    Else one would wait as long as somebody holds a lock on the table, a migration for example. On
    SQLite a reader waits for nobody, and a transaction would take the write lock.
    """
    if not is_postgresql():
        yield clock.now()
        return
    with turn() as now:
        yield now


def _bounded_now(connection: Any) -> datetime:
    if not is_postgresql():
        return clock.now()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT clock_timestamp(), set_config('statement_timeout', %s, true),"
            " set_config('lock_timeout', %s, true),"
            " set_config('idle_in_transaction_session_timeout', %s, true)",
            [f"{STATEMENT_SECONDS}s", f"{LOCK_SECONDS}s", f"{_idle_milliseconds()}ms"],
        )
        moment: datetime = cursor.fetchone()[0]
    return moment


def _read_committed() -> Any:
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    return IsolationLevel.READ_COMMITTED


def _idle_milliseconds() -> int:
    """A turn begins at most a heartbeat after the lease was renewed."""
    settings = conf.get()
    rest = settings.LEASE_SECONDS - settings.FENCE_MARGIN_SECONDS - settings.HEARTBEAT_SECONDS
    return int(1000 * max(SHORTEST_IDLE_SECONDS, min(IDLE_SECONDS, rest)))


def bound_waits() -> None:
    """Called once by a ledger process before it connects: no call may block it for long, or fail for
    what others do beside it.
    """
    base = connection()
    settings = base.settings_dict
    # With DEBUG on Django keeps the text of every statement, which a worker would do for days.
    base.make_debug_cursor = base.make_cursor
    options = settings["OPTIONS"] = {**settings.get("OPTIONS", {})}
    if is_postgresql():
        options["connect_timeout"] = CONNECT_SECONDS
        options |= {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
        options["tcp_user_timeout"] = STATEMENT_SECONDS * 1000
        # Where the site or the server says serializable, what workers do side by side would fail, the
        # heartbeat with it, until a lease is over. Each statement holds its own here.
        options["isolation_level"] = _read_committed()
        # One connection for as long as it lives, which Django allows without a pool only.
        options.pop("pool", None)
        settings["CONN_MAX_AGE"] = None
    else:
        options["timeout"] = LOCK_SECONDS
