"""What was forked without a program of its own is found by the file in which it has a byte locked."""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from jobs.execution import forks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells who has a lock")


@pytest.fixture
def book() -> Iterator[int]:
    fd = os.memfd_create("book")
    yield fd
    os.close(fd)


def live(book: int, close: list[int], number: int, told: int) -> None:
    """As a task runner that forks a few, each of which forks one more."""
    try:
        forks.part_from([lambda fd=fd: os.close(fd) for fd in close], book)  # type: ignore[misc]
        for _ in range(number):
            if os.fork() == 0:
                os.fork()
                break
        os.write(told, f"{os.getpid()} ".encode().ljust(10))
        signal.pause()
    finally:
        os._exit(1)


def test_who_was_forked_is_entered_until_it_ends(book: int) -> None:
    reading, writing = os.pipe()
    runner = os.fork()
    if runner == 0:
        live(book, [], 3, writing)
    pids = {int(os.read(reading, 10)) for _ in range(7)}
    try:
        assert runner in pids
        assert forks.entered(book) == pids - {runner}
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(runner, 0)
        os.close(writing)
        assert select.select([reading], [], [], 5)[0], "they have not ended"
        os.close(reading)
    assert forks.entered(book) == set()


def test_who_was_forked_has_nothing_of_what_was_its_parents(book: int) -> None:
    kept, given = os.pipe()
    reading, writing = os.pipe()
    runner = os.fork()
    if runner == 0:
        os.close(kept)
        live(book, [given], 2, writing)
    os.close(given)
    pids = {int(os.read(reading, 10)) for _ in range(5)}
    try:
        assert not select.select([kept], [], [], 0)[0]
        os.kill(runner, signal.SIGKILL)
        os.waitpid(runner, 0)
        assert select.select([kept], [], [], 5)[0], "its children have it open"
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for fd in (kept, reading, writing):
            os.close(fd)


def test_what_a_child_opens_is_not_closed_in_its_own_children(book: int) -> None:
    """Though it has the numbers of what the child has let go of."""
    given, told, said = os.open("/dev/null", os.O_RDONLY), *os.pipe()
    runner = os.fork()
    if runner == 0:
        forks.part_from([lambda: os.close(given)], book)
        if os.fork() == 0:
            inner, outer = os.pipe()
            if os.fork() == 0:
                os.write(outer, b"x")
                os.write(said, os.read(inner, 1) + str(given in (inner, outer)).encode())
        os._exit(0)
    os.waitpid(runner, 0)
    os.close(said)
    assert os.read(told, 10) == b"xTrue"
    os.close(given)
    os.close(told)


def test_a_file_in_which_nobody_is_entered_names_nobody(book: int) -> None:
    assert forks.entered(book) == set()
