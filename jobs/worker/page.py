"""The one page of memory that the processes of a worker share: who goes on, and who runs what until when.

A runner inside a task can watch nothing (a signal handler waits for C code to return), so it
writes here what it begins, and the supervisor, which is never busy, reads. Every cell is one
aligned 64-bit store with one writer. Cells hold whole microseconds of `clock.monotonic`.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile

MOST = 64
"""Runners of each kind that a page has room for."""

_WIDTH = 8
_BEGUN, _SINCE, _KILL_AT, _REVOKED, _SIGN = range(5)
_LEASE_ENDS = MOST * _WIDTH
_COMMAND_SIGNS = _LEASE_ENDS + 1
_SUPERVISOR_SIGN = _COMMAND_SIGNS + MOST
_SIZE = 8 * (_SUPERVISOR_SIGN + 1)


def sign_seconds(lease_seconds: float) -> float:
    """A runner that waits says this often that it goes on, one that is busy more often; so does a ledger.

    1 to 4 s: each sign wakes a process, which in an idle worker is most of what it costs.
    """
    return min(4.0, max(1.0, lease_seconds / 15))


class Page:
    """Mapped from a descriptor, which a child has by fork or is handed."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._cells = memoryview(mmap.mmap(fd, _SIZE)).cast("q")

    @classmethod
    def new(cls) -> Page:
        return cls(_anonymous_file())

    def cells(self, index: int) -> Cells:
        return Cells(self._cells, index * _WIDTH)

    def sign(self, index: int) -> Sign:
        """Of a command runner."""
        return Sign(self._cells, _COMMAND_SIGNS + index)

    @property
    def supervisor(self) -> Sign:
        return Sign(self._cells, _SUPERVISOR_SIGN)

    def clear(self) -> None:
        """Between two ledgers of a worker, when no runner lives."""
        for index in range(len(self._cells)):
            self._cells[index] = 0

    @property
    def lease_ends(self) -> float:
        """When the leases of this worker run out; written by the ledger."""
        return self._cells[_LEASE_ENDS] / 1e6 or math.inf

    @lease_ends.setter
    def lease_ends(self, moment: float) -> None:
        self._cells[_LEASE_ENDS] = int(moment * 1e6)


class Sign:
    """A cell in which a process says, again and again, that it goes on."""

    def __init__(self, cells: memoryview[int], at: int) -> None:
        self._cells, self._at = cells, at

    def give(self, now: float) -> None:
        self._cells[self._at] = int(now * 1e6)

    @property
    def last(self) -> int:
        """Different from before if one was given since; 0 before the first."""
        return self._cells[self._at]


class Cells:
    """What concerns one task runner. Its works are numbered from 1 in the order they were sent."""

    def __init__(self, cells: memoryview[int], at: int) -> None:
        self._cells, self._at = cells, at
        self.sign = Sign(cells, at + _SIGN)

    def reset(self) -> None:
        """For a new runner, before it is given anything."""
        for index in range(_WIDTH):
            self._cells[self._at + index] = 0

    # The runner writes

    def begin(self, number: int, now: float, timeout: float | None) -> bool:
        """Say that a work begins; False if the ledger has taken it back meanwhile.

        The one order that is safe: say so first, look then. The ledger, the other way round,
        revokes first and looks then, a moment later (see `revoke`), so that of one work never
        both believe that it is theirs.
        """
        cells, at = self._cells, self._at
        cells[at + _SINCE] = int(now * 1e6)
        cells[at + _KILL_AT] = int((now + timeout) * 1e6) if timeout is not None else 0
        cells[at + _BEGUN] = number
        if number > cells[at + _REVOKED]:
            return True
        cells[at + _BEGUN] = number - 1
        self.end()
        return False

    def end(self) -> None:
        """Nothing runs; what was begun stays known."""
        self._cells[self._at + _KILL_AT] = 0
        self._cells[self._at + _SINCE] = 0

    # The ledger writes

    def revoke(self, through: int) -> None:
        """Take back every work up to this number that has not begun.

        What `begun` says a millisecond later holds: no later number up to this one begins any more.
        """
        self._cells[self._at + _REVOKED] = through

    # Both, and the supervisor, read

    @property
    def begun(self) -> int:
        """Number of the last work that began."""
        return self._cells[self._at + _BEGUN]

    @property
    def since(self) -> float | None:
        """When what runs now began; None when nothing runs."""
        return self._cells[self._at + _SINCE] / 1e6 or None

    @property
    def kill_at(self) -> float:
        """When what runs now has run too long."""
        return self._cells[self._at + _KILL_AT] / 1e6 or math.inf


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("queuectl", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, mmap.PAGESIZE * (-(-_SIZE // mmap.PAGESIZE)))
    return fd
