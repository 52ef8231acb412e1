"""Hints that there may be work. Losing every one costs a poll interval, never a job."""

from __future__ import annotations

import ctypes
import logging
import os
import selectors
import struct
from contextlib import suppress
from typing import Any, Protocol

from .. import clock, dialect

logger = logging.getLogger(__name__)

_IN_MODIFY, _IN_NONBLOCK, _IN_CLOEXEC = 0x2, os.O_NONBLOCK, os.O_CLOEXEC
_EVENT = struct.Struct("iIII")
RELOOKS = (
    0.0003, 0.0005, 0.0007, 0.0009, 0.0011, 0.0013, 0.0015, 0.0018, 0.0021, 0.0025, 0.003, 0.004, 0.006,
    0.009, 0.013, 0.02, 0.03, 0.045, 0.065, 0.1, 0.3,
)  # fmt: skip
"""inotify fires before the commit is visible: look again after these seconds.

A commit takes as long as the disk's fsync, which beside other load was over 3.5 ms in 16 of 60.
"""
POLL_SECONDS = 0.005

REOPEN_SECONDS = 15.0
"""After wake-ups could not be opened. Each try may block for as long as a connection may take."""


class Wakeup(Protocol):
    def fileno(self) -> int:
        """For a selector; -1 where there is nothing to wait for."""

    def patience(self) -> float | None:
        """Seconds until `hear` wants to be called again though nothing is readable."""

    def hear(self) -> bool:
        """Take what has come; whether somebody may have committed. Never blocks."""

    def close(self) -> None: ...


class Hints:
    """The wake-up in use, if there is one: whatever goes wrong with it costs hints and no more."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._source: Wakeup | None = None
        self._fd = -1
        self._open_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._source is not None

    def open(self) -> bool:
        """Open the best there is, unless one is open; whether that was done now.

        What was committed before then has been told to nobody.
        """
        if self._source is not None or clock.monotonic() < self._open_at:
            return False
        try:
            self._source = _best()
        except Exception as error:  # polling is the path that must work
            logger.warning("no wake-ups, only polling: %s", error)
            self._open_at = clock.monotonic() + REOPEN_SECONDS
            return False
        self._fd = self._source.fileno()
        if self._fd >= 0:
            self._selector.register(self._fd, selectors.EVENT_READ, self)
        return True

    def close(self) -> None:
        source, self._source = self._source, None
        if source is None:
            return
        if self._fd >= 0:
            # By number: a connection that was cut does not tell its own any more.
            self._selector.unregister(self._fd)
        source.close()

    def patience(self) -> float | None:
        """Seconds until `hear` wants to be called though nothing is readable."""
        return self._source.patience() if self._source else None

    def hear(self, *, readable: bool) -> bool:
        """Whether somebody may have committed. What is readable is read even when nobody asks:

        left unread it would keep its reader awake.
        """
        if self._source is None:
            return False
        if not (readable or self._fd < 0 or self._source.patience() == 0.0):
            return False
        try:
            return self._source.hear()
        except Exception as error:
            logger.debug("no wake-ups for a moment: %s", error)
            self.close()
            return True


def _best() -> Wakeup:
    """The best this database and this system have."""
    if dialect.can_notify():
        return Notifications()
    file = dialect.database_file()
    assert file is not None
    try:
        return FileEvents(str(file.parent), file.name)
    except (OSError, AttributeError):
        return VersionPolls()


class Notifications:
    """PostgreSQL: a connection that LISTENs."""

    def __init__(self) -> None:
        self._connection: Any = dialect.listener()

    def fileno(self) -> int:
        number: int = self._connection.fileno()
        return number

    def patience(self) -> float | None:
        return None

    def hear(self) -> bool:
        return bool(list(self._connection.notifies(timeout=0)))

    def close(self) -> None:
        with suppress(Exception):
            self._connection.close()


class _Versions:
    """SQLite: whether another connection has committed since the last look."""

    def __init__(self) -> None:
        self._version = dialect.data_version()

    def changed(self) -> bool:
        before, self._version = self._version, dialect.data_version()
        return before != self._version


class FileEvents:
    """SQLite on Linux: inotify on the database's directory, then a look at data_version.

    Our own turns write the same files, but do not change our data_version.
    """

    def __init__(self, directory: str, name: str) -> None:
        self._versions = _Versions()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        if self._libc.inotify_add_watch(self._fd, os.fsencode(directory), _IN_MODIFY) < 0:
            os.close(self._fd)
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
        self._name = os.fsencode(name)
        self._relooks: list[float] = []

    def fileno(self) -> int:
        fd: int = self._fd
        return fd

    def patience(self) -> float | None:
        return max(0.0, self._relooks[0] - clock.monotonic()) if self._relooks else None

    def hear(self) -> bool:
        now, touched = clock.monotonic(), self._touched()
        if touched:
            self._relooks = [now + delay for delay in RELOOKS]
        self._relooks = [moment for moment in self._relooks if moment > now]
        changed = self._versions.changed()
        if changed and not touched:
            # What was written just now may be the next commit's, which is not visible yet.
            self._relooks = []
        return changed

    def _touched(self) -> bool:
        touched = False
        with suppress(BlockingIOError):
            while data := os.read(self._fd, 65_536):
                start = 0
                while start < len(data):
                    length = _EVENT.unpack_from(data, start)[3]
                    name = data[start + _EVENT.size : start + _EVENT.size + length]
                    touched = touched or name.startswith(self._name)
                    start += _EVENT.size + length
        return touched

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._fd)


class VersionPolls:
    """SQLite elsewhere: `PRAGMA data_version` every 5 ms, 1 % of a core."""

    def __init__(self) -> None:
        self._versions = _Versions()

    def fileno(self) -> int:
        return -1

    def patience(self) -> float | None:
        return POLL_SECONDS

    def hear(self) -> bool:
        return self._versions.changed()

    def close(self) -> None:
        pass
