"""Whether what was committed outlives a power loss. What is promised of jobs rests on that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .base import connection, database_file, is_postgresql

_NETWORK = (
    "nfs", "cifs", "smb", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "vboxsf",
)  # fmt: skip
_FULL = 2
_MODES = {0: "OFF", 1: "NORMAL"}


def weaknesses() -> list[str]:
    """What weakens it here, a sentence each; [] where a commit is on the disk."""
    return list(_of_postgresql() if is_postgresql() else _of_sqlite())


def _of_postgresql() -> Iterator[str]:
    for setting in ("fsync", "synchronous_commit"):
        if _answer(f"SHOW {setting}") == "off":
            yield (
                f"PostgreSQL runs with {setting} = off: a power loss may take jobs that were acknowledged;"
                " set it to on"
            )


def _of_sqlite() -> Iterator[str]:
    if (level := _answer("PRAGMA synchronous")) < _FULL:
        yield (
            f"SQLite runs with PRAGMA synchronous = {_MODES[level]}: a power loss may take jobs that were"
            " acknowledged; set it to FULL in the database's init_command"
        )
    file = database_file()
    if file and (system := file_system(file)).startswith(_NETWORK):
        yield (
            f"the SQLite file is on a network file system ({system}), whose locks and memory maps cannot"
            " be relied on; keep it on a local disk, or use PostgreSQL"
        )


def _answer(statement: str) -> Any:
    with connection().cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def file_system(file: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that holds a file; "" where the system does not tell."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for fields in (line.split(" ") for line in lines):
        point = fields[1].replace("\\040", " ")
        inside = os.path.commonpath([point, file]) == point
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind
