"""Django tasks on real workers: what is kept of them, what ends them, and what that does to others."""

import json
import signal
import time
from collections import Counter
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import psutil
import pytest

from tests.acceptance.site import Effect, Site, Worker, alive, arguments, stays, wait_gone
from tests.acceptance.test_kills import (
    ANYWHERE,
    FENCED,
    SAME_HOST,
    TOLERANCE,
    assert_ran_again_alone,
    kill_at_once,
)
from tests.support import wait_until

ENQUEUE = """
import json, sys
from django.utils.module_loading import import_string
for path, args, kwargs, options, using in json.load(sys.stdin):
    task = import_string(path)
    task = task.with_options(**options) if options else task
    task = task.using(**using) if using else task
    print(task.enqueue(*args, **kwargs).id)
"""
OURS = {"max_retries", "backoff", "timeout"}
THEIRS = {"priority", "queue_name"}


def call(path: str, *args: Any, **named: Any) -> list[Any]:
    """A task of `task_functions`, or one at a whole path, with its arguments and its options."""
    path = path if "." in path else f"tests.task_functions.{path}"
    options = {name: value for name, value in named.items() if name in OURS}
    using = {name: value for name, value in named.items() if name in THEIRS}
    kwargs = {name: value for name, value in named.items() if name not in OURS | THEIRS}
    return [path, args, kwargs, options, using]


def enqueue(site: Site, *calls: list[Any], **env: str) -> list[str]:
    """Enqueue tasks, one after the other, in one process of its own; their ids."""
    told = site.manage(
        *("shell", "--no-imports", "-c", ENQUEUE), input=json.dumps(calls), env=env
    ).stdout.split()
    assert len(told) == len(calls)
    return told


def effect(site: Site, seconds: float = 0, **named: Any) -> list[Any]:
    """A task that leaves effects, as the jobs of `site.effect` do."""
    return call("effect", str(site.effects_file), seconds, **named)


def result(site: Site, key: str) -> Any:
    [[stored]] = site.sql("SELECT result FROM queuectl_job WHERE key = %s", [key])
    return stored if site.is_postgresql or stored is None else json.loads(stored)


def traceback(site: Site, key: str, number: int = 1) -> str:
    [[text]] = site.sql(
        "SELECT a.traceback FROM queuectl_attempt a JOIN queuectl_job j ON j.id = a.job_id "
        "WHERE j.key = %s AND a.number = %s",
        [key, number],
    )
    return str(text)


def ran(site: Site, what: str, *keys: str) -> list[int]:
    """How often each of these has said that."""
    said = Counter(effect.job for effect in site.effects(what))
    return [said[key] for key in keys]


def assert_each_ran_once(site: Site, keys: list[str]) -> None:
    assert set(ran(site, "start", *keys)) == set(ran(site, "end", *keys)) == {1}, site.describe()
    assert site.effects("overlap") == []
    [[attempts]] = site.sql(
        "SELECT count(*) FROM queuectl_attempt a JOIN queuectl_job j ON j.id = a.job_id "
        f"WHERE j.key IN ({', '.join(['%s'] * len(keys))})",
        keys,
    )
    assert attempts == len(keys)


def wait_for_end(site: Site, *keys: str, timeout: float = 15) -> None:
    """Until these, or all, are final."""
    final = {"completed", "dead", "cancelled"}
    wait_until(
        lambda: {s for key, s in site.states().items() if not keys or key in keys} <= final,
        timeout=timeout,
        message=site.describe,
    )


def seconds(attempt: Any) -> float:
    return float((attempt.finished_at - attempt.started_at).total_seconds())


def assert_nothing_is_left(site: Site) -> None:
    assert site.processes() == []
    assert site.counts()["processing"] == 0
    assert all(row.stopped_at for row in site.worker_rows())


# What is kept


def test_tasks_and_commands_share_a_queue_and_a_worker(site: Site) -> None:
    site.enqueue({"id": "one", "command": "echo said"}, site.effect("two"))
    keys = enqueue(
        site,
        call("add", 2, 3),
        call("echo", [1, "ä"], deep={"a": [None, True]}),
        call("fail", "some reason"),
        call("asynchronous", 0.1),
        call("context"),
        *(call("returns", what) for what in ("tuple", "set", "nan", "large")),
        effect(site),
    )
    add, echo, fail, slept, context, in_tuple, in_set, nan, large, last = keys
    site.enqueue({"id": "three", "command": "exit 3", "max_retries": 0})
    site.run_until_empty("--count", "2", "--name", "all of it")
    assert (result(site, add), result(site, slept), result(site, last)) == (5, "slept", None)
    assert result(site, echo) == [[[1, "ä"]], {"deep": {"a": [None, True]}}]
    assert result(site, in_tuple) == [1, [2, 3]]
    assert result(site, context) == {"attempt": 1, "id": context, "worker_ids": ["all of it"]}
    dead = {key for key, state in site.states().items() if state == "dead"}
    assert dead == {fail, in_set, nan, large, "three"}
    assert site.counts() == {"completed": 8, "dead": 5}
    assert {tuple(site.outcomes(key)) for key in site.states()} == {("succeeded",), ("failed",)}
    [failed] = site.attempts(fail)
    assert failed.error == site.job(fail).last_error == "ValueError: some reason"
    assert "task_functions.py" in traceback(site, fail)
    assert traceback(site, fail).endswith("ValueError: some reason\n")
    assert "set is no JSON" in site.job(in_set).last_error
    assert "1,048,576 are kept" in site.job(large).last_error
    assert site.output("one") == b"said\n"
    assert_each_ran_once(site, [last, "two"])
    assert_nothing_is_left(site)


BOTH = """
import django.tasks, django_tasks

def ours(number): return number * 2
def theirs(number): return number * 3

ours, theirs = django.tasks.task(ours), django_tasks.task(theirs)
"""


@pytest.mark.skipif(
    not (find_spec("django.tasks") and find_spec("django_tasks")),
    reason="only one of django.tasks and django_tasks is installed",
)
def test_tasks_of_both_frameworks_share_a_queue_and_a_worker(site: Site) -> None:
    (site.directory / "both.py").write_text(BOTH)
    site.env["PYTHONPATH"] = path = str(site.directory)
    ours, theirs = enqueue(site, call("both.ours", 7), call("both.theirs", 7), PYTHONPATH=path)
    site.run_until_empty()
    assert (result(site, ours), result(site, theirs)) == (14, 21)


def test_a_retry_sees_its_number_and_who_ran_it_before(site: Site) -> None:
    [key] = enqueue(site, call("second_time"))
    first = site.start_worker("--name", "first")
    site.wait_for_runs(key, 1)
    assert first.stop() == 0
    site.run_until_empty("--name", "second")
    assert site.outcomes(key) == ["failed", "succeeded"]
    assert traceback(site, key).endswith("LookupError: the first time\n")
    assert result(site, key) == {
        "attempt": 2,
        "worker_ids": ["first", "second"],
        "errors": ["builtins.LookupError"],
    }


def test_a_task_that_its_worker_cannot_import_waits_for_one_that_can(site: Site) -> None:
    place = site.directory / "of another version"
    place.mkdir()
    source = (
        "from jobs.tasks import task\n\n@task(max_retries=0)\ndef late() -> int:\n    return 7\n"
    )
    (place / "later_tasks.py").write_text(source)
    keys = enqueue(site, call("later_tasks.late"), effect(site), PYTHONPATH=str(place))
    unknown, known = keys
    old = site.start_worker()
    site.wait_for("scheduled", unknown)
    site.wait_for("completed", known)
    job = site.job(unknown)
    assert "later_tasks" in job.last_error
    assert (job.attempts, job.losses, job.runs, site.outcomes(unknown)) == (0, 0, 0, [])
    assert timedelta(seconds=29) <= job.due_at - job.updated_at <= timedelta(seconds=31)
    assert old.stop() == 0
    site.run("job", "run-now", unknown)
    site.env["PYTHONPATH"] = str(place)
    site.run_until_empty()
    assert result(site, unknown) == 7
    assert site.outcomes(unknown) == ["succeeded"]


def test_one_slot_runs_tasks_and_commands_in_the_order_of_enqueueing(site: Site) -> None:
    order = []
    for number in range(2):
        site.enqueue(site.effect(f"command{number}", 0.1), site.effect(f"other{number}", 0.1))
        order += [f"command{number}", f"other{number}", *enqueue(site, *[effect(site, 0.1)] * 3)]
    site.run_until_empty("--count", "1")
    assert [effect.job for effect in site.effects("start")] == order
    assert_each_ran_once(site, order)


@pytest.mark.parametrize("length", [0.15, 0.0], ids=["long", "short"])
def test_no_more_run_at_once_than_there_are_slots(site: Site, length: float) -> None:
    tasks = enqueue(site, *[effect(site, length)] * 30)
    site.enqueue(*(site.effect(f"command{number}", length) for number in range(30)))
    # Mixed as they come: one of each, in turn.
    site.sql(
        "UPDATE queuectl_job SET priority = priority - CASE WHEN command IS NULL AND argv IS NULL "
        "THEN id ELSE id - 30 END"
    )
    site.run_until_empty("--count", "2")
    running = most = 0
    for one in site.effects():
        running += 1 if one.what == "start" else -1
        most = max(most, running)
    assert_each_ran_once(site, [*tasks, *(f"command{number}" for number in range(30))])
    assert most <= 2


# Time limits


@pytest.mark.parametrize("how", ["", "deaf", "regex", "in C", "traced"])
def test_a_task_is_killed_at_its_timeout_whatever_it_does(site: Site, how: str) -> None:
    worker = site.start_worker("--count", "2")
    ledger = worker.ledger()
    neighbour, hung = enqueue(
        site, effect(site, 3), effect(site, 0 if how else 60, how=how, timeout=1, max_retries=0)
    )
    [start] = site.wait_for_start(hung)
    [after] = enqueue(site, effect(site))
    site.wait_for("dead", hung)
    assert not psutil.pid_exists(start.pid)
    [attempt] = site.attempts(hung)
    assert (attempt.outcome, attempt.signal) == ("timed_out", signal.SIGKILL)
    assert attempt.error == "Task timed out after 1 seconds"
    assert 1 <= seconds(attempt) <= 1 + 1
    site.wait_for("completed", neighbour, after)
    assert_each_ran_once(site, [neighbour, after])
    assert ran(site, "start", hung) == [1]
    assert (worker.poll(), worker.ledger()) == (None, ledger)


def test_a_short_timeout_is_kept_by_an_idle_worker(site: Site) -> None:
    site.start_worker()
    keys = enqueue(site, *[call("overtime")] * 3)
    site.wait_for("dead", *keys)
    for key in keys:
        [attempt] = site.attempts(key)
        assert attempt.outcome == "timed_out"
        assert 0.5 <= seconds(attempt) <= 0.5 + 0.5


def test_a_task_that_ends_as_its_time_is_over_has_one_outcome_and_ends_no_other(
    site: Site,
) -> None:
    close = [effect(site, 0.1 + d / 500, timeout=0.1, max_retries=0) for d in range(-10, 11)]
    keys = enqueue(site, *(each for one in close for each in (one, effect(site))))
    site.start_worker("--count", "2")
    wait_for_end(site, timeout=20)
    assert_each_ran_once(site, keys[1::2])
    met: Counter[str] = Counter()
    for key in keys[::2]:
        [outcome] = site.outcomes(key)
        met[outcome] += 1
        # On a busy machine its time is over before its first line.
        assert ran(site, "start", key) in ([0], [1])
        assert outcome != "succeeded" or ran(site, "end", key) == [1]
    assert met.keys() == {"succeeded", "timed_out"}, met
    assert site.effects("overlap") == []


# A process that ends

ENDS = {
    "segfault": ("Its process ended with signal 11 (SIGSEGV)", None, signal.SIGSEGV),
    "kill": ("Its process ended with signal 9 (SIGKILL)", None, signal.SIGKILL),
    "os._exit": ("Its process ended with exit code 3", 3, None),
    "sys.exit": ("SystemExit: 3", None, None),
    "interrupt": ("KeyboardInterrupt", None, None),
    "recursion": ("RecursionError: maximum recursion depth exceeded", None, None),
    "generator": ("GeneratorExit", None, None),
    "memory": ("MemoryError", None, None),
}


def test_what_ends_a_process_costs_one_attempt_and_nobody_else(site: Site) -> None:
    ways = [effect(site, how=how, max_retries=0) for how in ENDS]
    neighbour, *keys = enqueue(
        site, effect(site, 3), *(each for way in ways for each in (effect(site), way, effect(site)))
    )
    worker = site.start_worker("--count", "3")
    ledger = worker.ledger()
    wait_for_end(site)
    harmful = keys[1::3]
    assert_each_ran_once(site, [key for key in [neighbour, *keys] if key not in harmful])
    for key, (error, code, number) in zip(harmful, ENDS.values(), strict=True):
        [attempt] = site.attempts(key)
        assert (attempt.outcome, attempt.exit_code, attempt.signal) == ("failed", code, number)
        assert attempt.error.startswith(error)
        assert ran(site, "start", key) == [1], f"{error}: {site.effects('', key)} {site.describe()}"
        assert (site.job(key).state, site.job(key).losses) == ("dead", 0)
    assert (worker.poll(), worker.ledger()) == (None, ledger)


def test_what_waited_behind_a_killer_runs_once(site: Site) -> None:
    killer = effect(site, how="os._exit", max_retries=0)
    keys = enqueue(site, *[effect(site), killer] * 60)
    site.start_worker("--count", "6")
    wait_for_end(site, timeout=20)
    killers = keys[1::2]
    assert_each_ran_once(site, [key for key in keys if key not in killers])
    assert ran(site, "start", *killers) == [1] * 60
    assert [site.outcomes(key) for key in killers] == [["failed"]] * 60


def test_a_killed_task_runner_fails_one_attempt_which_is_retried(quick: Site) -> None:
    worker = quick.start_worker("--count", "2")
    key, neighbour = enqueue(
        quick, effect(quick, 60, later=0.1, backoff=1), effect(quick, 60, later=0.1)
    )
    start, other = quick.wait_for_start(key, neighbour)
    assert psutil.Process(start.pid) in worker.runners()
    psutil.Process(start.pid).kill()
    quick.wait_for("completed", key)
    first, second = quick.attempts(key)
    assert (first.outcome, first.signal, second.outcome) == ("failed", 9, "succeeded")
    assert "SIGKILL" in first.error
    assert ran(quick, "start", key, neighbour) == [2, 1]
    assert alive(psutil.Process(other.pid))
    assert quick.effects("overlap") == []


def test_what_a_task_started_dies_with_its_process(quick: Site) -> None:
    worker = quick.start_worker()
    [key] = enqueue(quick, effect(quick, 60, children=1, timeout=3, max_retries=0))
    quick.wait_for_start(key)
    wait_until(lambda: len(sleepers(worker)) == 3, message=lambda: str(sleepers(worker)))
    children = sleepers(worker)
    quick.wait_for("dead", key)
    wait_gone(children, 1)
    assert quick.outcomes(key) == ["timed_out"]


def test_what_a_task_started_in_a_session_of_its_own_outlives_the_runner_of_another_task(
    quick: Site,
) -> None:
    """An agent of ssh or gpg, say, which the task goes on to use."""
    worker = quick.start_worker("--count", "2")
    enqueue(quick, effect(quick, 60, children=1, marked=True))
    wait_until(lambda: len(sleepers(worker)) == 3, message=lambda: str(sleepers(worker)))
    its = sleepers(worker)
    [start] = wait_until(lambda: quick.effects("start"), message=quick.describe)
    [key] = enqueue(quick, effect(quick, 60, children=1, marked=True, timeout=2, max_retries=0))
    wait_until(lambda: len(sleepers(worker)) == 6, message=lambda: str(sleepers(worker)))
    quick.wait_for("dead", key)
    assert sleepers(worker) == its
    psutil.Process(start.pid).kill()
    wait_gone(its, 3)


def test_what_an_ended_task_left_dies_with_the_worker(quick: Site) -> None:
    worker = quick.start_worker()
    [key] = enqueue(quick, effect(quick, 1, children=1))
    quick.wait_for_start(key)
    wait_until(lambda: len(sleepers(worker)) == 3)
    children = sleepers(worker)
    quick.wait_for("completed", key)
    assert worker.stop() == 0
    assert not any(map(alive, children))
    assert_nothing_is_left(quick)


def sleepers(worker: Worker) -> list[psutil.Process]:
    """What `effect(children=1)` left, below the worker."""
    worker.remember_family()
    found = psutil.Process(worker.pid).children(recursive=True)
    return [p for p in found if arguments(p) in (["sleep", str(301 + n)] for n in range(3))]


# Who waits for whom


def test_short_tasks_do_not_wait_for_a_long_one(site: Site) -> None:
    worker = site.start_worker("--count", "2")
    # Once they were short, and are claimed ahead from then on.
    enqueue(site, *[call("noop")] * 200)
    site.wait_for("completed")
    calls = [effect(site)] * 5 + [effect(site, 5, later=0)] + [effect(site)] * 45
    keys = enqueue(site, *calls)
    [long] = keys[5:6]
    short = [key for key in keys if key != long]
    site.wait_for("completed", *short, timeout=5)
    assert site.job(long).state == "processing"
    for key in short:
        job = site.job(key)
        # One that was handed to the runner of the long one is taken back first; that one takes 5 s.
        assert (job.finished_at - job.created_at).total_seconds() <= 2
    assert_each_ran_once(site, short)
    assert ran(site, "start", long) == [1]
    assert worker.poll() is None


def test_a_worker_whose_slots_are_taken_leaves_what_is_short_to_others(site: Site) -> None:
    site.start_worker("--name", "busy")
    enqueue(site, *[call("noop")] * 200)
    site.wait_for("completed")
    long, *short = enqueue(site, effect(site, 60), *[effect(site)] * 20)
    [start] = site.wait_for_start(long)
    wait_until(lambda: time.monotonic() - start.at > 0.5)
    stays(lambda: site.counts()["processing"] == 1, 2.5, lambda: "it holds what it cannot run")
    site.start_worker("--name", "free")
    site.wait_for("completed", *short, timeout=3)
    assert_each_ran_once(site, short)
    assert ran(site, "start", long) == [1]


# Cancel


def test_tasks_for_which_a_worker_has_no_runner_are_left_to_others_and_keep_no_command(
    site: Site,
) -> None:
    site.hurry(TASK_RUNNERS=1)
    site.start_worker("--count", "4")
    enqueue(site, *[call("noop")] * 40)  # so tasks are short, as far as it knows
    wait_for_end(site)
    [long] = enqueue(site, effect(site, 60))
    site.wait_for_start(long)
    keys = enqueue(site, *[effect(site)] * 6)
    site.enqueue(site.effect("command"))
    site.wait_for_start("command", timeout=5)
    # In its first moments the long one may turn out to be short, and one may wait behind it.
    wait_until(lambda: {site.job(key).state for key in keys} == {"pending"}, timeout=1)
    stays(lambda: site.counts()["pending"] == 6, 0.5, site.describe)
    site.start_worker("--count", "4")
    site.wait_for_start(*keys, timeout=5)
    assert site.job(long).state == "processing"


@pytest.mark.parametrize("how", ["", "regex"])
def test_cancel_kills_a_running_task_and_ends_a_waiting_one(site: Site, how: str) -> None:
    site.start_worker("--count", "2")
    other, key, waiting, after = enqueue(
        site,
        effect(site, 6),
        effect(site, 0 if how else 60, how=how),
        effect(site, priority=-5),
        effect(site, priority=-10),
    )
    start, _ = site.wait_for_start(key, other)
    process = psutil.Process(start.pid)
    said = site.run("job", "cancel", waiting, key).stdout
    asked = time.monotonic()
    assert said == (
        f"Job '{waiting}' cancelled\nJob '{key}' is running; its worker has been asked to stop it\n"
    )
    assert wait_gone([process], 5) - asked <= 2
    site.wait_for("cancelled", key, waiting)
    [attempt] = site.attempts(key)
    assert (attempt.outcome, attempt.signal) == ("cancelled", signal.SIGKILL)
    site.wait_for("completed", other, after)
    assert_each_ran_once(site, [other, after])
    assert ran(site, "start", key, waiting) == [1, 0]


# Stopping


@pytest.mark.parametrize("how, long", [("SIGTERM", 2), ("worker stop", 6)])
def test_a_stop_lets_a_running_task_finish_and_begins_no_other(
    site: Site, how: str, long: float
) -> None:
    first, second, *waiting = enqueue(site, *[effect(site, long)] * 6)
    worker = site.start_worker("--count", "2")
    site.wait_for_start(first, second)
    if how == "SIGTERM":
        worker.terminate()
    else:
        assert "All workers stopped" in site.run("worker", "stop").stdout
    assert worker.wait(10) == 0
    assert_each_ran_once(site, [first, second])
    assert site.counts() == {"completed": 2, "pending": 4}
    assert ran(site, "start", *waiting) == [0] * 4
    assert_nothing_is_left(site)
    assert "Traceback" not in worker.log


@pytest.mark.parametrize("how", ["", "deaf"])
def test_a_task_that_outlasts_the_grace_is_interrupted(site: Site, how: str) -> None:
    site.hurry(GRACE_SECONDS=1.5)
    key, short = enqueue(site, effect(site, 0 if how else 60, how=how), effect(site, 1))
    worker = site.start_worker("--count", "2")
    site.wait_for_start(key, short)
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(10) == 0
    assert 1.5 <= time.monotonic() - began <= 1.5 + 1 + 1
    assert site.states() == {key: "pending", short: "completed"}
    [attempt] = site.attempts(key)
    assert (attempt.outcome, attempt.signal) == ("interrupted", signal.SIGKILL)
    job = site.job(key)
    assert (job.attempts, job.interruptions, job.losses) == (0, 1, 0)
    assert_each_ran_once(site, [short])
    assert_nothing_is_left(site)


@pytest.mark.parametrize("how", ["", "regex"])
def test_a_second_signal_cuts_a_task_short_with_exit_code_130(site: Site, how: str) -> None:
    [key] = enqueue(site, effect(site, 0 if how else 60, how=how))
    worker = site.start_worker()
    site.wait_for_start(key)
    worker.terminate()
    stays(lambda: worker.poll() is None, 0.5, lambda: "ended within the grace period")
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(10) == 130
    assert time.monotonic() - began <= 2
    assert site.states() == {key: "pending"}
    assert site.outcomes(key) == ["interrupted"]
    assert site.job(key).attempts == 0
    assert ran(site, "start", key) == [1]
    assert_nothing_is_left(site)
    assert "Traceback" not in worker.log


def test_a_worker_that_has_done_its_work_holds_nothing_and_leaves_nothing(site: Site) -> None:
    worker = site.start_worker("--count", "4")
    keys = enqueue(site, *[effect(site)] * 300)
    site.wait_for("completed")
    assert_each_ran_once(site, keys)
    runners = {psutil.Process(start.pid) for start in site.effects("start")}
    assert 1 <= len(runners) <= 4
    assert runners <= set(worker.runners()), "a task runner was not kept"
    before = sum(sum(p.cpu_times()[:2]) for p in runners)
    stays(lambda: all(map(alive, runners)), 1, lambda: "a task runner has gone")
    assert sum(sum(p.cpu_times()[:2]) for p in runners) - before <= 0.05
    assert worker.stop() == 0
    assert_nothing_is_left(site)


# Parts of a worker die


def start_two(
    site: Site, seconds: float = 60, **named: Any
) -> tuple[Worker, list[str], list[Effect]]:
    """A worker with two tasks that run for a minute, but not when they run again."""
    worker = site.start_worker("--count", "2", "--name", "first")
    keys = enqueue(site, *[effect(site, seconds, later=0.1, **named)] * 2)
    return worker, keys, site.wait_for_start(*keys)


def test_tasks_of_a_killed_ledger_are_lost_and_run_again(quick: Site) -> None:
    worker, keys, starts = start_two(quick)
    ledger, running = worker.ledger(), [psutil.Process(start.pid) for start in starts]
    killed = time.monotonic()
    ledger.kill()
    assert wait_gone(running, 3) - killed <= 1
    quick.wait_for("completed")
    for key in keys:
        assert quick.outcomes(key) == ["lost", "succeeded"]
        assert_ran_again_alone(quick, key, killed, ANYWHERE)
        assert quick.job(key).attempts == 0, "a loss used up a retry"
    assert worker.stop() == 0
    assert quick.processes() == []


@pytest.mark.parametrize("neighbour", [True, False], ids=["with a neighbour", "alone"])
def test_task_runners_die_with_their_supervisor(quick: Site, neighbour: bool) -> None:
    worker, keys, starts = start_two(quick)
    if neighbour:
        quick.start_worker("--count", "2")
    parts, running = worker.all_parts(), [psutil.Process(start.pid) for start in starts]
    killed = time.monotonic()
    worker.kill()
    assert wait_gone(running, 3) - killed <= 1
    wait_gone(parts, 5)
    if not neighbour:
        wait_until(lambda: quick.counts() == {"pending": 2}, message=quick.describe)
        assert quick.processes() == []
        killed = time.monotonic()
        quick.start_worker("--count", "2")
    quick.wait_for("completed", timeout=ANYWHERE)
    for key in keys:
        first, second = quick.outcomes(key)
        assert (first in ("lost", "interrupted"), second) == (True, "succeeded")
        assert_ran_again_alone(quick, key, killed, SAME_HOST + 1)
        assert quick.job(key).attempts == 0, "it used up a retry"


def test_a_task_whose_runner_is_killed_with_its_supervisor_is_given_up_at_once(quick: Site) -> None:
    worker, keys, starts = start_two(quick)
    quick.start_worker("--count", "2")
    parts, supervisor = worker.all_parts(), worker.supervisor()
    supervisor.suspend()
    victim = psutil.Process(starts[0].pid)
    victim.kill()
    wait_gone([victim], 3)
    killed = time.monotonic()
    supervisor.kill()
    wait_gone(parts, 3)
    quick.wait_for("completed", timeout=SAME_HOST + 5)
    for key in keys:
        assert quick.outcomes(key) == ["lost", "succeeded"]
        assert_ran_again_alone(quick, key, killed, SAME_HOST + 1)


def test_what_a_task_started_dies_when_its_supervisor_is_killed(quick: Site) -> None:
    worker = quick.start_worker()
    [key] = enqueue(quick, effect(quick, 60, children=1, marked=True))
    quick.wait_for_start(key)
    wait_until(lambda: len(sleepers(worker)) == 3)
    children = sleepers(worker)
    worker.send_signal(signal.SIGKILL)  # remembers its family, for the end of the test
    wait_gone(children, 3)


def test_what_a_task_forked_dies_when_its_supervisor_is_killed(quick: Site) -> None:
    worker, key, forked = start_forking(quick)
    quick.start_worker("--name", "second")
    killed = time.monotonic()
    worker.send_signal(signal.SIGKILL)
    wait_gone(forked, 3)
    quick.wait_for("completed", key)
    assert_ran_again_alone(quick, key, killed, ANYWHERE)


@pytest.mark.parametrize("settings", ["quick", "threaded"])
def test_what_a_task_forked_does_not_keep_its_dead_worker_alive(quick: Site, settings: str) -> None:
    """Nor where its runner was not forked, but started afresh."""
    quick.env["DJANGO_SETTINGS_MODULE"] = f"tests.acceptance.{settings}"
    worker, key, forked = start_forking(quick)
    quick.start_worker("--name", "second")
    killed = time.monotonic()
    kill_at_once(worker)
    quick.wait_for("completed", key)
    assert all(map(alive, forked))
    assert quick.outcomes(key) == ["lost", "succeeded"]
    [again] = [start for start in quick.effects("start", key) if start.attempt == 2]
    assert again.at - killed <= SAME_HOST + 1


def test_what_a_task_forks_may_fork_as_well(site: Site) -> None:
    site.start_worker()
    [key] = enqueue(site, call("nested"))
    site.wait_for("completed", key)
    assert result(site, key) == "said"


def test_what_a_task_forks_is_ended_by_a_signal(site: Site) -> None:
    """Its runner does not heed them; whoever ends a child, like a pool does, would wait for ever."""
    site.start_worker()
    [key] = enqueue(site, call("end_what_it_forked"))
    site.wait_for("completed", key, timeout=40)
    assert result(site, key) == [-signal.SIGTERM, -signal.SIGHUP, 1]


def start_forking(site: Site) -> tuple[Worker, str, list[psutil.Process]]:
    """A worker with a task that runs for a minute the first time, and what that forked."""
    worker = site.start_worker("--name", "first")
    [key] = enqueue(site, effect(site, 60, later=0.1, forks=2))
    site.wait_for_start(key)
    wait_until(lambda: len(site.effects("forked", key)) == 2)
    return worker, key, [psutil.Process(each.pid) for each in site.effects("forked", key)]


def test_tasks_of_a_worker_killed_all_at_once_are_rescued_by_a_neighbour(quick: Site) -> None:
    worker, keys, _ = start_two(quick)
    quick.start_worker("--count", "2", "--name", "second")
    killed = time.monotonic()
    kill_at_once(worker)
    worker.wait(5)
    quick.wait_for("completed")
    for key in keys:
        assert quick.outcomes(key) == ["lost", "succeeded"]
        assert_ran_again_alone(quick, key, killed, SAME_HOST + 1)
        assert quick.job(key).attempts == 0


@pytest.mark.parametrize("how", ["", "deaf", "in C"])
def test_tasks_end_by_the_lease_of_a_ledger_that_stands_still(quick: Site, how: str) -> None:
    worker, keys, starts = start_two(quick, how=how, seconds=0 if how else 60)
    ledger = worker.ledger()
    stopped = time.monotonic()
    ledger.suspend()
    bound = FENCED + TOLERANCE
    if not quick.is_postgresql:
        # There the lock is the lease, so what ends them is that a round of the supervisor, each of
        # which may take a second, finds the ledger silent for as long.
        bound += 1
    assert wait_gone([psutil.Process(s.pid) for s in starts], 10) - stopped <= bound
    quick.wait_for("completed", timeout=ANYWHERE)
    for key in keys:
        assert quick.outcomes(key)[-1] == "succeeded"
        assert ran(quick, "start", key) == [2]
    assert quick.effects("overlap") == []


# The database


def test_a_task_in_a_long_transaction_does_not_make_its_worker_look_dead(quick: Site) -> None:
    one = quick.start_worker("--name", "one")
    quick.start_worker("--name", "two")
    # Longer than a lease: 5 s here.
    [key] = enqueue(quick, call("long_transaction", 6))
    quick.wait_for("completed", key, timeout=10)
    assert quick.outcomes(key) == ["succeeded"]
    assert quick.job(key).losses == 0
    assert [(row.name, row.stopped_at) for row in quick.worker_rows()] == [
        ("one", None),
        ("two", None),
    ]
    assert quick.sql("SELECT n FROM long_transaction") == [(1,)]
    [after] = enqueue(quick, effect(quick))
    quick.wait_for("completed", after)
    assert one.poll() is None
    logs = "".join(worker.log for worker in quick.workers)
    assert "is dead" not in logs
    assert "ledger process" not in logs


@pytest.mark.parametrize("how", ["open", "atomic", "broken"])
def test_a_transaction_that_a_task_left_harms_no_other(site: Site, how: str) -> None:
    site.sql("CREATE TABLE task_row (number integer)")
    left, first, second = enqueue(
        site, call("leave_written", how), call("insert", 1), call("insert", 2)
    )
    site.run_until_empty()
    assert site.outcomes(left) == (["failed"] if how == "broken" else ["succeeded"])
    assert (result(site, first), result(site, second)) == ([1], [1, 2])
    assert site.sql("SELECT number FROM task_row ORDER BY number") == [(1,), (2,)]


def test_an_alarm_that_a_task_left_ends_no_other(site: Site) -> None:
    keys = enqueue(site, call("leave_alarm", 0.3), call("sleep", 0.6))
    site.run_until_empty()
    assert [site.outcomes(key) for key in keys] == [["succeeded"]] * 2


@pytest.mark.parametrize("again", [True, False], ids=["in use", "unused"])
@pytest.mark.parametrize("options", ["", "?conn_max_age=600&conn_health_checks=False"])
def test_a_task_works_after_the_server_has_cut_its_connection(
    site: Site, again: bool, options: str
) -> None:
    if not site.is_postgresql:
        pytest.skip("SQLite has no server")
    site.env["DATABASE_URL"] = f"{site.database_url}{options}"
    site.sql("CREATE TABLE task_row (number integer)")
    # All of it short, so that it is claimed ahead and a runner does not rest in between.
    keys = enqueue(
        site,
        *[call("noop")] * 100,
        *[call("insert", 0), call("lose_connection", again), call("insert", 1)] * 10,
    )
    worker = site.start_worker()
    wait_for_end(site)
    ends = [site.outcomes(key) for key in keys[100:]]
    assert ends[1::3] == [["failed" if again else "succeeded"]] * 10
    assert ends[0::3] + ends[2::3] == [["succeeded"]] * 20
    # And now all of them: the ledger's too.
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    )
    site.sql(f"{cut} AND pid <> pg_backend_pid()")
    [last] = enqueue(site, call("insert", 2))
    site.wait_for("completed", last)
    assert worker.poll() is None
    assert "closed properly" not in worker.log
