"""Whether what was committed outlives a power loss. What is promised of jobs rests on that."""

from __future__ import annotations

import os
from pathlib import Path

from .base import connection, database_file, is_postgresql

_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "fuse.sshfs",
    "vboxsf",
)
_FULL = 2
_MODES = {0: "OFF", 1: "NORMAL"}


def weaknesses() -> list[str]:
    """What weakens it here, a sentence each; [] where a commit is on the disk."""
    with connection().cursor() as cursor:
        if is_postgresql():
            cursor.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
            fsync, commit = cursor.fetchone()
            found = ["fsync = off"] if fsync == "off" else []
            return [
                f"PostgreSQL runs with {setting}: a power loss may take jobs that were acknowledged"
                for setting in found + (["synchronous_commit = off"] if commit == "off" else [])
            ]
        cursor.execute("PRAGMA synchronous")
        [level] = cursor.fetchone()
    found = []
    if level < _FULL:
        found.append(
            f"SQLite runs with PRAGMA synchronous = {_MODES[level]}: a power loss may take jobs that were"
            " acknowledged; use FULL (see operating.md)"
        )
    file = database_file()
    if file and (system := file_system(file)).startswith(_NETWORK):
        found.append(
            f"the SQLite file is on a network file system ({system}), whose locks and memory maps cannot"
            " be relied on; keep it on a local disk, or use PostgreSQL"
        )
    return found


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
