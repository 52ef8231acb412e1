"""The memory a worker's processes share, and the one question decided on it: whose is a work?"""

import math
import mmap
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import clock
from jobs.worker.page import MOST, Cells, Page

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page.new()
    yield page
    os.close(page.fd)


def seen(cells: Cells) -> tuple[int, float | None, float]:
    return cells.begun, cells.since, cells.kill_at


NOTHING = (0, None, math.inf)


def test_at_first_nothing_runs_and_no_lease_ends(page: Page) -> None:
    assert seen(page.cells(0)) == NOTHING
    assert page.lease_ends == math.inf


def test_a_work_that_begins_says_so_with_its_times(page: Page) -> None:
    cells = page.cells(0)
    assert cells.begin(1, 1000.5, 2.25)
    assert seen(cells) == (1, 1000.5, 1002.75)


def test_a_work_without_a_timeout_is_never_to_be_killed(page: Page) -> None:
    cells = page.cells(0)
    cells.begin(1, 1000.5, 2.25)
    cells.begin(2, 1001.0, None)
    assert seen(cells) == (2, 1001.0, math.inf)


def test_what_has_ended_stays_known_as_begun(page: Page) -> None:
    cells = page.cells(0)
    cells.begin(7, 1000.0, 1.0)
    cells.end()
    assert seen(cells) == (7, None, math.inf)


def test_times_are_kept_to_the_microsecond(page: Page) -> None:
    cells, now = page.cells(0), clock.monotonic()
    cells.begin(1, now, 0.001)
    assert cells.since == pytest.approx(now, abs=2e-6)
    assert cells.kill_at == pytest.approx(now + 0.001, abs=2e-6)


def test_a_timeout_of_weeks_has_room(page: Page) -> None:
    cells = page.cells(0)
    cells.begin(1, 9e8, 2_592_000.0)
    assert cells.kill_at == 9e8 + 2_592_000


def test_what_was_revoked_does_not_begin_any_more(page: Page) -> None:
    cells = page.cells(0)
    cells.revoke(3)
    assert [cells.begin(number, 1.0, None) for number in (1, 2, 3)] == [False] * 3
    assert (cells.begun, cells.since) == (2, None)
    assert cells.begin(4, 1.0, None)


def test_what_began_before_is_not_taken_back(page: Page) -> None:
    cells = page.cells(0)
    assert cells.begin(2, 1.0, None)
    cells.revoke(3)
    assert cells.begun == 2


def test_a_new_runner_finds_cells_as_if_nobody_had_been_there(page: Page) -> None:
    cells = page.cells(5)
    cells.begin(9, 1000.0, 1.0)
    cells.revoke(20)
    cells.reset()
    assert seen(cells) == NOTHING
    assert cells.begin(1, 1.0, None)


def test_a_reset_concerns_one_runner(page: Page) -> None:
    page.lease_ends = 99.0
    for index in (4, 5, 6):
        page.cells(index).begin(index, 1000.0, 1.0)
    page.cells(5).reset()
    assert [page.cells(index).begun for index in (4, 5, 6)] == [4, 0, 6]
    assert page.lease_ends == 99.0


@given(st.integers(0, MOST - 1), st.integers(0, MOST - 1))
def test_no_two_runners_share_a_cell(one: int, other: int) -> None:
    page = Page.new()
    try:
        page.cells(one).begin(17, 1000.0, 1.0)
        page.cells(one).revoke(18)
        assert (seen(page.cells(other)) != NOTHING) == (one == other)
        assert page.cells(other).begin(18, 1.0, None) == (one != other)
        assert page.lease_ends == math.inf
    finally:
        os.close(page.fd)


def test_the_lease_is_apart_from_every_runner(page: Page) -> None:
    page.lease_ends = 1234.5
    assert page.lease_ends == 1234.5
    assert all(seen(page.cells(index)) == NOTHING for index in range(MOST))


def test_a_cleared_page_is_a_new_one(page: Page) -> None:
    page.lease_ends = 1234.5
    page.cells(MOST - 1).begin(1, 1000.0, 1.0)
    page.clear()
    assert page.lease_ends == math.inf and seen(page.cells(MOST - 1)) == NOTHING


def test_a_page_is_whole_pages_of_memory_that_no_program_inherits(page: Page) -> None:
    assert os.fstat(page.fd).st_size % mmap.PAGESIZE == 0
    assert not os.get_inheritable(page.fd)


# Between processes

OTHER = """
import os, sys
from jobs.worker.page import Page

cells, ask, answer = Page(int(sys.argv[1])).cells(3), *map(int, sys.argv[2:])
while data := os.read(ask, 4):
    number = int.from_bytes(data[:3], "big")
    for _ in range(data[3]):
        pass
    os.write(answer, b"y" if cells.begin(number, 1.0, None) else b"n")
"""


class OtherProcess:
    """Maps the page anew and begins the works it is told to."""

    def __init__(self, page: Page) -> None:
        told, self.ask = os.pipe()
        self.answer, answers = os.pipe()
        fds = [page.fd, told, answers]
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, *map(str, fds)], cwd=ROOT, pass_fds=fds
        )
        os.close(told)
        os.close(answers)

    def tell(self, number: int, idle: int = 0) -> None:
        os.write(self.ask, number.to_bytes(3, "big") + bytes([idle]))

    def has_begun(self) -> bool:
        said = os.read(self.answer, 1)
        assert said, "the other process is gone"
        return said == b"y"

    def close(self) -> None:
        os.close(self.ask)
        os.close(self.answer)
        self.process.wait(10)


@pytest.fixture
def other(page: Page) -> Iterator[OtherProcess]:
    other = OtherProcess(page)
    yield other
    other.close()


def test_another_process_sees_the_same_page(page: Page, other: OtherProcess) -> None:
    other.tell(1)
    assert other.has_begun() and seen(page.cells(3)) == (1, 1.0, math.inf)
    page.cells(3).revoke(2)
    other.tell(2)
    assert not other.has_begun()


def test_of_one_work_never_both_processes_believe_it_is_theirs(
    page: Page, other: OtherProcess
) -> None:
    cells, chance = page.cells(3), random.Random(5)
    taken, run = 0, 0
    for number in range(1, 601):
        first = number <= 20  # so that both ways are seen whatever the scheduler does
        last = 20 < number <= 40
        if first:
            cells.revoke(number)
        other.tell(number, chance.randrange(256))
        theirs = other.has_begun() if last else None
        for _ in range(chance.randrange(3_000)):
            pass
        cells.revoke(number)
        clock.pause(0.001)
        ours = cells.begun < number
        theirs = other.has_begun() if theirs is None else theirs
        assert not (ours and theirs), f"work {number} is held twice"
        taken += not theirs
        run += theirs
    assert taken >= 20 and run >= 20
