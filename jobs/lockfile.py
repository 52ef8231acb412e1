"""A worker's lock file: while it is held, something of the worker is left.

The supervisor opens and locks it; ledger and runners share the lock by fork, commands do not
(close-on-exec). A lock is free milliseconds after the last holder's death, while a pid may
still be found as a zombie, or be somebody else's by then.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from itertools import islice
from pathlib import Path

from . import conf, dialect
from .exceptions import WorkerRefused

SUFFIX = ".lock"
MOST_SWEPT = 1_000
"""Files that one sweep looks at."""


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
    """Make and lock a file of that name; the descriptor that holds the lock, and the path.

    Raises WorkerRefused where no file can be made.
    """
    path = directory() / f"{name}{SUFFIX}"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise _no_file(path, error) from None
        # Between the two somebody may look at it, or take it for one that was left behind.
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd, path
        os.close(fd)
        remove(path)


def _no_file(path: Path, error: OSError) -> WorkerRefused:
    return WorkerRefused(
        f"The lock file {path} cannot be made: {error.strerror}",
        hint="make room there, or name another directory with QUEUECTL['LOCK_DIR']",
    )


class Sweeper:
    """Removes what workers left that were killed before they had a row, or just after their rescue.

    A lock that was seen free stays free. Once that was longer ago than the lease of its site, its file
    tells nothing that the heartbeat does not tell. Several sites may share the directory.
    """

    def __init__(self) -> None:
        self._free_since: dict[Path, float] = {}

    def sweep(self, now: float, patience: float) -> int:
        """Remove what has been free for that many seconds; returns how many files."""
        with suppress(OSError, WorkerRefused):
            found = set(islice(directory().glob(f"*{SUFFIX}"), MOST_SWEPT))
            self._free_since = {p: at for p, at in self._free_since.items() if p in found}
            for path in found - self._free_since.keys():
                if look(str(path)) is Lock.FREE:
                    self._free_since[path] = now
        due = [path for path, at in self._free_since.items() if now - at > patience]
        return sum(_remove_if_free(path) for path in due)


def _remove_if_free(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # so that nobody takes it meanwhile
        remove(path)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


@contextmanager
def turnstile(name: str) -> Iterator[bool]:
    """Among all processes of this host, whether we are the one that may do this now.

    Raises WorkerRefused where the file of the turn can be neither opened nor made.
    """
    path = directory() / f"{name}.turn"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _no_file(path, error) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


def look(path: str) -> Lock:
    """Whether somebody holds the lock. Looking disturbs nobody: several may look at once.

    A row may name any path: what is no plain file tells nothing, and is not waited for.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return Lock.UNKNOWN
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return Lock.UNKNOWN
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Lock.HELD
    finally:
        os.close(fd)
    return Lock.FREE


def remove(path: str | Path) -> None:
    """Remove a lock file of this directory; a row may name any file, and that stays."""
    file = Path(path)
    with suppress(OSError, ValueError, WorkerRefused):
        if file.suffix == SUFFIX and file.parent == directory():
            file.unlink()


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
