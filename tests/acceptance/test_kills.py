"""Parts of a worker, or all of it, die by SIGKILL or stand still while commands run."""

import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.acceptance.site import (
    Effect,
    Site,
    Worker,
    alive,
    freeze,
    has_no_other_lock,
    holders,
    signal_all,
    stays,
    wait_gone,
)
from tests.support import wait_until

# The bounds of a site with short timings: lease 5 s, rescue scan 1 s, fence margin 1 s, kill 1 s.
LEASE = 5
ANYWHERE = LEASE + 1 + 5
"""Seconds until the jobs of a dead worker have left `processing`, whoever lives and where."""
SAME_HOST = 1 + 1
"""The same, with a live worker on the same host."""
FENCED = LEASE - 1
"""Seconds after which nothing runs of what nobody has renewed the lease of."""
LEFTOVERS = 1
"""The same for what a runner left that has died."""
TOLERANCE = 0.5
"""What a busy machine adds to a bound."""
STAYS = "while :; do sleep 0.1; done"
DEFAULT_SAME_HOST = 10 + 1
"""As SAME_HOST, with the timings that a site has if it says nothing."""


def kill_at_once(worker: Worker) -> None:
    """Every process of a worker in one moment: none sees another die, and none is left after it.

    One that waits for its disk holds its lock until the disk has answered.
    """
    locks = worker.locks()
    parts = freeze(
        lambda: [
            *worker.all_parts(),
            *(each for each in holders(locks) if has_no_other_lock(each, locks)),
        ]
    )
    worker.remember_family()
    signal_all(parts, signal.SIGKILL)
    wait_gone(parts, 10)


def command_of(effect: Effect) -> list[psutil.Process]:
    main = psutil.Process(effect.pid)
    return [main, *main.children(recursive=True)]


def assert_ran_again_alone(site: Site, key: str, killed: float, bound: float) -> None:
    """Its second attempt began within the bound, when nothing of the first was left."""
    [again] = [effect for effect in site.effects("start", key) if effect.attempt == 2]
    assert again.at - killed <= bound
    assert site.effects("overlap") == []
    assert [effect.attempt for effect in site.effects("start", key)] == [1, 2]


def test_jobs_of_a_killed_ledger_are_lost_and_run_again(quick: Site) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1), quick.effect("b", 60, later=0.1))
    worker = quick.start_worker("--count", "2")
    commands = [p for start in quick.wait_for_start("a", "b") for p in command_of(start)]
    ledger, runners = worker.ledger(), worker.runners()
    killed = time.monotonic()
    ledger.kill()
    gone = wait_gone(commands, 2)
    assert gone - killed <= LEFTOVERS + TOLERANCE, "the runners ended their commands late"
    quick.wait_for("completed", timeout=ANYWHERE + 5)
    for key in ("a", "b"):
        assert quick.outcomes(key) == ["lost", "succeeded"]
        assert_ran_again_alone(quick, key, killed, ANYWHERE)
        assert quick.job(key).attempts == 0, "a loss used up a retry"
    assert not any(map(alive, runners))
    assert worker.poll() is None
    first, second = quick.worker_rows()
    assert first.stopped_at is not None
    assert second.stopped_at is None
    assert worker.stop() == 0
    assert quick.processes() == []


def test_with_the_default_timings_a_worker_of_the_same_host_takes_the_jobs_within_11_s(
    site: Site,
) -> None:
    site.enqueue(site.effect("a", 60, later=0.1))
    dies = site.start_worker("--count", "1")
    site.wait_for_start("a")
    site.start_worker("--count", "1")
    killed = time.monotonic()
    kill_at_once(dies)
    [again] = site.wait_for_start("a", attempt=2, timeout=DEFAULT_SAME_HOST + 10)
    assert again.at - killed <= DEFAULT_SAME_HOST + TOLERANCE
    site.wait_for("completed")
    assert site.outcomes("a") == ["lost", "succeeded"]


def test_a_ledger_that_keeps_dying_is_started_again_ever_later_and_a_stop_does_not_wait(
    quick: Site,
) -> None:
    worker = quick.start_worker()
    for number, pause in ((2, 1), (3, 2)):
        worker.ledger().kill()
        killed = time.monotonic()
        wait_until(lambda n=number: len(quick.worker_rows()) == n, message=quick.describe)
        assert pause <= time.monotonic() - killed <= pause + 1.5
    ledger = worker.ledger()
    ledger.kill()
    wait_gone([ledger], 2)
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(10) in (0, 1)
    assert time.monotonic() - began <= 2, "it waited for a pause of 4 s to end"
    assert quick.processes() == []


def test_jobs_of_a_ledger_that_keeps_dying_are_taken_over_while_it_waits_to_be_started_again(
    quick: Site,
) -> None:
    worker = quick.start_worker("--name", "tired")
    # Its supervisor waits for 1 s, 2 s and then 4 s.
    for number in (2, 3):
        worker.ledger().kill()
        wait_until(lambda n=number: len(quick.worker_rows()) == n, message=quick.describe)
    quick.enqueue(quick.effect("a", 60, later=0.1))
    [start] = quick.wait_for_start("a")
    commands = command_of(start)
    quick.start_worker("--name", "neighbour")
    worker.ledger().kill()
    killed = time.monotonic()
    [again] = quick.wait_for_start("a", attempt=2, timeout=SAME_HOST + 5)
    assert again.at - killed <= SAME_HOST + 1, "nobody took it while the supervisor waited"
    assert not any(map(alive, commands))
    wait_until(lambda: len(quick.worker_rows()) == 5, message=quick.describe)
    quick.wait_for("completed")
    assert quick.outcomes("a") == ["lost", "succeeded"]
    assert worker.stop() == 0
    held = {lock for [lock] in quick.sql("SELECT lock FROM queuectl_worker") if Path(lock).exists()}
    assert len(held) == 1, "only the neighbour that lives may have a lock file"


def test_a_runner_that_hangs_for_good_is_replaced_and_its_jobs_run_again(quick: Site) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1), quick.effect("b", 20))
    worker = quick.start_worker("--count", "2")
    a, b = quick.wait_for_start("a", "b")
    hung, commands = psutil.Process(a.pid).parent(), command_of(a)
    assert hung in worker.runners() and hung != psutil.Process(b.pid).parent()
    stopped = time.monotonic()
    hung.suspend()
    # A lease of 5 s, a sign each second, a look each second.
    assert wait_gone([hung, *commands], 5 + 1 + 2) - stopped > 5, (
        "a pause below a lease is no death"
    )
    quick.wait_for("completed", "a", timeout=SAME_HOST + 5)
    assert quick.outcomes("a") == ["lost", "succeeded"]
    assert quick.effects("overlap") == []
    assert alive(psutil.Process(b.pid)), "its neighbour suffered"
    assert len(worker.runners()) == 2


def test_workers_of_one_name_are_two(quick: Site) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1), quick.effect("b", 60, later=0.1))
    one, two = (quick.start_worker("--name", "twin") for _ in range(2))
    a, b = (psutil.Process(start.pid) for start in quick.wait_for_start("a", "b"))
    dead, lives = (one, two) if a.parent() in one.runners() else (two, one)
    kill_at_once(dead)
    b.kill()
    quick.wait_for("completed")
    assert quick.outcomes("a") == ["lost", "succeeded"]
    assert quick.outcomes("b") == ["failed", "succeeded"], "a rescue took the job of the other"
    assert [row.name for row in quick.worker_rows()] == ["twin", "twin"]
    assert lives.stop() == 0


def test_jobs_of_a_killed_runner_run_again_and_those_of_its_neighbour_go_on(quick: Site) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1), quick.effect("b", 60, later=0.1))
    worker = quick.start_worker("--count", "2")
    a, b = quick.wait_for_start("a", "b")
    runner, commands = psutil.Process(a.pid).parent(), command_of(a)
    assert runner in worker.runners()
    assert runner != psutil.Process(b.pid).parent(), "both jobs are with one runner"
    ledger = worker.ledger()
    killed = time.monotonic()
    runner.kill()
    assert wait_gone(commands, 2) - killed <= LEFTOVERS + TOLERANCE, (
        "the supervisor killed them late"
    )
    quick.wait_for("completed", "a", timeout=SAME_HOST + 5)
    assert quick.outcomes("a") == ["lost", "succeeded"]
    assert_ran_again_alone(quick, "a", killed, SAME_HOST)
    assert alive(psutil.Process(b.pid))
    assert quick.outcomes("b") == []
    assert worker.ledger() == ledger
    assert len(worker.runners()) == 2


@pytest.mark.parametrize("neighbour", [True, False], ids=["with a neighbour", "alone"])
def test_jobs_of_a_killed_supervisor_are_interrupted_and_run_again(
    quick: Site, neighbour: bool
) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1), quick.effect("b", 60, later=0.1))
    worker = quick.start_worker("--count", "2")
    quick.wait_for_start("a", "b")
    if neighbour:
        quick.start_worker("--count", "2")
    parts, commands = worker.all_parts(), quick.commands()
    assert len(commands) == 4
    killed = time.monotonic()
    [lock] = quick.sql("SELECT lock FROM queuectl_worker WHERE pid = %s", [worker.pid])[0]
    assert Path(lock).exists()
    worker.kill()
    wait_gone(commands, 3)
    wait_gone(parts, 5)
    assert not Path(lock).exists()
    if not neighbour:
        wait_until(lambda: quick.counts() == {"pending": 2}, message=quick.describe)
        assert quick.processes() == []
        killed = time.monotonic()
        quick.start_worker("--count", "2")
    quick.wait_for("completed", timeout=ANYWHERE)
    for key in ("a", "b"):
        assert quick.outcomes(key) == ["interrupted", "succeeded"]
        assert_ran_again_alone(quick, key, killed, SAME_HOST + 1)
        assert quick.job(key).attempts == 0, "an interruption used up a retry"


@pytest.mark.parametrize("first", ["runner", "supervisor"])
def test_commands_of_a_runner_killed_with_its_supervisor_end_before_they_run_again(
    quick: Site, first: str
) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1), quick.effect("b", 60, later=0.1))
    worker = quick.start_worker("--count", "2")
    a, b = quick.wait_for_start("a", "b")
    supervisor, ledger = worker.supervisor(), worker.ledger()
    runner = psutil.Process(a.pid).parent()
    assert runner in worker.runners() and runner != psutil.Process(b.pid).parent()
    parts, commands = worker.all_parts(), command_of(a) + command_of(b)
    quick.start_worker("--count", "2")
    worker.remember_family()
    signal_all([supervisor, ledger], signal.SIGSTOP)
    for victim in (runner, supervisor) if first == "runner" else (supervisor, runner):
        victim.kill()
        wait_gone([victim], 2)
    killed = time.monotonic()
    ledger.resume()
    assert wait_gone(commands, 3) - killed < 2
    wait_gone(parts, 3)
    quick.wait_for("completed", timeout=SAME_HOST + 5)
    assert quick.outcomes("a") == ["lost", "succeeded"]
    assert quick.outcomes("b") == ["interrupted", "succeeded"]
    for key in ("a", "b"):
        assert_ran_again_alone(quick, key, killed, SAME_HOST + 1)


def test_commands_of_a_runner_that_hangs_without_a_supervisor_end_before_they_run_again(
    quick: Site,
) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1))
    worker = quick.start_worker()
    [a] = quick.wait_for_start("a")
    ledger, runner, commands = worker.ledger(), psutil.Process(a.pid).parent(), command_of(a)
    quick.start_worker()
    worker.remember_family()
    runner.suspend()
    killed = time.monotonic()
    worker.kill()
    wait_gone([ledger, *commands], 5 + 2)
    assert "did not answer" not in worker.log, "the database did"
    quick.wait_for("completed", timeout=ANYWHERE)
    assert_ran_again_alone(quick, "a", killed, 5 + ANYWHERE)


def test_a_connection_that_a_site_has_opened_at_its_start_is_shared_with_no_process(
    site: Site,
) -> None:
    site.hurry()
    keys = [f"job{number}" for number in range(40)]
    site.enqueue(site.effect("first", 60, later=0.1), *(site.effect(key) for key in keys))
    site.env["DJANGO_SETTINGS_MODULE"] = "tests.acceptance.connected"
    worker = site.start_worker("--count", "8", before=["env", "PYTHONWARNINGS=ignore"])
    [first] = site.wait_for_start("first", timeout=20)
    psutil.Process(first.pid).parent().kill()
    site.wait_for("completed", timeout=30)
    assert site.outcomes("first") == ["lost", "succeeded"]
    assert {outcome for key in keys for outcome in site.outcomes(key)} <= {"lost", "succeeded"}
    assert worker.stop() == 0, worker.log
    assert not [word for word in ("Traceback", "protocol", "malformed") if word in worker.log]


def test_a_killed_command_has_failed_by_its_signal_and_is_retried(quick: Site) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1, backoff_base=1))
    worker = quick.start_worker()
    [start] = quick.wait_for_start("a")
    parts, commands = worker.all_parts(), command_of(start)
    commands[0].kill()
    quick.wait_for("completed")
    first, second = quick.attempts("a")
    assert (first.outcome, first.signal, first.exit_code) == ("failed", 9, None)
    assert "SIGKILL" in first.error
    assert second.outcome == "succeeded"
    # What the command left behind was gone before it was run again.
    assert quick.effects("overlap") == []
    assert not any(map(alive, commands))
    assert worker.all_parts() == parts


@pytest.mark.parametrize("neighbour", [True, False], ids=["a neighbour", "its successor"])
def test_jobs_of_a_worker_killed_all_at_once_are_rescued_at_once(
    quick: Site, neighbour: bool
) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1), quick.effect("b", 60, later=0.1))
    worker = quick.start_worker("--count", "2")
    quick.wait_for_start("a", "b")
    if neighbour:
        quick.start_worker("--count", "2")
    killed = time.monotonic()
    kill_at_once(worker)
    worker.wait(5)
    if not neighbour:
        quick.start_worker("--count", "2")
        killed = time.monotonic()
    # Well before its lease of 5 s ran out: the lock of a worker of this host tells.
    for start in quick.wait_for_start("a", "b", attempt=2, timeout=SAME_HOST + 5):
        assert start.at - killed <= SAME_HOST
    quick.wait_for("completed")
    assert [quick.outcomes(key) for key in ("a", "b")] == [["lost", "succeeded"]] * 2
    assert quick.job("a").attempts == 0
    dead, _ = quick.worker_rows()
    assert dead.stopped_at is not None


def test_a_worker_that_was_killed_does_not_count_as_running(quick: Site) -> None:
    worker = quick.start_worker("--count", "2")
    kill_at_once(worker)
    worker.wait(5)
    assert "Active Workers: 0\n" in quick.run("status").stdout
    assert quick.run("worker", "list").stdout == "No workers are running\n"
    stopping = quick.run("worker", "stop")
    assert stopping.stdout == "No workers are running\n"
    assert "is dead" in stopping.stderr


def test_a_job_that_kills_its_runner_is_dead_after_three_losses_and_others_go_on(
    quick: Site,
) -> None:
    quick.enqueue(
        {"id": "poison", "command": "kill -9 $PPID; sleep 60", "max_retries": 0},
        *(quick.effect(f"job{number}") for number in range(20)),
    )
    worker = quick.start_worker("--count", "2")
    ledger = worker.ledger()
    quick.wait_for("dead", "poison", timeout=20)
    assert quick.outcomes("poison") == ["lost"] * 3
    assert "Lost 3 times" in quick.job("poison").last_error
    wait_until(lambda: quick.counts() == {"completed": 20, "dead": 1}, message=quick.describe)
    assert worker.ledger() == ledger
    wait_until(lambda: len(worker.runners()) == 2)
    assert quick.commands() == []


def test_a_job_that_kills_its_runner_does_not_take_its_neighbour_to_death(quick: Site) -> None:
    poison = "sleep 0.5; kill -9 $PPID; sleep 60"
    neighbours = [{"id": name, "command": "sleep 3", "max_retries": 0} for name in "abc"]
    quick.enqueue({"id": "poison", "command": poison, "max_retries": 0}, *neighbours)
    quick.start_worker("--count", "4")
    quick.wait_for("dead", "poison", timeout=20)
    wait_until(lambda: quick.counts() == {"completed": 3, "dead": 1}, message=quick.describe)
    losses = [quick.outcomes(name).count("lost") for name in "abc"]
    assert max(losses) == 2, "none shared a runner with it twice: the test shows nothing"


def test_commands_end_before_the_lease_of_a_ledger_that_stands_still(quick: Site) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1))
    worker = quick.start_worker()
    [start] = quick.wait_for_start("a")
    commands, ledger = command_of(start), worker.ledger()
    stopped = time.monotonic()
    ledger.suspend()
    # The last renewal began before it stood still.
    assert wait_gone(commands, 10) - stopped <= FENCED + TOLERANCE
    # The supervisor kills what says nothing for 4 s, and starts another a second later.
    assert wait_gone([ledger], 10) - stopped <= 7
    quick.wait_for("completed", timeout=ANYWHERE)
    assert quick.outcomes("a") == ["lost", "succeeded"]
    assert quick.effects("overlap") == []


def test_a_supervisor_that_stands_still_for_good_is_killed_and_its_worker_leaves(
    quick: Site,
) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1))
    worker = quick.start_worker()
    quick.wait_for_start("a")
    parts = worker.all_parts()
    stopped = time.monotonic()
    worker.supervisor().suspend()
    # Two leases from its last sign, up to a second before; then what a supervisor's death takes.
    left_after = wait_gone(parts, 40) - stopped
    assert 2 * LEASE - 1 - TOLERANCE <= left_after <= 2 * LEASE + 15
    quick.start_worker()
    quick.wait_for("completed")
    assert quick.outcomes("a") == ["interrupted", "succeeded"]
    assert quick.effects("overlap") == []


@pytest.mark.parametrize(
    ("command", "number"),
    [
        pytest.param(f"trap '' TERM; {STAYS}", 1, id="ignores SIGTERM"),
        pytest.param(f"setsid sh -c \"trap '' TERM; $STAYS\" & {STAYS}", 2, id="its child does"),
    ],
)
def test_what_ignores_sigterm_is_killed_a_margin_before_its_lease_runs_out(
    quick: Site, command: str, number: int
) -> None:
    quick.enqueue({"id": "a", "command": command, "env": {"STAYS": STAYS}})
    worker = quick.start_worker()
    wait_until(lambda: len(shells(quick)) == number, message=quick.describe)
    # The supervisor too, or it would see that its ledger says nothing, and have everything ended.
    signal_all([worker.supervisor(), worker.ledger()], signal.SIGSTOP)
    stopped = time.monotonic()
    assert wait_gone(shells(quick), 10) - stopped <= FENCED + TOLERANCE


def shells(site: Site) -> list[psutil.Process]:
    """Of the command of the one job, without what comes and goes."""
    return [process for process in site.commands("a") if name_of(process) == "sh"]


def name_of(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return process.name()
    return ""


def test_a_runner_that_stood_still_while_its_lease_was_renewed_ends_nothing(quick: Site) -> None:
    quick.enqueue(quick.effect("a", 6))
    worker = quick.start_worker()
    [start] = quick.wait_for_start("a")
    runner = psutil.Process(start.pid).parent()
    assert runner in worker.runners()
    runner.suspend()
    # Longer than the 3 s after which it ends its commands unless it hears of a renewal.
    stays(lambda: worker.poll() is None, 4, quick.describe)
    runner.resume()
    quick.wait_for("completed")
    assert quick.outcomes("a") == ["succeeded"]
    assert quick.effects("end", "a") != []


def test_a_worker_that_stood_still_longer_than_its_lease_comes_back(quick: Site) -> None:
    quick.enqueue(quick.effect("ends", 3, later=0.1), quick.effect("runs", 12, later=0.1))
    worker = quick.start_worker("--name", "sleeper", "--count", "2")
    _, runs = quick.wait_for_start("ends", "runs")
    command = command_of(runs)
    neighbour = quick.start_worker("--name", "neighbour")
    parts = worker.all_parts()
    signal_all(parts, signal.SIGSTOP)
    if quick.is_postgresql:
        quick.wait_for("completed", timeout=ANYWHERE)
    else:
        # Its lock file is held, so it lives, however long it says nothing.
        stays(lambda: quick.counts() == {"processing": 2}, 8, quick.describe)
    signal_all(parts, signal.SIGCONT)
    quick.wait_for("completed")
    assert neighbour.stop() == 0
    quick.enqueue(quick.effect("next"))
    quick.wait_for("completed", timeout=ANYWHERE)
    assert worker.poll() is None
    sleepers = [row for row in quick.worker_rows() if row.name == "sleeper"]
    if quick.is_postgresql:
        # What it ran was another's by then: it killed that, and what it had to say came too late.
        wait_gone(command, 3)
        assert quick.outcomes("ends") == quick.outcomes("runs") == ["lost", "succeeded"]
        assert [row.stopped_at is None for row in sleepers] == [False, True]
    else:
        assert quick.outcomes("ends") == quick.outcomes("runs") == ["succeeded"]
        assert [effect.job for effect in quick.effects("end")] == ["ends", "runs", "next"]
        assert [row.stopped_at for row in sleepers] == [None]


def test_a_worker_of_another_host_is_dead_only_when_its_lease_has_run_out(quick: Site) -> None:
    quick.enqueue(quick.effect("a", 60, later=0.1))
    worker = quick.start_worker()
    quick.wait_for_start("a")
    kill_at_once(worker)
    worker.wait(5)
    killed = time.monotonic()
    quick.sql("UPDATE queuectl_worker SET boot = 'of another machine'")
    [row] = quick.worker_rows()
    quick.start_worker()
    [again] = quick.wait_for_start("a", attempt=2, timeout=ANYWHERE + 5)
    assert again.at - killed <= ANYWHERE
    [lost, _] = quick.wait_for_runs("a", 2)
    if quick.is_postgresql:
        assert (lost.finished_at - row.heartbeat_at).total_seconds() >= 5
    else:
        # No other machine has this file: it is this one, before it was started again.
        assert again.at - killed <= SAME_HOST + 1
