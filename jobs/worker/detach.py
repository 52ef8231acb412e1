"""A worker that outlives the terminal, or page, that started it."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import clock, conf, dialect, lockfile
from ..exceptions import WorkerRefused
from ..execution import confine
from ..models import Worker
from .supervisor import Plan

PATIENCE_SECONDS = 10.0
SOUND_SQLITE = (3, 51, 3)


@dataclass(frozen=True, slots=True)
class Started:
    pid: int
    log: Path


def start(plan: Plan, log: Path | None) -> Started:
    """Start a worker in a session of its own and wait until it is ready to work.

    Raises WorkerRefused, with the end of its log if that is a file, if it ends before that. A new log
    is its owner's alone; a link is refused.
    """
    path = log or lockfile.directory() / "worker.log"
    with os.fdopen(_open_log(path), "wb", buffering=0) as file:
        about = os.fstat(file.fileno())
        worker = spawn(plan, stdout=file, stderr=file)
    try:
        wait_until_ready(worker)
    except WorkerRefused as refusal:
        if stat.S_ISREG(about.st_mode):
            said = path.read_bytes()[about.st_size :]
            refusal.hint = said.decode("utf-8", "replace").strip()[-2000:]
        raise
    # It goes on without us; but as long as we live, somebody has to notice its end, or it stays a zombie.
    threading.Thread(target=worker.wait, name=f"worker {worker.pid}", daemon=True).start()
    return Started(worker.pid, path)


def _open_log(path: Path) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        # A FIFO that nobody reads would keep us here; like this it is refused.
        log = os.open(path, flags | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise WorkerRefused(
                f"The log {path} is a link, which is not followed",
                hint="name the file itself; to log to stderr, start the worker without --detach",
            ) from None
        raise WorkerRefused(f"Cannot write the log {path}: {error.strerror}") from None
    os.set_blocking(log, True)
    return log


def spawn(plan: Plan, **streams: Any) -> subprocess.Popen[bytes]:
    """Start a worker in a session of its own: it hears of Ctrl-C only from us."""
    program = _program()
    return subprocess.Popen(
        [*program, "worker", "start", *_arguments(plan)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env=_environment(program),
        **streams,
    )


def wait_until_ready(worker: subprocess.Popen[bytes]) -> None:
    """Return once a spawned worker is at work; raises WorkerRefused if it is not in time."""
    until = clock.monotonic() + PATIENCE_SECONDS
    while clock.monotonic() < until and worker.poll() is None:
        rows = Worker.objects.live().filter(pid=worker.pid, host=socket.gethostname())
        # Not one that was killed and had the same pid, as in a container that is started anew.
        if any(lockfile.look(row.lock) is lockfile.Lock.HELD for row in rows):
            return
        clock.pause(0.05)
    raise WorkerRefused("The worker did not become ready", hint="what it said stands above")


def end(worker: subprocess.Popen[bytes]) -> None:
    """Ask a spawned worker to stop and wait until it has; asked twice, it cuts short what runs."""
    if worker.poll() is None:
        worker.terminate()
        worker.wait()


def _program() -> list[str]:
    """This program again if it was manage.py or the console script; else Django's own door.

    What runs under a web server was started by a program that knows nothing of `worker start`.
    """
    script = Path(sys.argv[0])
    if script.name.startswith("queuectl"):
        return [sys.executable, str(script)]
    if script.name == "manage.py":
        return [sys.executable, str(script), "queuectl"]
    return [sys.executable, "-m", "django", "queuectl"]


def _environment(program: Sequence[str]) -> dict[str, str]:
    """Ours, less what makes a process a reloader's child; the project can be imported from anywhere."""
    environment = {name: value for name, value in os.environ.items() if name != "RUN_MAIN"}
    if "-m" in program and (root := _project_root()):
        paths = [str(root), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment


def _project_root() -> Path | None:
    """The directory that the settings' package or module was imported from."""
    top = os.environ.get("DJANGO_SETTINGS_MODULE", "").partition(".")[0]
    module = sys.modules.get(top)
    if module is None or not module.__file__:
        return None
    path = Path(module.__file__).parent
    return path.parent if hasattr(module, "__path__") else path


def _arguments(plan: Plan) -> list[str]:
    given = [f"--count={plan.slots}"]
    given += [f"--queue={queue}" for queue in plan.queues]
    given += [f"--name={plan.name}"] if plan.name else []
    given += ["--until-empty"] if plan.until_empty else []
    return given


def warn_of_surroundings(plan: Plan, say: Callable[[str], None]) -> None:
    """One line each for what a person should know when starting a worker here."""
    if os.geteuid() == 0 and confine.unconfined(conf.get().CONFINE, plan.queues):
        say(
            "Warning: this worker runs as root, and so do its commands; "
            "start it as another user, or give them one with QUEUECTL['CONFINE']"
        )
    if dialect.workers_share_a_host() and sqlite3.sqlite_version_info < SOUND_SQLITE:
        say(
            f"Warning: SQLite {sqlite3.sqlite_version} has a rare WAL corruption bug, "
            "fixed in 3.51.3; upgrade it, or keep backups"
        )
