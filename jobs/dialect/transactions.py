"""Transactions, the time in them, and how long they may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import transaction

from .. import clock
from .base import alias, connection, is_postgresql

STATEMENT_SECONDS, LOCK_SECONDS, CONNECT_SECONDS = 5, 1, 5
"""How long the ledger waits for one statement, one lock, one connection."""


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
    """
    base = connection()
    base.ensure_connection()
    if not is_postgresql() and not base.in_atomic_block:
        base.transaction_mode = "IMMEDIATE"
    with transaction.atomic(using=alias()):
        yield


@contextmanager
def one_view() -> Iterator[None]:
    """Reads that all see the database as it was at one moment; no write lock is taken."""
    base = connection()
    base.ensure_connection()
    if base.in_atomic_block:
        yield
        return
    mode = getattr(base, "transaction_mode", None)
    if not is_postgresql():
        base.transaction_mode = "DEFERRED"
    try:
        with transaction.atomic(using=alias()):
            if is_postgresql():
                with base.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
    finally:
        if not is_postgresql():
            base.transaction_mode = mode


def in_transaction() -> bool:
    """Whether the caller is inside a transaction, which may yet be rolled back."""
    return bool(connection().in_atomic_block)


def on_commit(function: Any) -> None:
    transaction.on_commit(function, using=alias())


@contextmanager
def turn() -> Iterator[datetime]:
    """One bounded transaction of the ledger; gives the database's time.

    The bounds are set per transaction on PostgreSQL: a pooler in transaction mode forgets what a
    session set.
    """
    with atomic():
        yield _bounded_now(connection())


def _bounded_now(connection: Any) -> datetime:
    if not is_postgresql():
        return clock.now()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT clock_timestamp(), set_config('statement_timeout', %s, true),"
            " set_config('lock_timeout', %s, true)",
            [f"{STATEMENT_SECONDS}s", f"{LOCK_SECONDS}s"],
        )
        moment: datetime = cursor.fetchone()[0]
    return moment


def bound_waits() -> None:
    """Called once by a ledger process before it connects: no call may block it for long."""
    base = connection()
    settings = base.settings_dict
    # With DEBUG on Django keeps the text of every statement, which a worker would do for days.
    base.make_debug_cursor = base.make_cursor
    options = settings["OPTIONS"] = {**settings.get("OPTIONS", {})}
    if is_postgresql():
        options["connect_timeout"] = CONNECT_SECONDS
        options |= {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
        options["tcp_user_timeout"] = STATEMENT_SECONDS * 1000
        settings["CONN_MAX_AGE"] = None
    else:
        options["timeout"] = LOCK_SECONDS
