import errno
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import clock, dialect, lockfile
from jobs.exceptions import WorkerRefused
from jobs.worker import child, wire
from jobs.worker import supervisor as rooms
from jobs.worker.crew import Crew
from jobs.worker.stopping import Stopping
from jobs.worker.supervisor import Plan, _share
from jobs.worker.wire import Channel


@given(slots=st.integers(1, 4096), runners=st.integers(1, 64))
def test_slots_are_shared_out_evenly_and_completely(slots: int, runners: int) -> None:
    shares = _share(slots, runners)
    assert sum(shares) == slots
    assert max(shares) - min(shares) <= 1


@given(slots=st.integers(1, 4096), runners=st.integers(1, 64))
def test_no_runner_is_without_a_slot(slots: int, runners: int) -> None:
    shares = _share(slots, runners)
    assert len(shares) == min(slots, runners) and min(shares) >= 1


def test_a_sqlite_without_returning_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "is_in_memory", lambda: False)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(WorkerRefused, match=r"SQLite 3\.34\.1 is too old"):
        rooms.run(Plan(slots=1), lambda name: None)


class Birthplace:
    """Where runners are born, or not, for want of a process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        for role in ("start_runner", "start_task_runner", "start_ledger"):
            monkeypatch.setattr(child, role, self.start)

    def start(self, *_: object, **__: object) -> int:
        if self.full:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return 4711


@pytest.fixture
def birthplace(monkeypatch: pytest.MonkeyPatch) -> Birthplace:
    monkeypatch.setattr(Crew, "kill_leftovers", lambda self: None)
    return Birthplace(monkeypatch)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_for_want_of_a_process_no_worker_ends_and_none_is_forgotten(
    birthplace: Birthplace,
) -> None:
    supervisor = rooms.Supervisor(Plan(slots=2), lambda name: None)
    near, far = wire.pair()
    ledger, vacancies = Channel(near), supervisor.vacancies
    supervisor.crew.runners = [1, 2]
    vacancies.open(1, after=0.0)
    before = descriptors()
    vacancies.make_task_runner(ledger, 0)
    vacancies.fill(ledger)
    assert (supervisor.crew.runners, supervisor.crew.task_runners) == ([1, 0], {})
    assert Channel(far).receive() == [(wire.RUNNER_GONE, 1)]
    assert descriptors() == before
    birthplace.full = False
    vacancies.vacant, vacancies.missing = dict.fromkeys(vacancies.vacant, 0.0), {0: 0.0}
    vacancies.fill(ledger)
    assert (supervisor.crew.runners, supervisor.crew.task_runners) == ([1, 4711], {0: 4711})
    assert (vacancies.vacant, vacancies.missing) == ({}, {})
    near.close()
    far.close()


def test_a_life_that_cannot_begin_leaves_nothing(birthplace: Birthplace) -> None:
    supervisor = rooms.Supervisor(Plan(slots=2), lambda name: None)
    before = descriptors()
    with pytest.raises(OSError, match="temporarily unavailable"):
        supervisor.start_all()
    assert (descriptors(), supervisor.crew.runners) == (before, [])


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = os.open(os.devnull, os.O_RDONLY), Path(os.devnull)
    monkeypatch.setattr(lockfile, "acquire", lambda name: taken)


@pytest.mark.parametrize("said", [0, 1])
def test_who_shall_stop_and_cannot_begin_leaves(
    birthplace: Birthplace, lock: None, said: int
) -> None:
    """Rather than try again and again, without a pause, what the wish to stop has to wait for."""
    supervisor = rooms.Supervisor(Plan(slots=2), lambda name: None)
    supervisor.stopping.said = said
    assert supervisor.live() == rooms.FAILED
    assert supervisor.stopping.is_late is bool(said)


def test_who_was_told_by_its_ledger_to_stop_and_cannot_begin_another_leaves(
    birthplace: Birthplace, lock: None
) -> None:
    supervisor = rooms.Supervisor(Plan(slots=2), lambda name: None)
    supervisor.stopping.leave_within(60.0)
    assert supervisor.live() == rooms.FAILED
    assert supervisor.stopping.is_late


def test_a_later_life_has_only_what_is_left_of_the_grace() -> None:
    stopping = Stopping()
    assert not stopping.is_wanted
    stopping.leave_within(20.0)
    assert stopping.is_wanted
    assert 19.0 < stopping.pass_on() <= 20.0
    stopping.said = 1  # by a signal, after somebody had said it in another way
    assert 19.0 < stopping.pass_on() <= 20.0
    stopping.leave_within(0.0)
    stopping.leave_within(20.0)
    assert stopping.pass_on() == 0.0


def test_a_second_signal_leaves_no_grace() -> None:
    stopping = Stopping()
    stopping.said = 1
    grace = stopping.pass_on()
    assert 0.0 < grace <= stopping.settings.GRACE_SECONDS
    stopping.said = 2
    assert (stopping.pass_on(), stopping.is_news) == (0.0, False)


def test_trouble_later_in_a_life_is_not_taken_for_want_of_a_process(
    birthplace: Birthplace, lock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or another life would begin while the ledger of this one goes on."""

    def fails() -> int:
        raise OSError("something else")

    supervisor = rooms.Supervisor(Plan(slots=1), lambda name: None)
    monkeypatch.setattr(supervisor, "start_all", lambda: None)
    monkeypatch.setattr(supervisor, "watch", fails)
    with pytest.raises(OSError, match="something else"):
        supervisor.live()


def test_who_was_killed_and_does_not_die_is_not_waited_for(birthplace: Birthplace) -> None:
    supervisor = rooms.Supervisor(Plan(slots=1), lambda name: None)
    supervisor.crew.task_runners[0] = 4711
    supervisor.page.cells(0).begin(1, clock.monotonic() - 9, 1.0)
    assert supervisor.overdue.next_moment() < clock.monotonic()
    supervisor.overdue.killed[0] = "timed_out"
    assert supervisor.overdue.next_moment() > clock.monotonic() + 9
