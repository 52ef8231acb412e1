"""Where the system has no process or descriptor to spare, what runs goes on and the rest waits."""

import os
import resource

import psutil
import pytest

from tests.acceptance.site import ON_LINUX, Site
from tests.acceptance.test_tasks import effect, enqueue
from tests.support import wait_until

pytestmark = pytest.mark.skipif(not ON_LINUX, reason="another process is given a limit on Linux")


def leave_descriptors(pid: int, number: int) -> tuple[int, int]:
    """Let a process open so many more; returns its limit before."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = [fd for fd in range(len(taken) + number + 1) if fd not in taken]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[number], before[1]))
    return before


def test_jobs_of_a_killed_runner_do_not_wait_until_it_can_be_replaced(quick: Site) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1), quick.effect("b", 60, later=0.1))
    worker = quick.start_worker("--count", "2")
    a, _ = quick.wait_for_start("a", "b")
    before = leave_descriptors(worker.pid, 1)  # which is none for a pair of sockets
    psutil.Process(a.pid).parent().kill()
    [attempt] = quick.wait_for_runs("a", 1, timeout=5)
    assert attempt.outcome == "lost"
    assert quick.job("a").state != "processing"
    wait_until(lambda: "a runner cannot be started" in worker.log, message=quick.describe)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, before)
    quick.wait_for("completed", "a")
    assert quick.outcomes("b") == []
    assert worker.stop() == 0


def test_runners_for_which_a_ledger_has_no_descriptor_come_once_it_has(quick: Site) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1), quick.effect("b", 60, later=0.1))
    worker = quick.start_worker("--count", "3")
    a, _ = quick.wait_for_start("a", "b")
    ledger = worker.ledger()
    before = leave_descriptors(ledger.pid, 0)
    [task] = enqueue(quick, effect(quick))
    wait_until(lambda: "no descriptor for a runner" in worker.log, message=quick.describe)
    psutil.Process(a.pid).parent().kill()
    quick.wait_for_runs("a", 1)
    resource.prlimit(ledger.pid, resource.RLIMIT_NOFILE, before)
    quick.wait_for("completed", "a", task, timeout=20)
    assert (quick.outcomes("a"), quick.outcomes(task)) == (["lost", "succeeded"], ["succeeded"])
    assert quick.outcomes("b") == []
    assert worker.ledger() == ledger
    assert worker.stop() == 0


def test_with_few_descriptors_fewer_tasks_run_at_once_and_all_of_them_run(quick: Site) -> None:
    """33 runners take as many descriptors of a ledger as there are."""
    few = ["sh", "-c", 'ulimit -n 40 && exec "$0" "$@"']
    tasks = enqueue(quick, *[effect(quick, 0.5) for _ in range(32)])
    worker = quick.run_until_empty("--count", "40", before=few)
    assert all(quick.outcomes(task) == ["succeeded"] for task in tasks), quick.describe()
    assert "tasks at once" in worker.log
    assert "died" not in worker.log
