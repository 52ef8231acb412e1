"""Commands that keep their runner from its work, or hide from it: they harm nobody else."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.execution import confine, processes
from jobs.outcome import Kind
from tests.support import wait_until
from tests.unit.builders import work
from tests.unit.crews import how_it_ended, how_it_is
from tests.unit.runners import Runner, lives
from tests.unit.test_shell import PYTHON, TOLERANCE_SECONDS, pid_in

TRACED = """
import ctypes, os, signal, sys, time
ctypes.CDLL(None).ptrace(0, 0, 0, 0)
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner(slots=4)
    yield runner
    runner.close()


def test_a_command_that_asks_to_be_traced_is_ended_by_its_time_and_ends_nobody_else(
    runner: Runner,
) -> None:
    neighbour = work("sleep 300", ahead=True)
    runner.give(neighbour)
    runner.wait_for_start(neighbour)
    found = runner.run(work(argv=[PYTHON, "-ISc", TRACED], timeout=0.5))
    # It is stopped until it is killed, and hears no SIGTERM.
    assert (found.kind, found.signal) == (Kind.TIMED_OUT, signal.SIGKILL)
    runner.tell("cancel", neighbour.lease)
    assert runner.outcome(neighbour).kind is Kind.CANCELLED


# Of a process whose main thread has ended the system tells as of one that is dead.
HIDDEN = """
import ctypes, os, sys, threading, time
if sys.argv[2:] and os.fork():
    os._exit(0)
if sys.argv[2:]:
    os.setsid()
    for fd in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), fd)
threading.Thread(target=time.sleep, args=(300,)).start()
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
ctypes.CDLL(None).pthread_exit(None)
"""


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_command_whose_main_thread_has_ended_is_not_left_by_a_runner_without_a_ledger(
    tmp_path: Path,
) -> None:
    runner, file = Runner(slots=2), tmp_path / "pid"
    runner.give(work(argv=["setsid", "-f", PYTHON, "-ISc", HIDDEN, str(file)]), work("sleep 300"))
    pid = pid_in(file)
    runner.close()
    assert not is_there(pid)


def test_what_a_command_left_is_ended_while_others_run_though_its_main_thread_has_ended(
    runner: Runner, tmp_path: Path
) -> None:
    neighbour, file = work("sleep 300"), tmp_path / "pid"
    runner.give(neighbour)
    found = runner.run(work(argv=[PYTHON, "-ISc", HIDDEN, str(file), "escape"]))
    assert found.kind is Kind.SUCCEEDED
    pid = pid_in(file)
    wait_until(lambda: not is_there(pid), timeout=3, message=f"{pid} outlived its job")
    runner.tell("cancel", neighbour.lease)
    assert runner.outcome(neighbour).kind is Kind.CANCELLED


# Between fork and exec, where another process of its user may stop it


@pytest.fixture
def endless(tmp_path: Path) -> str:
    """A PATH in which to look for a program takes many seconds."""
    (tmp_path / "d").mkdir()
    before = "d"
    for number in range(39):
        link = tmp_path / f"s{number}"
        link.symlink_to("d/../" * 800 + before)
        before = link.name
    entry = f"{tmp_path}/{before}/"
    return ":".join(f"{entry}{number}" for number in range(130_000 // (len(entry) + 5)))


@pytest.fixture
def confining() -> Iterator[Runner]:
    runner = Runner(slots=4, CONFINE={"slim": {"umask": 0o077}})
    yield runner
    runner.close()


def being_started(runner: Runner) -> int:
    """A command of this runner that is its copy yet."""

    def says(pid: int) -> bytes:
        return Path(f"/proc/{pid}/cmdline").read_bytes()

    def found() -> list[int]:
        me, living = runner.process.pid, processes.processes().values()
        return [p.pid for p in living if p.parent == me and says(p.pid) == says(me)]

    return wait_until(found)[0]


def test_a_program_that_takes_long_to_be_found_costs_no_neighbour_its_time(
    confining: Runner, endless: str
) -> None:
    slow = work(argv=["no-such"], env={"PATH": endless}, queue="slim", timeout=0.5)
    neighbour = work("sleep 300", timeout=0.5)
    confining.give(slow, neighbour)
    for given in (neighbour, slow):
        found = confining.outcome(given)
        assert (found.kind, found.signal) == (Kind.TIMED_OUT, signal.SIGTERM)
        assert found.ended is not None and found.started is not None
        assert found.ended - found.started < 0.5 + TOLERANCE_SECONDS


def test_a_command_that_is_stopped_before_it_begins_delays_nobody_and_can_be_ended(
    confining: Runner, endless: str
) -> None:
    stopped = work(argv=["no-such"], env={"PATH": endless}, queue="slim", timeout=None)
    confining.give(stopped)
    pid = being_started(confining)
    # Its streams, and what it tells its runner by: no lock, no socket.
    wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= 4)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: how_it_is(pid) == "T")
    assert confining.run(work("true", queue="slim")).kind is Kind.SUCCEEDED
    confining.tell("cancel", stopped.lease)
    found = confining.outcome(stopped)
    assert (found.kind, found.signal) == (Kind.CANCELLED, signal.SIGKILL)


@pytest.fixture
def confined() -> confine.Confined:
    found = confine.Confinements({"*": {"umask": 0o077}}).of("default")
    assert found is not None
    return found


def spawn(confined: confine.Confined, *argv: str) -> tuple[int, int]:
    numbers = [signal.SIGTERM]
    return confine.spawn(confined, "", argv[0], argv, {}, stdout=1, stderr=2, defaulted=numbers)


def test_a_command_that_is_stopped_before_it_begins_never_does_without_its_runner(
    confined: confine.Confined, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(confine.os, "setsid", lambda: os.kill(os.getpid(), signal.SIGSTOP))
    file, (reading, writing) = tmp_path / "ran", os.pipe()
    runner = os.fork()
    if runner == 0:
        os.write(writing, str(spawn(confined, "/usr/bin/touch", str(file))[0]).encode())
        signal.pause()
    pid = int(os.read(reading, 100))
    wait_until(lambda: how_it_is(pid) == "T")
    os.kill(runner, signal.SIGKILL)
    os.waitpid(runner, 0)
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not lives(pid), message=f"{pid} goes on")
    assert not file.exists()
    for fd in (reading, writing):
        os.close(fd)


def test_a_command_that_is_ended_before_it_begins_hears_sigterm(
    confined: confine.Confined, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runner ignores that, and so does the copy of it until it has set its signals."""
    monkeypatch.setattr(confine.os, "setsid", lambda: os.kill(os.getpid(), signal.SIGSTOP))
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pid, hearing = spawn(confined, "/bin/sleep", "5")
    signal.signal(signal.SIGTERM, before)
    wait_until(lambda: how_it_is(pid) == "T")
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)
    assert (how_it_ended(pid), confine.refusal(hearing)) == (-signal.SIGTERM, None)
