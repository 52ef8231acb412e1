"""A command runner's rounds and book-keeping, without its process."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from jobs import clock
from jobs.execution import processes, shell
from jobs.outcome import Kind
from jobs.worker import runner, wire
from jobs.worker.alarms import Alarms
from tests.unit.builders import work

MANY = 20


def test_commands_that_are_over_leave_no_alarms_behind() -> None:
    alarms = Alarms()
    lives: Any = SimpleNamespace(deadline=lambda: 600.0, finished=False)
    alarms.set(lives, among=1)
    for number in range(5_000):
        over: Any = SimpleNamespace(deadline=lambda at=300.0 + number: at, finished=False)
        alarms.set(over, among=1)
        over.finished = True
    assert len(alarms) < 100
    assert alarms.next() == 600.0
    assert list(alarms.passed(1_000.0)) == [lives]


class Signs:
    """Of life, and whose groups were signalled, in their order."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def give(self, now: float) -> None:
        self.seen.append("sign")


@pytest.fixture
def signs() -> Signs:
    return Signs()


Made = tuple[Callable[[int], runner.Runner], wire.Channel]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, signs: Signs) -> Iterator[Made]:
    """Makes a runner of so many slots, and its ledger's end of the wire."""
    monkeypatch.setattr(runner.Runner, "_watch_children", lambda self: None)
    rules = shell.Rules("/bin/sh", {"PATH": os.environ["PATH"]}, output_limit=100, kill_seconds=60)
    near, far = wire.pair()

    def make(slots: int) -> runner.Runner:
        options = runner.Options(slots, rules, 60, 10, lock_is_lease=True)
        return runner.Runner(wire.Channel(near), options, signs)  # type: ignore[arg-type]

    with near, far:
        yield make, wire.Channel(far)


@pytest.fixture
def busy(made: Made) -> Iterator[runner.Runner]:
    """A runner with many commands that run."""
    busy = made[0](MANY)
    busy.waiting += [work(argv=["sleep", "300"]) for _ in range(MANY)]
    busy.start_waiting()
    started = set(busy.by_pid)
    assert len(started) == MANY
    yield busy
    for pid in started & busy.by_pid.keys():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    for command in busy.commands.values():
        command.drain()
    busy.selector.close()


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time the machine is searched for its processes."""
    made: list[int] = []
    search = processes.processes

    def counted() -> dict[int, processes.Process]:
        made.append(1)
        return search()

    monkeypatch.setattr(processes, "processes", counted)
    return made


def reap_all(busy: runner.Runner) -> None:
    for pid, command in list(busy.by_pid.items()):
        _, status, usage = os.wait4(pid, 0)
        del busy.by_pid[pid]
        command.exited(status, usage, clock.monotonic())
        busy._watch(command)
        for fd in list(command.streams):
            busy._read(fd, command)
        busy.touched.add(command)


def test_a_round_searches_the_machine_once_however_many_commands_it_ends(
    busy: runner.Runner, searches: list[int]
) -> None:
    busy._stop_all(clock.monotonic(), 0)
    busy.tick()
    assert len(searches) <= 1
    reap_all(busy)
    busy.tick()
    assert len(searches) <= 2
    assert [command.outcome().kind for command in busy.over] == [Kind.INTERRUPTED] * MANY


def test_a_runner_without_a_child_does_not_search_the_machine_for_strays(
    busy: runner.Runner, searches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(pid: int, options: int) -> Any:
        raise ChildProcessError

    busy.sweep.at = 0.0
    monkeypatch.setattr(runner.os, "wait4", none_left)
    busy.reap()
    busy.sweep.kill_strays(clock.monotonic(), busy.by_pid, busy.commands)
    assert (searches, busy.sweep.is_awaited()) == ([], False)


def test_a_round_that_ends_nothing_does_not_search_the_machine(
    busy: runner.Runner, searches: list[int]
) -> None:
    busy.tick()
    assert searches == []


def test_each_round_searches_the_machine_anew(busy: runner.Runner, searches: list[int]) -> None:
    for round in (1, 2):
        for command in busy.commands.values():
            command._ended_by, command._kill_at = Kind.CANCELLED, clock.monotonic()
            busy.touched.add(command)
        busy.tick()
        assert len(searches) == round


def test_a_runner_that_ends_many_commands_gives_signs_of_life_meanwhile(
    busy: runner.Runner, signs: Signs, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal_group = processes.send_group

    def noted(group: int, number: int) -> None:
        signs.seen.append("ended")
        signal_group(group, number)

    monkeypatch.setattr(processes, "send_group", noted)
    signs.seen.clear()
    busy._stop_all(clock.monotonic(), 0)
    busy.tick()
    assert signs.seen == ["ended", "sign"] * MANY
    reap_all(busy)
    busy.tick()
    outcome = shell.Command.outcome
    monkeypatch.setattr(
        shell.Command, "outcome", lambda self: (signs.seen.append("told"), outcome(self))[1]
    )
    signs.seen.clear()
    busy.send()
    assert signs.seen == ["told", "sign"] * MANY


def test_a_runner_that_starts_many_commands_gives_signs_of_life_meanwhile(
    busy: runner.Runner, signs: Signs
) -> None:
    assert signs.seen == ["sign"] * MANY


def test_a_runner_without_a_ledger_ends_all_by_a_constant_number_of_searches(
    busy: runner.Runner, searches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = itertools.chain([0.0, 0.0], itertools.repeat(100.0))
    monkeypatch.setattr(clock, "monotonic", lambda: next(moments))
    monkeypatch.setattr(clock, "pause", lambda seconds: None)
    monkeypatch.setattr(processes, "kill_strays", lambda known: 0)
    monkeypatch.setattr(runner.os, "wait4", lambda pid, options: (0, 0, None))
    busy.end_everything()
    assert len(searches) == 1


def test_a_runner_without_a_ledger_signals_no_number_of_a_command_that_it_has_collected(
    busy: runner.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    living, told = list(busy.by_pid), list[int]()
    wait = os.wait4

    def end_all(pid: int, options: int) -> Any:
        return wait(living.pop(), 0) if living else (0, 0, None)

    def none_left(pid: int, options: int) -> Any:
        raise ChildProcessError

    def leave(seconds: float) -> None:
        monkeypatch.setattr(runner.os, "wait4", none_left)

    signal_group = processes.send_group
    monkeypatch.setattr(
        processes,
        "send_group",
        lambda group, number: (told.append(group), signal_group(group, number)),
    )
    monkeypatch.setattr(processes, "kill_strays", lambda known: 0)
    monkeypatch.setattr(runner.os, "wait4", end_all)
    monkeypatch.setattr(clock, "pause", leave)
    started = set(busy.by_pid)
    busy.end_everything()
    assert (sorted(told), busy.by_pid) == (sorted(started), {})


def test_the_next_command_starts_before_what_came_of_the_last_is_put_together(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, ledger = made
    one, steps = make(1), []
    start, outcome = shell.start, shell.Command.outcome
    monkeypatch.setattr(shell, "start", lambda *a: (steps.append("start"), start(*a))[1])
    monkeypatch.setattr(
        shell.Command, "outcome", lambda self: (steps.append("outcome"), outcome(self))[1]
    )
    one.waiting += [work(argv=["true"], ahead=True) for _ in range(2)]
    for _ in range(2):
        one.start_waiting()
        one.send()
        reap_all(one)
        one.tick()
    one.send()
    assert steps == ["start", "start", "outcome", "outcome"]
    said = [(tag, len(values[0])) for tag, *values in ledger.receive()]
    assert said == [(wire.STARTED, 1), (wire.STARTED, 1), (wire.ENDED, 1), (wire.ENDED, 1)]
    one.selector.close()


def test_a_runner_that_was_stopped_between_two_waits_ends_nothing_that_its_lock_keeps(
    busy: runner.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [command.deadline() for command in busy.commands.values()]
    busy.fence_at, at = clock.monotonic() + 1, clock.monotonic() + 5
    monkeypatch.setattr(clock, "monotonic", lambda: at)
    busy.tick()
    assert [command.deadline() for command in busy.commands.values()] == before
    assert busy.fence_at > at


def test_a_runner_whose_lease_is_over_starts_nothing_more(made: Made) -> None:
    late = made[0](2)
    late.waiting += [work(argv=["true"])]
    late.fence_at = clock.monotonic()
    late.start_waiting()
    assert (len(late.waiting), late.commands) == (1, {})
    late.selector.close()
