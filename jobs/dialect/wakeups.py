"""Hints that something was committed."""

from __future__ import annotations

from typing import Any

from .. import conf
from .base import connection, is_postgresql

CHANNEL = "queuectl"


def notify() -> None:
    """Tell idle workers that something was committed. A hint: losing it costs one poll."""
    if is_postgresql():
        with connection().cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")


def listener() -> Any:
    """A connection of its own that LISTENs, autocommit; its fileno() is readable at a hint.

    To the server itself, where LISTEN_AT names it: a pooler in transaction mode has no session in
    which to LISTEN. There the port is PostgreSQL's own, if none is given, not the pooler's.
    """
    import psycopg

    where = connection().get_connection_params()
    if itself := conf.address(conf.get().LISTEN_AT):
        where = {**where, "hostaddr": None, "port": "5432", **itself}
    listening = psycopg.connect(**where, autocommit=True)
    try:
        listening.execute(f"LISTEN {CHANNEL}")
    except BaseException:
        listening.close()
        raise
    return listening


def data_version() -> int:
    """A number that changes when another connection has committed; SQLite only. 7 us."""
    with connection().cursor() as cursor:
        cursor.execute("PRAGMA data_version")
        version: int = cursor.fetchone()[0]
    return version
