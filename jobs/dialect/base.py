"""The connection, and what its database can do."""

from __future__ import annotations

import logging
import select
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.db import connections, models

from .. import conf

logger = logging.getLogger(__name__)

VENDORS = ("sqlite", "postgresql")


def alias() -> str:
    return conf.get().DATABASE


def connection() -> Any:
    return connections[alias()]


def is_postgresql() -> bool:
    return bool(connection().vendor == "postgresql")


# What the database can do


def workers_share_a_host() -> bool:
    """True where every worker is on this machine, so that its lock file alone says who lives."""
    return not is_postgresql()


def empty_turn_is_free() -> bool:
    """Whether a turn that finds nothing to do locks and writes nothing; else it takes the one write lock."""
    return is_postgresql()


def can_notify() -> bool:
    return is_postgresql()


def database_file() -> Path | None:
    """The file that holds the queue; None for a server, or for a database in memory."""
    base = connection()
    if is_postgresql() or base.is_in_memory_db():
        return None
    return Path(base.settings_dict["NAME"]).resolve()


def file_identity() -> tuple[int, int] | None:
    """Which file is at the database's path now, by device and number; None for a server, or none there."""
    file = database_file()
    try:
        found = file.stat() if file else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None


def describe() -> str:
    """The database in a few words, for people; never a password."""
    settings = connection().settings_dict
    if file := database_file():
        return f"sqlite {file.name}"
    if not is_postgresql():
        return "sqlite in memory"
    host = settings.get("HOST") or "local socket"
    return f"postgresql {settings['NAME']} on {host}"


def is_in_memory() -> bool:
    return not is_postgresql() and database_file() is None


def is_too_old() -> str:
    """What is too old for a worker, with the version that is not; "" where nothing is."""
    if is_postgresql() or sqlite3.sqlite_version_info >= (3, 35):
        return ""
    return f"SQLite {sqlite3.sqlite_version} is too old: a worker needs 3.35, which has RETURNING"


def in_use() -> bool:
    """Whether this process has ever opened a connection; a fork would share it."""
    return any(c.connection is not None for c in connections.all(initialized_only=True))


def close() -> None:
    connections.close_all()


def forget_broken(alias: str) -> None:
    """A connection that failed is made anew for its next use, unless a transaction is open in it."""
    if not connections[alias].in_atomic_block:
        connections[alias].close_if_unusable_or_obsolete()


def tidy(*, idle: bool) -> None:
    """After a task: drop connections that broke, were cut or left in a transaction.

    When `idle`, old ones too. Not after each, as Django does after a request: without CONN_MAX_AGE
    that would mean to connect anew for every task. One whose closing fails is logged and forgotten.
    """
    for connection in connections.all(initialized_only=True):
        try:
            _tidy(connection, idle)
        except Exception:
            logger.exception("the connection %r could not be closed properly", connection.alias)
            del connections[connection.alias]


def _tidy(connection: Any, idle: bool) -> None:
    if connection.connection is None:
        return
    if connection.in_atomic_block or not connection.get_autocommit():
        connection.close()
        # A wrapper that was closed within a block can never be used again.
        del connections[connection.alias]
    else:
        if not connection.errors_occurred and _may_be_cut(connection):
            connection.errors_occurred = True  # so that Django asks whether it is of use yet
        if idle or connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()
    connection.queries_log.clear()


def _may_be_cut(connection: Any) -> bool:
    """Whether a PostgreSQL server has said something unasked: a farewell, as a rule."""
    if connection.vendor != "postgresql":
        return False
    if connection.connection.closed:
        return True  # and has no socket any more
    socket = select.poll()  # not select(), which knows no descriptor above 1023
    socket.register(connection.connection, select.POLLIN)
    return bool(socket.poll(0))


# Columns


def fields_of(model: type[models.Model], names: Sequence[str]) -> list[Any]:
    return [model._meta.get_field(name) for name in names]


def quoted(fields: Sequence[Any]) -> list[str]:
    return [f'"{field.column}"' for field in fields]
