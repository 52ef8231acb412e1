"""A worker that outlives the terminal, or page, that started it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .. import clock, dialect, lockfile
from ..exceptions import WorkerRefused
from .supervisor import Plan

PATIENCE_SECONDS = 10.0
SOUND_SQLITE = (3, 51, 3)


@dataclass(frozen=True, slots=True)
class Started:
    pid: int
    log: Path


def start(plan: Plan, log: Path | None) -> Started:
    """Start a worker in a session of its own and wait until it is ready to work.

    Raises WorkerRefused, with the end of its log, if it ends before that.
    """
    path = log or lockfile.directory() / "worker.log"
    try:
        file = open(path, "ab")  # noqa: SIM115 (the child's stdout and stderr; closed below)
    except OSError as error:
        raise WorkerRefused(f"Cannot write the log {path}: {error.strerror}") from None
    with file:
        before = path.stat().st_size
        child = subprocess.Popen(
            [*_program(), "worker", "start", *_arguments(plan)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    until = clock.monotonic() + PATIENCE_SECONDS
    while clock.monotonic() < until:
        said = path.read_bytes()[before:]
        if f"Started {plan.slots} worker(s)".encode() in said:
            child.returncode = 0  # it goes on without us; Popen would warn that it does
            return Started(child.pid, path)
        if child.poll() is not None:
            raise WorkerRefused("The worker ended at once", hint=said.decode("utf-8", "replace").strip()[-2000:])
        clock.pause(0.05)
    child.returncode = 0
    raise WorkerRefused(
        f"The worker has not become ready within {PATIENCE_SECONDS:g} s",
        hint=f"it goes on as pid {child.pid}; see {path}",
    )


def _program() -> list[str]:
    """This program again: manage.py or the console script, whichever was called."""
    script = sys.argv[0]
    umbrella = [] if os.path.basename(script).startswith("queuectl") else ["queuectl"]
    return [sys.executable, script, *umbrella]


def _arguments(plan: Plan) -> list[str]:
    given = [f"--count={plan.slots}"]
    given += [f"--queue={queue}" for queue in plan.queues]
    given += [f"--name={plan.name}"] if plan.name else []
    given += ["--until-empty"] if plan.until_empty else []
    return given


def warn_of_surroundings(say: Callable[[str], None]) -> None:
    """One line each for what a person should know when starting a worker here."""
    if os.geteuid() == 0:
        say("Warning: this worker runs as root, and so does every command")
    if dialect.workers_share_a_host() and sqlite3.sqlite_version_info < SOUND_SQLITE:
        say(
            f"Warning: SQLite {sqlite3.sqlite_version} has a rare WAL corruption bug, "
            "fixed in 3.51.3; upgrade it, or keep backups"
        )
