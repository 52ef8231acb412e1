"""What an error of the database means."""

from __future__ import annotations

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError

from ..exceptions import UnreadableRow

_SQLITE_FULL = 13
_POSTGRESQL_FULL = "53100"
_SQLITE_BUSY, _POSTGRESQL_LOCKED = 5, "55P03"
_SQLITE_INTERRUPTED, _POSTGRESQL_CANCELLED = 9, "57014"
_SQLITE_UNIQUE, _POSTGRESQL_UNIQUE = 2067, "23505"
_SQLITE_DAMAGED, _POSTGRESQL_DAMAGED = (11, 26), ("XX001", "XX002")
"""A page that cannot be right, or a file that is no database; data or an index that cannot be read."""


def is_bad_data(error: Exception) -> bool:
    """The rows are at fault, and would be again: report them one by one."""
    kinds = DataError | IntegrityError | ValueError | TypeError | OverflowError | RecursionError
    return isinstance(error, kinds | UnreadableRow) or is_no_text(error)


def is_no_text(error: Exception) -> bool:
    """SQLite keeps as a text what is no UTF-8, and its driver has found such."""
    return isinstance(error, OperationalError) and "Could not decode to UTF-8" in str(error)


def is_beyond_python(error: DataError) -> bool:
    """The driver can make no value of what the server sent: PostgreSQL's infinity is no time of Python's."""
    cause = error.__cause__
    return not (getattr(cause, "sqlstate", None) or hasattr(cause, "sqlite_errorcode"))


def is_no_time(error: DatabaseError) -> bool:
    """A statement has reckoned with what is no time, or with one for which there are no numbers."""
    return isinstance(error, DataError) or "user-defined function" in str(error)


def is_cut_short(error: DatabaseError) -> bool:
    """Somebody's deadline has ended the statement; the connection is as good as before."""
    cause = error.__cause__
    state, code = getattr(cause, "sqlstate", None), getattr(cause, "sqlite_errorcode", None)
    return state == _POSTGRESQL_CANCELLED or code == _SQLITE_INTERRUPTED


def is_taken(error: Exception, table: str) -> bool:
    """A row of this table has a key already that may be there but once."""
    cause = error.__cause__
    if getattr(cause, "sqlstate", None) == _POSTGRESQL_UNIQUE:
        return bool(cause.diag.table_name == table)  # type: ignore[union-attr]
    return getattr(cause, "sqlite_errorcode", None) == _SQLITE_UNIQUE and f"{table}." in str(error)


def is_trouble(error: Exception) -> bool:
    """The database is busy, full or away: wait and try again."""
    return isinstance(error, OperationalError | InterfaceError) or (
        isinstance(error, DatabaseError) and not is_bad_data(error)
    )


def is_disk_full(error: Exception) -> bool:
    """SQLite has found no room to write to; its connection is as good as before."""
    return getattr(error.__cause__, "sqlite_errorcode", None) == _SQLITE_FULL


def is_lock_wait(error: Exception) -> bool:
    """Somebody held a lock for longer than we wait; the connection is as good as before."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0)
    return code & 0xFF == _SQLITE_BUSY or (
        getattr(error.__cause__, "sqlstate", None) == _POSTGRESQL_LOCKED
    )


def has_no_room(error: Exception) -> bool:
    """Either database has found no room to write to."""
    return is_disk_full(error) or getattr(error.__cause__, "sqlstate", None) == _POSTGRESQL_FULL


def is_damaged(error: BaseException) -> bool:
    """What is stored cannot be read, and will not be however often it is tried."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0)
    return code & 0xFF in _SQLITE_DAMAGED or (
        getattr(error.__cause__, "sqlstate", None) in _POSTGRESQL_DAMAGED
    )


def is_not_migrated(error: Exception) -> bool:
    """A table or a column is missing; a missing database, role or schema is something else."""
    state = getattr(error.__cause__, "sqlstate", None)
    if state is not None:
        return state in ("42P01", "42703")
    return "no such table" in str(error) or "no such column" in str(error)
