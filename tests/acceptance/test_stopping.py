"""How a worker ends: by a signal, from another terminal, by itself, or with its terminal."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.acceptance.databases import MANAGE, ROOT
from tests.acceptance.site import Site, Worker, alive, stays
from tests.support import wait_until

TERM_IGNORED = "trap 'echo got TERM' TERM; while :; do sleep 0.1; done"
"""Says that it was asked, and goes on."""


def interrupt(worker: Worker) -> None:
    """As Ctrl-C: the whole foreground group gets it, not the supervisor alone."""
    worker.remember_family()
    os.killpg(worker.pid, signal.SIGINT)


def assert_nothing_is_left(site: Site) -> None:
    assert site.processes() == []
    assert site.counts()["processing"] == 0
    assert all(row.stopped_at for row in site.worker_rows())


@pytest.mark.parametrize("stop", [Worker.terminate, interrupt], ids=["SIGTERM", "SIGINT"])
def test_a_signal_lets_what_runs_finish_and_claims_no_more(site: Site, stop) -> None:  # type: ignore[no-untyped-def]
    running = ("a", "b")
    waiting = tuple(f"waiting{number}" for number in range(5))
    site.enqueue(*(site.effect(key, 1.5) for key in (*running, *waiting)))
    worker = site.start_worker("--count", "2")
    site.wait_for_start(*running)
    stop(worker)
    assert worker.wait(10) == 0
    assert site.states() == dict.fromkeys(running, "completed") | dict.fromkeys(waiting, "pending")
    assert {effect.job for effect in site.effects("start")} == set(running)
    assert [site.outcomes(key) for key in running] == [["succeeded"]] * 2
    assert_nothing_is_left(site)
    assert "Traceback" not in worker.log


@pytest.mark.parametrize("place", ["in_claim", "in_report"])
@pytest.mark.parametrize("stop", [Worker.terminate, interrupt], ids=["SIGTERM", "SIGINT"])
def test_a_signal_while_a_claim_or_a_report_is_not_committed_loses_neither(
    quick: Site, place: str, stop: Callable[[Worker], None]
) -> None:
    quick.env |= {
        "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
        "CHAOS_MARKERS": str(quick.directory),
        "CHAOS_FAILPOINT": f"{place}:sleep=1",
    }
    keys = [f"job{number}" for number in range(6)]
    quick.enqueue(*(quick.effect(key, 0.3) for key in keys))
    worker = quick.spawn_worker("--count", "2")
    wait_until((quick.directory / f"{place}-sleep=1").exists, message=quick.describe)
    stop(worker)
    assert worker.wait(10) == 0
    ended = sorted(effect.job for effect in quick.effects("end"))
    assert sorted(effect.job for effect in quick.effects("start")) == ended, "one was cut short"
    # A slow runner may hear of the claims and of the stop at once, and gives them back.
    assert 2 * (place == "in_report") <= len(ended) <= 4, "it claimed on"
    assert quick.states() == {k: "completed" if k in ended else "pending" for k in keys}
    assert [quick.outcomes(k) for k in keys] == [["succeeded"] * (k in ended) for k in keys]
    assert_nothing_is_left(quick)
    assert "Traceback" not in worker.log


def test_an_idle_worker_stops_at_once(site: Site) -> None:
    worker = site.start_worker()
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 5
    assert_nothing_is_left(site)


def test_what_outlasts_the_grace_period_is_killed_and_goes_back_without_using_a_retry(
    site: Site,
) -> None:
    site.hurry(GRACE_SECONDS=1.5)
    site.enqueue(
        {"id": "stubborn", "command": TERM_IGNORED},
        {"id": "soft", "command": "sleep 60"},
        {"id": "short", "command": "sleep 0.5"},
    )
    worker = site.start_worker("--count", "3")
    wait_until(lambda: len(site.commands()) >= 3, message=site.describe)
    began = time.monotonic()
    worker.terminate()
    stays(lambda: site.commands("soft"), 1.0, lambda: "killed within the grace period")
    assert worker.wait(10) == 0
    assert 1.5 <= time.monotonic() - began <= 1.5 + 1 + 2
    assert site.states() == {"stubborn": "pending", "soft": "pending", "short": "completed"}
    [stubborn], [soft] = site.attempts("stubborn"), site.attempts("soft")
    assert (stubborn.outcome, stubborn.signal) == ("interrupted", signal.SIGKILL)
    assert (soft.outcome, soft.signal) == ("interrupted", signal.SIGTERM)
    assert site.output("stubborn", "--stdout") == b"got TERM\n"
    for key in ("stubborn", "soft"):
        job = site.job(key)
        assert (job.attempts, job.interruptions, job.losses) == (0, 1, 0)
    assert_nothing_is_left(site)


@pytest.mark.parametrize("stop", [Worker.terminate, interrupt], ids=["SIGTERM", "SIGINT"])
def test_a_second_signal_cuts_short_with_exit_code_130(site: Site, stop) -> None:  # type: ignore[no-untyped-def]
    site.hurry(GRACE_SECONDS=30)
    site.enqueue({"id": "stubborn", "command": TERM_IGNORED}, site.effect("soft", 60))
    worker = site.start_worker("--count", "2")
    wait_until(lambda: len(site.commands()) >= 3, message=site.describe)
    stop(worker)
    stays(lambda: worker.poll() is None, 1.0, lambda: "ended within the grace period")
    assert site.commands("soft") != []
    began = time.monotonic()
    stop(worker)
    assert worker.wait(10) == 130
    assert time.monotonic() - began <= 1 + 2
    assert site.counts() == {"pending": 2}
    assert [site.outcomes(key) for key in ("stubborn", "soft")] == [["interrupted"]] * 2
    assert_nothing_is_left(site)
    assert "Traceback" not in worker.log


def test_one_signal_interrupts_hundreds_of_commands_within_seconds(site: Site) -> None:
    site.hurry(GRACE_SECONDS=0.5, LEASE_SECONDS=10)
    many, started = 300, site.directory / "started"
    command = f"echo $QUEUECTL_JOB_ID >> {started}; sleep 100; true"
    site.enqueue(*({"id": f"job{number}", "command": command} for number in range(many)))
    worker = site.start_worker("--count", str(many))
    wait_until(
        lambda: started.exists() and len(started.read_text().splitlines()) == many,
        timeout=30,
        message=lambda: worker.log,
    )
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(15) == 0, worker.log
    assert time.monotonic() - began < 10
    query = "SELECT outcome, count(*) FROM queuectl_attempt GROUP BY outcome"
    assert site.sql(query) == [("interrupted", many)]
    assert site.counts() == {"pending": many}
    assert_nothing_is_left(site)


def test_many_signals_at_once_are_one_orderly_stop(quick: Site) -> None:
    quick.enqueue(quick.effect("a", 60), quick.effect("b", 60))
    worker = quick.start_worker("--count", "2")
    quick.wait_for_start("a", "b")
    worker.remember_family()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(worker.pid, number)
    assert worker.wait(10) in (0, 130)
    assert quick.counts() == {"pending": 2}
    assert_nothing_is_left(quick)


def ignores(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    [mask] = re.findall(r"^SigIgn:\s*(\w+)", status, re.MULTILINE)
    return bool(int(mask, 16) & 1 << number - 1)


def test_a_terminal_that_closes_ends_its_worker_in_order(site: Site) -> None:
    """The shell and the kernel each send a signal; it is one wish, and leaves what runs its grace."""
    site.enqueue(site.effect("a", 1))
    worker = site.start_worker()
    site.wait_for_start("a")
    os.kill(worker.pid, signal.SIGHUP)
    wait_until(lambda: ignores(worker.pid, signal.SIGHUP), message="the first was not heard")
    os.kill(worker.pid, signal.SIGHUP)
    assert worker.wait(10) == 0
    assert site.counts() == {"completed": 1}
    assert_nothing_is_left(site)


def test_a_worker_under_nohup_outlives_its_terminal(site: Site) -> None:
    worker = site.start_worker(before=["nohup"])
    os.kill(worker.pid, signal.SIGHUP)
    site.enqueue(site.effect("a"))
    site.wait_for("completed", "a")
    assert worker.stop() == 0


def test_stop_from_another_terminal_drains_every_worker_and_waits_for_it(site: Site) -> None:
    site.enqueue(site.effect("a", 1.5), site.effect("b", 1.5))
    workers = [site.start_worker() for _ in range(2)]
    site.wait_for_start("a", "b")
    stopping = site.run("worker", "stop")
    assert stopping.stdout == "Stopping workers gracefully...\nAll workers stopped\n"
    assert [worker.wait(3) for worker in workers] == [0, 0]
    assert site.counts() == {"completed": 2}
    assert_nothing_is_left(site)


def test_stop_now_interrupts_what_runs(site: Site) -> None:
    site.hurry(GRACE_SECONDS=30)
    site.enqueue(site.effect("a", 60))
    worker = site.start_worker()
    site.wait_for_start("a")
    stopping = site.run("worker", "stop", "--now", timeout=15)
    assert stopping.stdout == "Stopping workers now...\nAll workers stopped\n"
    assert worker.wait(3) == 0
    assert site.outcomes("a") == ["interrupted"]
    assert site.counts() == {"pending": 1}
    assert_nothing_is_left(site)


def test_stop_now_hurries_a_stop_that_has_begun(site: Site) -> None:
    site.hurry(GRACE_SECONDS=30)
    site.enqueue(site.effect("a", 60))
    worker = site.start_worker()
    site.wait_for_start("a")
    asked = site.run("worker", "stop", "--no-wait")
    assert asked.stdout == "Stopping workers gracefully...\n"
    [listed] = json.loads(site.run("worker", "list", "--json").stdout)
    assert listed["draining"] is True
    assert worker.poll() is None
    began = time.monotonic()
    site.run("worker", "stop", "--now")
    assert worker.wait(3) == 0
    assert time.monotonic() - began < 30, "it waited for the grace that had begun"
    assert site.outcomes("a") == ["interrupted"]


def test_a_worker_told_to_stop_claims_no_more_though_its_ledger_dies(site: Site) -> None:
    site.hurry(GRACE_SECONDS=30)
    site.enqueue(site.effect("a", 60), site.effect("waiting"))
    worker = site.start_worker()
    site.wait_for_start("a")
    site.run("worker", "stop", "--no-wait")
    wait_until(lambda: site.sql("SELECT 1 FROM queuectl_worker WHERE draining"))
    worker.ledger().kill()
    assert worker.wait(10) == 0
    assert site.outcomes("a") == ["lost"]
    assert [effect.job for effect in site.effects("start")] == ["a"]
    assert_nothing_is_left(site)


def test_a_stop_that_a_ledger_was_too_hung_to_hear_is_heard_by_the_next(site: Site) -> None:
    site.hurry()
    site.enqueue(site.effect("a", 60), site.effect("waiting"))
    worker = site.start_worker()
    site.wait_for_start("a")
    worker.ledger().suspend()
    site.run("worker", "stop", "--no-wait")
    assert worker.wait(15) == 0
    assert site.outcomes("a") == ["lost"]
    assert [effect.job for effect in site.effects("start")] == ["a"]
    assert_nothing_is_left(site)


def test_stop_by_name_leaves_the_others(site: Site) -> None:
    one, two = site.start_worker("--name", "one"), site.start_worker("--name", "two")
    refused = site.run("worker", "stop", "three", check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith('Error: No worker "three" is running\n')
    assert "All workers stopped" in site.run("worker", "stop", "one").stdout
    assert one.wait(3) == 0
    site.enqueue(site.effect("a"))
    site.wait_for("completed")
    assert two.poll() is None


def test_stop_that_waits_no_longer_says_who_has_not_stopped(site: Site) -> None:
    site.enqueue(site.effect("a", 60))
    site.start_worker("--name", "busy")
    site.wait_for_start("a")
    stopping = site.run("worker", "stop", "--timeout", "1s", check=False)
    assert stopping.returncode == 1
    assert "busy" in stopping.stderr


def test_worker_list_tells_who_lives_and_what_they_run(site: Site) -> None:
    site.enqueue(site.effect("a", 60, queue="media"))
    worker = site.start_worker("--name", "one", "--count", "3", "-q", "media", "-q", "mail")
    site.wait_for_start("a")
    [listed] = json.loads(site.run("worker", "list", "--json").stdout)
    told = {name: listed[name] for name in ("name", "pid", "slots", "queues", "jobs", "draining")}
    assert told == {
        "name": "one",
        "pid": worker.pid,
        "slots": 3,
        "queues": ["media", "mail"],
        "jobs": ["a"],
        "draining": False,
    }
    head, row = site.run("worker", "list").stdout.splitlines()
    assert head.split() == [
        *("NAME", "HOST", "PID", "SLOTS", "QUEUES", "HEARTBEAT", "STATE", "RUNS"),
    ]
    assert row.startswith("one ")
    assert "1/3" in row
    assert "media, mail" in row


def test_until_empty_waits_for_retries_but_not_for_what_is_scheduled(site: Site) -> None:
    made = site.directory / "made"
    site.enqueue(
        {
            "id": "second time lucky",
            "command": f"test -e {made} || {{ touch {made}; exit 1; }}",
            "backoff_base": 1.5,
        },
        {"id": "later", "command": "true", "delay": 3600},
    )
    worker = site.start_worker("--until-empty")
    assert worker.wait(15) == 0
    assert site.states() == {"second time lucky": "completed", "later": "scheduled"}
    assert site.outcomes("second time lucky") == ["failed", "succeeded"]
    assert_nothing_is_left(site)


@pytest.fixture
def detached(site: Site) -> Iterator[psutil.Process]:
    log = site.directory / "detached.log"
    started = site.run("worker", "start", "--detach", "--log", str(log), timeout=20, fresh=True)
    assert started.stdout == "Started 1 worker(s)\n"
    assert str(log) in started.stderr
    [listed] = json.loads(site.run("worker", "list", "--json").stdout)
    yield psutil.Process(listed["pid"])


def test_a_detached_worker_outlives_its_caller_until_it_is_stopped(
    site: Site, detached: psutil.Process
) -> None:
    assert "Started 1 worker(s)" in (site.directory / "detached.log").read_text()
    assert os.getsid(detached.pid) != os.getsid(0)
    site.enqueue(site.effect("a"))
    site.wait_for("completed")
    assert "All workers stopped" in site.run("worker", "stop").stdout
    wait_until(lambda: not alive(detached))
    assert_nothing_is_left(site)


def test_a_detached_worker_that_cannot_start_says_why(site: Site) -> None:
    result = site.run(
        *("worker", "start", "--detach", "--log", str(site.directory / "no" / "log")),
        check=False,
        fresh=True,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: Cannot write the log ")
    assert "Traceback" not in result.stderr


def test_a_worker_whose_reader_has_gone_works_on(site: Site) -> None:
    errors = site.directory / "errors"
    script = f'"$@" 2>{errors} | head -1; echo the reader is gone >&2'
    shell = subprocess.Popen(
        ["sh", "-c", script, "sh", *MANAGE, "worker", "start"],
        cwd=ROOT,
        env=site.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"Started 1 worker(s)\n"
        site.enqueue(site.effect("a"))
        site.wait_for("completed")
        [listed] = json.loads(site.run("worker", "list", "--json").stdout)
        os.kill(listed["pid"], signal.SIGTERM)
        assert shell.wait(10) == 0
    assert_nothing_is_left(site)
    assert "Traceback" not in errors.read_text()
    assert "Broken" not in errors.read_text()


def test_a_worker_whose_errors_nobody_reads_replaces_a_runner_that_dies(site: Site) -> None:
    buffered = {name: value for name, value in site.env.items() if name != "PYTHONUNBUFFERED"}
    worker = subprocess.Popen(
        [*MANAGE, "worker", "start"],
        cwd=ROOT,
        env=buffered,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert worker.stdout is not None and worker.stderr is not None
    assert worker.stdout.readline() == b"Started 1 worker(s)\n"
    worker.stdout.close()
    worker.stderr.close()
    site.enqueue({"id": "a", "command": "kill -9 $PPID; sleep 9", "max_retries": 0})
    site.wait_for("dead", "a", timeout=20)
    assert site.outcomes("a") == ["lost"] * 3
    worker.terminate()
    assert worker.wait(10) == 0
    assert_nothing_is_left(site)


class Terminal:
    """A real terminal with a program in its foreground."""

    OPEN = (
        "import fcntl, os, sys, termios; os.setsid(); "
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    )

    def __init__(self, site: Site, *command: str) -> None:
        self.screen, inner = os.openpty()
        self.shown = b""
        os.set_blocking(self.screen, False)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-IS", "-c", self.OPEN, *command],
                cwd=ROOT,
                env=site.env,
                stdin=inner,
                stdout=inner,
                stderr=inner,
            )
        finally:
            os.close(inner)

    def shows(self, text: str) -> bool:
        with suppress(BlockingIOError, OSError):
            while piece := os.read(self.screen, 65_536):
                self.shown += piece
        return text in self.shown.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def close(self) -> None:
        if self.screen >= 0:
            os.close(self.screen)
        self.screen = -1


@pytest.fixture
def terminal(site: Site) -> Iterator[Terminal]:
    terminal = Terminal(site, *MANAGE, "worker", "start", "--count", "2")
    wait_until(lambda: terminal.shows("Started 2 worker(s)"), message=lambda: str(terminal.shown))
    yield terminal
    terminal.close()
    terminal.process.kill()
    terminal.process.wait()


def test_ctrl_c_at_a_terminal_lets_commands_finish(site: Site, terminal: Terminal) -> None:
    site.enqueue(site.effect("a", 1.5))
    site.wait_for_start("a")
    terminal.type("\x03")
    assert terminal.process.wait(10) == 0
    assert site.outcomes("a") == ["succeeded"]
    assert_nothing_is_left(site)
    assert not terminal.shows("Traceback")


def test_a_worker_drains_when_its_terminal_is_closed(site: Site, terminal: Terminal) -> None:
    site.enqueue(site.effect("a", 1.5))
    site.wait_for_start("a")
    terminal.close()
    assert terminal.process.wait(10) == 0
    assert site.outcomes("a") == ["succeeded"]
    assert_nothing_is_left(site)


def test_a_worker_that_dies_while_it_starts_leaves_nothing(site: Site, tmp_path: Path) -> None:
    worker = site.spawn_worker()
    wait_until(lambda: len(site.processes()) > 1 or worker.poll() is not None)
    worker.terminate()
    assert worker.wait(10) == 0
    assert_nothing_is_left(site)
