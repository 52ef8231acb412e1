"""Interpreters, and scratch environments for the peers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .databases import installed
from .processes import Failed, run

HERE = Path(__file__).parent
ROOT = HERE.parent
PLACE = HERE / ".envs"
WANTED = ("3.12", "3.13", "3.14")
"""Two peers need Python 3.12; all are measured with the same one."""


@dataclass(frozen=True)
class Peer:
    """A queue: the name of its directory, how people call it, what to install."""

    name: str
    title: str
    requirements: tuple[str, ...]
    databases: tuple[str, ...]
    shape: str
    """Its configuration in a few words, for the results."""

    from_npm: tuple[str, ...] = ()
    """What to install for Node.js, beside the requirements of its `program.py`."""

    @property
    def version(self) -> str:
        """What was installed of it, for the results."""
        wanted = (*self.from_npm, *self.requirements, self.title)
        return re.sub("==|@", " ", wanted[0])


DJANGO = ("Django==6.1.3", "psycopg[binary]==3.3.9")
BOTH = ("sqlite", "postgres")
QUEUECTL = Peer("queuectl", "QueueCTL", (), BOTH, "one worker, 2 slots")
PEERS = (
    Peer(
        "dj_queue",
        "dj-queue",
        ("dj-queue[postgres]==0.14.2", *DJANGO),
        BOTH,
        "2 processes of 4 threads, prefetch 25",
    ),
    Peer(
        "django_tasks_db",
        "django-tasks-db",
        ("django-tasks-db==0.13.0", *DJANGO),
        BOTH,
        "2 workers, interval 50 ms",
    ),
    Peer(
        "django_ox",
        "django-ox",
        ("django-ox==1.9.1", *DJANGO),
        BOTH,
        "2 processes of 2 threads, interval 50 ms",
    ),
    Peer(
        "huey",
        "huey",
        ("huey==3.5.4",),
        ("sqlite",),
        "SqliteHuey, 2 processes, store_none so that a completion is recorded",
    ),
    Peer(
        "pgqueuer",
        "pgqueuer",
        ("pgqueuer[asyncpg]==1.6.0",),
        ("postgres",),
        "asyncpg, uvloop, 2 processes, batch 100",
    ),
    Peer(
        "graphile_worker",
        "graphile-worker",
        ("psycopg[binary]==3.3.9",),
        ("postgres",),
        "2 processes of 24 jobs at once, local queue of 500, completions batched without delay",
        from_npm=("graphile-worker@0.17.3",),
    ),
    Peer(
        "celery",
        "Celery with Redis",
        ("celery[redis]==5.7.0",),
        ("redis",),
        "2 solo workers, prefetch 128, results in Redis, which by default does not fsync",
    ),
)


def interpreter() -> Path:
    """A Python of 3.12 or later: on the PATH, or among pyenv's. Raises Failed."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    for version in WANTED:
        candidates = [
            shutil.which(f"python{version}"),
            *sorted(pyenv.glob(f"{version}.*/bin/python")),
        ]
        for candidate in filter(None, candidates):
            if _version_of(candidate) == version:
                return Path(candidate)
    raise Failed(f"no Python {', '.join(WANTED[:-1])} or {WANTED[-1]} was found")


def _version_of(python: str | Path) -> str:
    question = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    result = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)
    return result.stdout.strip()


def scratch(peer: Peer) -> Path:
    """The Python of the peer's own environment, made or renewed when its requirements changed.

    What Node.js needs lies beside it, in `node_modules`.
    """
    place = PLACE / peer.name
    python, note = place / "bin" / "python", place / "installed.txt"
    wanted = list(peer.requirements) or _own_requirements()
    everything = [*wanted, *peer.from_npm]
    if note.exists() and note.read_text().splitlines() == everything and python.exists():
        return python
    if not python.exists():
        run([interpreter(), "-m", "venv", place])
    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted])
    if peer.from_npm:
        _install_from_npm(place, peer.from_npm)
    note.write_text("\n".join(everything) + "\n")
    return python


def _install_from_npm(place: Path, packages: Sequence[str]) -> None:
    installed("node", package="nodejs")
    npm = installed("npm", package="npm")
    quiet = ("--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error")
    run([npm, "install", "--prefix", place, *quiet, *packages])


def _own_requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def here() -> Path:
    """The Python that runs the harness, which `make bench` takes for QueueCTL too."""
    return Path(sys.executable)


def versions(python: Path, *names: str) -> dict[str, str]:
    """Python, SQLite, and those of the named packages that are installed there."""
    question = """
import json, platform, sqlite3, sys
from importlib.metadata import PackageNotFoundError, version
found = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""
    return dict(json.loads(run([python, "-c", question, *names]).output))
