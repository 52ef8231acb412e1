"""What a task forked and that starts no program of its own: whose it is, and where it ends.

It has a copy of all that its task runner has, and no mark in its environment, which tells of programs only.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from traceback import print_exception

from . import deaf

_LOCK = struct.Struct("hhqqi0q")
"""What Linux calls a struct flock, with offsets of 64 bits."""

_REST = 0
"""A length: as far as a file may ever be."""


def part_from(close: Iterable[Callable[[], object]], book: int) -> None:
    """Whatever this process forks from now on begins with these calls, has its byte of `book` locked, and
    hears then what `deaf` made this process deaf to.

    Who forks without Python, by a C library, does nothing of it. Nor can it be undone.
    """
    calls, before = list(close), threading.local()

    def hold() -> None:
        # What a child is sent before it is ready has to wait: Python forgets what came with the fork.
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, deaf.USUAL)

    def go_on() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def part() -> None:
        # Once: a child's own descriptors may have these numbers, which its children inherit.
        while calls:
            with suppress(OSError):
                calls.pop()()
        with suppress(OSError):  # no room in the kernel: as one that has closed its descriptors
            fcntl.lockf(book, fcntl.LOCK_SH, 1, os.getpid())
        deaf.hear_again()
        go_on()

    os.register_at_fork(before=hold, after_in_parent=go_on, after_in_child=part)


def entered(book: int) -> set[int]:
    """Pids of the processes that live and have a byte of that file locked. Linux only.

    A lock of a file, other than one on an open file, is no child's, ends with its process, and tells its
    pid, also of one whose environment nobody may read.
    """
    if not sys.platform.startswith("linux"):
        return set()
    found, ranges = set(), [(0, _REST)]
    while ranges:
        start, length = ranges.pop()
        ask = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        try:
            kind, _, at, its, pid = _LOCK.unpack(fcntl.fcntl(book, fcntl.F_GETLK, ask))
        except OSError:  # some sandboxes do not know of it
            break
        if kind == fcntl.F_UNLCK:
            continue
        found.add(pid)
        # The kernel tells of one: the others are before and behind it.
        if at > start:
            ranges.append((start, at - start))
        end = at + its
        if its and (length == _REST or end < start + length):
            ranges.append((end, _REST if length == _REST else start + length - end))
    return {pid for pid in found if pid > 0}


def end_if_forked(home: int, raised: BaseException | None = None) -> None:
    """Return in the process `home`; end any other, which has a copy of all that is home's to do.

    Its exit code is 0, that of a SystemExit, or 1 after any other exception, told on stderr. What
    was registered with `atexit` is home's too.
    """
    if os.getpid() == home:
        return
    code = 1
    try:
        code = _exit_code(raised)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
    finally:
        os._exit(code)


def _exit_code(raised: BaseException | None) -> int:
    if raised is None:
        return 0
    if not isinstance(raised, SystemExit):
        print_exception(raised)
        return 1
    if raised.code is None or isinstance(raised.code, int):
        return (raised.code or 0) & 0xFF
    sys.stderr.write(f"{raised.code}\n")
    return 1
