import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.execution import processes
from jobs.execution.processes import Process, descendants
from tests.support import wait_until

LIVING = (
    Process(2, 1, 2, 2),
    Process(3, 2, 2, 2),
    Process(4, 3, 4, 4),
    Process(5, 1, 5, 5),
)
TREE = {process.pid: process for process in LIVING}


@pytest.mark.parametrize(
    ("of", "found"),
    [([2], {2, 3, 4}), ([3], {3, 4}), ([4], {4}), ([5, 3], {3, 4, 5}), ([], set()), ([99], set())],
)
def test_descendants_are_those_that_live_and_all_below(of: list[int], found: set[int]) -> None:
    assert descendants(of, TREE) == found


def test_a_loop_of_parents_is_walked_once() -> None:
    loop = {1: Process(1, 2, 1, 1), 2: Process(2, 1, 1, 1)}
    assert descendants([1], loop) == {1, 2}


def test_a_process_is_found_with_its_parent_group_and_session() -> None:
    found = processes.processes()[os.getpid()]
    expected = Process(os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0))
    assert found == expected


def test_a_zombie_is_not_among_the_living() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.pid not in processes.processes()
    child.communicate()


def test_a_process_whose_main_thread_has_ended_is_among_the_living_and_has_its_mark() -> None:
    script = """
import ctypes, threading
threading.Thread(target=input).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    with subprocess.Popen(
        [sys.executable, "-ISc", script], stdin=subprocess.PIPE, env={processes.MARK: "abc"}
    ) as child:
        stat = Path(f"/proc/{child.pid}/stat")
        wait_until(lambda: ") Z " in stat.read_text())
        assert child.pid in processes.processes()
        assert processes.lease_of(child.pid) == "abc"
        child.kill()
        child.communicate()


def test_a_mark_in_the_environment_tells_the_lease() -> None:
    with subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, env={"A": "1", processes.MARK: "abc", "B": "2"}
    ) as child:
        # While it is still being started its environment cannot be read.
        assert wait_until(lambda: processes.lease_of(child.pid)) == "abc"
        child.communicate()


def test_a_process_without_a_mark_has_no_lease() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={f"X{processes.MARK}": "a"}) as child:
        assert processes.lease_of(child.pid) is None
        child.communicate()


@pytest.mark.parametrize(("later", "heard"), [(0, [[4]]), (1, [])], ids=["the same", "another"])
def test_a_pid_that_is_anothers_by_now_hears_nothing(
    monkeypatch: pytest.MonkeyPatch, later: int, heard: list[list[int]]
) -> None:
    seen = {pid: replace(process, born=1_000 + pid) for pid, process in TREE.items()}
    said: list[list[int]] = []
    monkeypatch.setattr(processes, "processes", lambda: seen)
    monkeypatch.setattr(
        processes, "_process", lambda pid: replace(seen[pid], born=seen[pid].born + later)
    )
    monkeypatch.setattr(processes, "send", lambda pids, number: said.append(list(pids)))
    monkeypatch.setattr(processes, "send_group", lambda group, number: None)
    assert processes.Look(()).send(2, "a lease", signal.SIGTERM) == {2, 3, 4}
    assert said == heard


def test_a_process_is_told_from_a_later_one_by_when_it_was_born() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        found = processes.processes()
        assert 0 < found[os.getpid()].born <= found[child.pid].born
        assert processes.processes()[child.pid].born == found[child.pid].born
        child.communicate()


def test_a_family_is_what_is_below_in_the_session_or_adopted_with_its_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me = os.getpid()
    seen = (
        *(Process(2, me, 2, 2), Process(3, 2, 3, 3)),
        *(Process(4, 1, 4, 2), Process(5, 4, 5, 5)),
        *(Process(6, me, 6, 6), Process(7, 6, 7, 7), Process(8, me, 8, 8), Process(9, me, 9, 9)),
    )
    leases = {6: "ours", 8: "theirs", 9: "ours"}
    monkeypatch.setattr(processes, "processes", lambda: {p.pid: p for p in seen})
    monkeypatch.setattr(processes, "lease_of", leases.get)
    look = processes.Look({2, 9})
    assert look.family(2, "ours") == {2, 3, 4, 5, 6, 7}
    assert look.family(9, "theirs") == {8, 9}
    assert look.family(99, "nobody's") == set()


def test_when_its_main_process_has_ended_a_family_is_known_by_older_members_or_the_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The number of a main process that was collected may be anybody's."""
    tick = os.sysconf("SC_CLK_TCK")
    older, later, ended = 50 * tick, 50 * tick + 1, 50.0
    seen = (
        *(Process(2, 1, 2, 2, later), Process(3, 2, 2, 2, later)),
        *(Process(4, 1, 2, 2, older), Process(5, 4, 5, 5, later), Process(6, 1, 2, 2, later)),
    )
    sent: list[int] = []
    monkeypatch.setattr(processes, "processes", lambda: {p.pid: p for p in seen})
    monkeypatch.setattr(processes, "_process", lambda pid: {p.pid: p for p in seen}.get(pid))
    monkeypatch.setattr(processes, "lease_of", {6: "ours", 3: "theirs"}.get)
    monkeypatch.setattr(processes, "send", lambda pids, number: sent.extend(pids))
    monkeypatch.setattr(processes, "send_group", lambda group, number: sent.append(-group))
    look = processes.Look(())
    assert look.family(2, "ours") == {2, 3, 4, 5, 6}
    assert look.send(2, "ours", signal.SIGKILL, ended) == {4, 5, 6}
    assert sent == [-2, 5], "a group has its number for as long as one of its members lives"
    seen, sent[:] = seen[:2], []
    assert processes.Look(()).send(2, "ours", signal.SIGKILL, ended) == set()
    assert sent == []
    seen = ()
    processes.Look(()).send(2, "ours", signal.SIGKILL, ended)
    assert sent == [-2], "without /proc only groups are known"


def test_a_process_that_is_gone_is_no_trouble_to_signal() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    processes.send([child.pid], 9)
    processes.send_group(child.pid, 9)
    assert processes.lease_of(child.pid) is None


def test_parents_are_killed_before_their_children() -> None:
    """Else a shell whose child has died goes on to its next command."""
    born = {40: 7, 30: 7, 20: 8, 10: 9}  # numbers may have begun anew meanwhile
    among = {pid: processes.Process(pid, 1, pid, pid, at) for pid, at in born.items()}
    order = [process.pid for process in processes.eldest_first({10, 20, 30, 40}, among)]
    assert order == [30, 40, 20, 10]


@pytest.mark.parametrize("mark", ["this", processes.mark_of("this", 4711)])
def test_what_has_a_mark_is_killed_with_all_below_it_and_nothing_else(mark: str) -> None:
    script = "env -i sleep 60 & echo $!; wait"
    marked, other = (
        subprocess.Popen(
            ["sh", "-c", script],
            stdout=subprocess.PIPE,
            env={"PATH": os.defpath, processes.MARK: mark},
        )
        for mark in (mark, "that")
    )
    with marked, other:
        assert marked.stdout is not None and other.stdout is not None
        below, spared = int(marked.stdout.readline()), int(other.stdout.readline())
        wait_until(lambda: processes.lease_of(below) is None)
        assert processes.kill_marked({"this", "those"}) == 2
        assert marked.wait(10) == -9
        wait_until(lambda: below not in processes.processes())
        assert spared in processes.processes() and other.poll() is None
        assert processes.kill_marked({"this", "those"}) == 0
        processes.send([spared], 9)
