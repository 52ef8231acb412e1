"""What a format makes of one entry of its file: rows for the spool, and settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from . import bulk

JSON_COLUMNS = frozenset({"argv", "args", "env", "exit_codes", "result"})


@dataclass(frozen=True, slots=True)
class Record:
    """Values by column, ready for the database. An attempt or output is of the job before it."""

    kind: Literal["job", "attempt", "output", "queue", "setting", "end"]
    key: str
    """The id of the job, or the name of the queue or setting."""

    values: dict[str, Any]


def ready(values: dict[str, Any]) -> dict[str, Any]:
    """Values as the database takes them."""
    return {name: bulk.ready(value, is_json=name in JSON_COLUMNS) for name, value in values.items()}
