import os
import subprocess
import sys

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


def test_a_process_that_is_gone_is_no_trouble_to_signal() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    processes.send([child.pid], 9)
    processes.send_group(child.pid, 9)
    assert processes.lease_of(child.pid) is None
