"""What dead members of a worker left is killed, and nothing that the living have."""

import os
from collections.abc import Iterable

import pytest

from jobs.execution import processes
from jobs.execution.processes import Process
from jobs.worker.crew import Crew


def test_what_a_living_task_runner_left_in_the_background_outlives_the_death_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me, crew, killed = os.getpid(), Crew(), set[int]()
    crew.task_runners, crew.lock_path = {0: 11, 1: 21}, "/lock"
    marks = {14: "/lock#11", 24: "/lock#21"}
    alive = {
        each.pid: each
        for each in (
            Process(11, me, 11, 11),
            Process(
                12, me, 11, 11
            ),  # adopted by us when the shell that it was started by had ended
            Process(13, 12, 11, 11),
            Process(22, me, 21, 21),
            Process(14, me, 14, 14),  # in sessions of their own, known by their marks
            Process(24, me, 24, 24),
            Process(32, me, 32, 32),  # without a mark: nobody's
        )
    }

    def kill(seen: Iterable[Process], number: int) -> None:
        for process in seen:
            killed.add(process.pid)
            del alive[process.pid]

    monkeypatch.setattr(processes, "processes", lambda: dict(alive))
    monkeypatch.setattr(processes, "send_seen", kill)
    monkeypatch.setattr(processes, "lease_of", marks.get)
    del crew.task_runners[1]
    crew.kill_leftovers()
    assert killed == {22, 24, 32}
    del crew.task_runners[0], alive[11]
    crew.kill_leftovers()
    assert killed == {22, 24, 32, 12, 13, 14}


def test_what_a_thread_of_the_host_has_started_outlives_the_death_of_a_runner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is in the session of this process, in which no member of a worker is."""
    me, session, crew, killed = os.getpid(), os.getsid(0), Crew(), list[int]()
    alive = [Process(41, me, session, session), Process(42, me, 42, 42)]

    def kill(seen: Iterable[Process], number: int) -> None:
        killed.extend(process.pid for process in seen)
        del alive[1:]

    monkeypatch.setattr(processes, "processes", lambda: {each.pid: each for each in alive})
    monkeypatch.setattr(processes, "send_seen", kill)
    monkeypatch.setattr(processes, "lease_of", lambda pid: None)
    crew.kill_leftovers()
    assert killed == [42]
