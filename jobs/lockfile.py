"""A worker's lock file: while it is held, something of the worker is left.

The supervisor opens and locks it; ledger and runners share the lock by fork, commands do not
(close-on-exec). A lock is free milliseconds after the last holder's death, while a pid may
still be found as a zombie, or be somebody else's by then.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

from . import conf, dialect
from .exceptions import WorkerRefused


class Lock(Enum):
    HELD = "held"
    FREE = "free"
    UNKNOWN = "unknown"
    """The file is not where its worker said, so it tells nothing."""


def directory() -> Path:
    """Where this site's workers keep their locks: a private directory, made when missing."""
    if configured := conf.get().LOCK_DIR:
        path = Path(configured)
    elif file := dialect.database_file():
        path = file.with_name(f"{file.name}.workers")
    else:
        path = Path(tempfile.gettempdir()) / f"queuectl-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise WorkerRefused(
            f"The lock directory {path} cannot be made: {error.strerror}",
            hint="name another with QUEUECTL['LOCK_DIR']",
        ) from None
    if path.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise WorkerRefused(
            f"The lock directory {path} is not this user's alone",
            hint="remove it, or name another with QUEUECTL['LOCK_DIR']",
        )
    return path


def acquire(name: str) -> tuple[int, Path]:
    """Make and lock a file of that name; the descriptor that holds the lock, and the path."""
    path = directory() / f"{name}.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd, path


@contextmanager
def turnstile(name: str) -> Iterator[bool]:
    """Among all processes of this host, whether we are the one that may do this now."""
    path = directory() / f"{name}.turn"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


def look(path: str) -> Lock:
    """Whether somebody holds the lock. Looking disturbs nobody: several may look at once."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return Lock.UNKNOWN
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Lock.HELD
    finally:
        os.close(fd)
    return Lock.FREE


def remove(path: str | Path) -> None:
    with suppress(OSError):
        os.unlink(path)


def boot() -> str:
    """Names this boot of this machine; lock files speak of processes of the same boot only."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"host {socket.gethostname()}"


def is_alive(worker_boot: str, worker_lock: str, *, silent: bool) -> bool:
    """Whether a worker still lives, as far as can be told from here.

    On this boot of this machine its lock tells at once; of others only a heartbeat that has been
    silent for longer than the lease. A lock that is held proves life only where every worker
    is on this host; elsewhere the worker may be cut off from the database.
    """
    one_host = dialect.workers_share_a_host()
    if worker_boot != boot():
        return not one_host and not silent
    match look(worker_lock):
        case Lock.FREE:
            return False
        case Lock.HELD if one_host:
            return True
    return not silent
