"""Everything SQLite and PostgreSQL do differently, asked by feature and not by name.

Raw SQL lives here; only `transfer/bulk.py`, which loads a whole spool, has some of its own.
"""

from .base import (
    VENDORS,
    alias,
    can_notify,
    close,
    connection,
    database_file,
    describe,
    empty_turn_is_free,
    file_identity,
    in_use,
    is_in_memory,
    is_too_old,
    tidy,
    workers_share_a_host,
)
from .bulk import insert_rows, update_rows
from .claims import pending, survey, take
from .durability import weaknesses
from .enqueueing import Known, insert_at_once, know
from .errors import (
    has_no_room,
    is_bad_data,
    is_beyond_python,
    is_damaged,
    is_disk_full,
    is_lock_wait,
    is_no_time,
    is_not_migrated,
    is_taken,
    is_trouble,
)
from .lookups import AsStored, IsTime, begins_with
from .schema import unapplied
from .transactions import (
    STATEMENT_SECONDS,
    atomic,
    bound_waits,
    give_up,
    in_transaction,
    look,
    now,
    on_commit,
    one_view,
    statement,
    turn,
)
from .values import as_json, as_seconds, as_text, as_time, no_times, zone
from .wakeups import data_version, listener, notify

__all__ = [
    "STATEMENT_SECONDS",
    "VENDORS",
    "AsStored",
    "IsTime",
    "Known",
    "alias",
    "as_json",
    "as_seconds",
    "as_text",
    "as_time",
    "atomic",
    "begins_with",
    "bound_waits",
    "can_notify",
    "close",
    "connection",
    "data_version",
    "database_file",
    "describe",
    "empty_turn_is_free",
    "file_identity",
    "give_up",
    "has_no_room",
    "in_transaction",
    "in_use",
    "insert_at_once",
    "insert_rows",
    "is_bad_data",
    "is_beyond_python",
    "is_damaged",
    "is_disk_full",
    "is_in_memory",
    "is_lock_wait",
    "is_no_time",
    "is_not_migrated",
    "is_taken",
    "is_too_old",
    "is_trouble",
    "know",
    "listener",
    "look",
    "no_times",
    "notify",
    "now",
    "on_commit",
    "one_view",
    "pending",
    "statement",
    "survey",
    "take",
    "tidy",
    "turn",
    "unapplied",
    "update_rows",
    "weaknesses",
    "workers_share_a_host",
    "zone",
]  # fmt: skip
