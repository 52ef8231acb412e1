"""What a command meets while it runs, what is kept of it, and what becomes of its descendants."""

import hashlib
import json
import re
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.site import Site, age, arguments, moment, stays, wait_gone
from tests.support import wait_until

MIB = 1024 * 1024


def program(source: str, *args: object) -> dict[str, Any]:
    """A job's `argv` that runs Python source."""
    return {"argv": [sys.executable, "-IS", "-c", source, *map(str, args)]}


def sleepers(site: Site, seconds: int) -> list[psutil.Process]:
    """`sleep SECONDS` of this site, whoever its parent is."""
    return [p for p in site.processes() if arguments(p) == ["sleep", str(seconds)]]


def seconds_since(moment: float) -> float:
    return time.monotonic() - moment


# Time limits


@pytest.mark.one_database
def test_a_timeout_kills_a_whole_tree_that_ignores_sigterm(quick: Site) -> None:
    tree = "trap '' TERM; sleep 301 & setsid sleep 302 & (setsid sh -c 'sleep 303 & sleep 304' &)"
    quick.enqueue({"id": "tree", "command": f"{tree}; sleep 305", "timeout": 1, "max_retries": 0})
    quick.start_worker()

    def family() -> list[psutil.Process]:
        return [p for seconds in range(301, 306) for p in sleepers(quick, seconds)]

    wait_until(lambda: len(family()) == 5, message=quick.describe)
    began = time.monotonic() - age(family()[-1])
    wait_until(lambda: quick.commands() == [], message=lambda: str(quick.commands()))
    assert seconds_since(began) <= 1 + 1 + 1
    quick.wait_for("dead")
    [attempt] = quick.attempts("tree")
    assert (attempt.outcome, attempt.signal) == ("timed_out", signal.SIGKILL)
    assert attempt.error == "Job timed out after 1 seconds"


@pytest.mark.one_database
def test_a_command_that_ends_on_sigterm_at_its_timeout_is_not_killed(quick: Site) -> None:
    command = "trap 'echo cleaning up; exit 0' TERM; while :; do sleep 0.1; done"
    quick.enqueue({"id": "polite", "command": command, "timeout": 1, "max_retries": 0})
    quick.run_until_empty()
    [attempt] = quick.attempts("polite")
    assert (attempt.outcome, attempt.exit_code) == ("timed_out", 0)
    assert quick.output("polite", "--stdout") == b"cleaning up\n"
    assert quick.job("polite").state == "dead"


@pytest.mark.one_database
def test_sigterm_comes_once(quick: Site) -> None:
    """Many programs take a second one as: at once, without cleaning up."""
    source = """
import os, signal, time
reading, writing = os.pipe()
for fd in reading, writing:
    os.set_blocking(fd, False)
signal.set_wakeup_fd(writing)
signal.signal(signal.SIGTERM, lambda *_: None)
print("ready", flush=True)
while True:
    signal.pause()
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        time.sleep(0.01)
    print(len(os.read(reading, 100)), flush=True)
    break
"""
    keys = [f"job{number}" for number in range(16)]
    quick.enqueue(*({"id": key, **program(source), "timeout": 1.5} for key in keys))
    worker = quick.start_worker("--count", "16")
    quick.wait_for("failed", *keys)
    assert {quick.output_rows(key) for key in keys} == {b"ready\n1\n"}
    assert worker.poll() is None


# Leftovers


@pytest.mark.parametrize(
    ("leave", "within"),
    [
        pytest.param("sleep 300 &", 4, id="background"),
        pytest.param("sleep 300 > /dev/null 2>&1 &", 4, id="background without its pipes"),
        pytest.param("setsid sleep 300 &", 6, id="a session of its own"),
        pytest.param("setsid sleep 300 > /dev/null 2>&1 &", 6, id="and without its pipes"),
        pytest.param("(setsid sh -c 'sleep 300 & exit' &);", 6, id="double fork"),
        pytest.param("nohup sleep 300 > /dev/null 2>&1 &", 4, id="nohup"),
    ],
)
@pytest.mark.one_database
def test_what_a_command_leaves_behind_neither_delays_it_nor_stays(
    site: Site, leave: str, within: float
) -> None:
    worker = site.start_worker("--count", "2")
    site.enqueue(site.effect("other", 60), {"id": "leaver", "command": f"{leave} echo hi"})
    site.wait_for("completed", "leaver")
    job = site.job("leaver")
    assert (job.updated_at - job.started_at).total_seconds() < 4
    wait_until(lambda: sleepers(site, 300) == [], timeout=within)
    assert site.output_rows("leaver") == b"hi\n"
    assert site.outcomes("leaver") == ["succeeded"]
    assert site.job("other").state == "processing"
    assert worker.poll() is None


@pytest.mark.one_database
def test_one_that_emptied_its_environment_too_goes_when_nothing_else_runs(site: Site) -> None:
    site.start_worker()
    command = "env -i setsid sleep 300 > /dev/null 2>&1 & sleep 0.5"
    site.enqueue({"id": "leaver", "command": command})
    left = wait_until(lambda: sleepers(site, 300), message=site.describe)
    site.wait_for("completed")
    wait_gone(left, 6)


# Output


def test_a_flood_of_output_keeps_memory_bounded_and_is_counted_to_the_byte(site: Site) -> None:
    site.enqueue({"id": "warm-up", "command": "yes | head -c 3M; yes | head -c 3M >&2"})
    worker = site.start_worker()
    site.wait_for("completed")
    before = {part: peak_memory(part) for part in worker.all_parts()}
    site.enqueue({"id": "flood", "command": "yes | head -c 1G"})
    site.wait_for("completed", timeout=60)
    assert worker.all_parts() == list(before)
    grown = {part: peak_memory(part) - peak for part, peak in before.items()}
    assert max(grown.values()) < 20 * MIB, grown
    [attempt] = site.attempts("flood")
    assert attempt.stdout_bytes == 1024 * MIB
    assert len(site.output("flood")) == MIB


def test_floods_drips_and_a_million_lines_keep_nobody_waiting(site: Site) -> None:
    stuck = {"timeout": 3, "max_retries": 0}
    site.enqueue(
        {"id": "flood then hang", "command": "yes | head -c 5M; sleep 600", **stuck},
        {"id": "drip", "command": "while :; do echo x; sleep 0.05; done", **stuck},
        {"id": "a million lines", "command": "seq 1000000 >&2"},
        {"id": "behind them", "command": "true"},
    )
    began = time.monotonic()
    site.run_until_empty("--count", "2")
    assert time.monotonic() - began <= 2 * (3 + 5 + 1) + 5
    states = {"flood then hang": "dead", "drip": "dead", "a million lines": "completed"}
    assert site.states() == states | {"behind them": "completed"}
    flood, drip = (site.attempts(key)[0] for key in ("flood then hang", "drip"))
    assert (flood.outcome, flood.stdout_bytes) == ("timed_out", 5 * MIB)
    assert drip.outcome == "timed_out" and 10 <= drip.stdout_bytes // 2 <= 65
    assert site.attempts("a million lines")[0].stderr_bytes == 6_888_896
    assert site.output("a million lines", "--stderr").endswith(b"999999\n1000000\n")


def test_a_worker_with_few_descriptors_puts_off_what_it_cannot_start_and_runs_all_in_the_end(
    site: Site,
) -> None:
    """32 commands at once take 64 pipes; its runners have room for some."""
    few = ["sh", "-c", 'ulimit -n 40 && exec "$0" "$@"']
    site.enqueue(*({"id": f"j{n}", "command": "sleep 0.3"} for n in range(64)))
    worker = site.start_worker("--count", "32", "--until-empty", before=few)
    put_off = "SELECT count(*) FROM queuectl_job WHERE last_error LIKE %s"
    wait_until(
        lambda: site.sql(put_off, ["Could not start: Too many open files%"])[0][0] > 0,
        message="it could start all of them: the test shows nothing",
    )
    assert worker.wait(30) == 0
    assert set(site.states().values()) == {"completed"}, "it left before all had run"
    assert all(site.outcomes(f"j{n}") == ["succeeded"] for n in range(64)), "it used up a retry"
    assert "Traceback" not in worker.log


def peak_memory(process: psutil.Process) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_output_below_the_cap_comes_back_byte_for_byte(site: Site) -> None:
    out, err = site.directory / "out", site.directory / "err"
    command = (
        f"head -c 500000 /dev/urandom | tee {out}; printf '\\0\\377\\r\\033[31m\\303' | tee -a {out};"
        f" head -c 1048576 /dev/urandom | tee {err} >&2"
    )
    site.enqueue({"id": "binary", "command": command})
    site.run_until_empty()
    for stream, file in (("--stdout", out), ("--stderr", err)):
        raw = site.output("binary", stream)
        assert hashlib.sha256(raw).digest() == hashlib.sha256(file.read_bytes()).digest()


def test_output_above_the_cap_keeps_its_head_and_its_tail(site: Site) -> None:
    site.enqueue({"id": "long", "command": "seq 400000"})
    site.run_until_empty()
    whole = b"".join(b"%d\n" % number for number in range(1, 400_001))
    kept = site.output("long")
    assert len(kept) == MIB
    assert whole.startswith(kept[: MIB // 2])
    assert whole.endswith(kept[MIB // 2 :])
    assert site.attempts("long")[0].stdout_bytes == len(whole)
    shown = site.run("job", "output", "long").stdout
    assert f"{len(whole) - MIB:,} bytes left out" in shown
    assert shown.endswith("399999\n400000\n")


@pytest.mark.one_database
def test_output_that_is_shown_obeys_no_control_sequence(site: Site) -> None:
    command = r"printf '\033]52;c;ZXZpbA==\007\033[2J\033[31mred\033[0m \302\2335m bad \377\n'"
    site.enqueue({"id": "hostile", "command": command})
    site.run_until_empty()
    shown = site.run("job", "output", "hostile").stdout
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    assert "red" in shown


def test_the_output_of_every_attempt_is_kept(site: Site) -> None:
    job = {"id": "talker", "command": "echo run $QUEUECTL_ATTEMPT; exit 1", "backoff_base": 1}
    site.enqueue(job | {"max_retries": 1})
    site.run_until_empty()
    assert site.output("talker", "--attempt", "1") == b"run 1\n"
    assert site.output("talker", "--attempt", "2") == b"run 2\n"
    assert site.output("talker") == b"run 2\n"


# What it is given


@pytest.mark.one_database
def test_stdin_is_empty(site: Site) -> None:
    site.enqueue({"id": "reader", "command": "cat; read x; echo $?; readlink /proc/self/fd/0"})
    site.run_until_empty()
    assert site.output("reader") == b"1\n/dev/null\n"
    job = site.job("reader")
    assert job.finished_at - job.started_at < timedelta(seconds=1)


SECRETS = {"AWS_SECRET_ACCESS_KEY": "s3cr3t", "API_TOKEN": "s3cr3t", "PGPASSWORD": "s3cr3t"}


@pytest.mark.parametrize("debug", ["on", "off"], ids=["development", "production"])
@pytest.mark.one_database
def test_a_command_sees_no_secret_of_its_worker(site: Site, debug: str) -> None:
    site.env |= {"DEBUG": debug, "HARMLESS": "h4rmless", "LC_TIME": "C", **SECRETS}
    site.enqueue({"id": "teller", "argv": ["env", "-0"], "env": {"MINE": "42\nlines"}})
    site.run_until_empty()
    told = site.output("teller").decode().rstrip("\0").split("\0")
    seen = dict(entry.split("=", 1) for entry in told)
    assert seen.pop("MINE") == "42\nlines"
    assert (seen.pop("QUEUECTL_JOB_ID"), seen.pop("QUEUECTL_ATTEMPT")) == ("teller", "1")
    assert re.fullmatch(r"[0-9a-f]{32}-[0-9]+", seen.pop("QUEUECTL_LEASE"))
    assert not {name for name in seen if name.startswith("QUEUECTL_")}
    assert not seen.keys() & {"SECRET_KEY", "DATABASE_URL", *SECRETS}
    assert site.env["SECRET_KEY"] not in "".join(told)
    if debug == "on":
        assert seen["HARMLESS"] == "h4rmless"
    else:
        allowed = {"PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "LOGNAME"}
        assert {name for name in seen if not name.startswith("LC_")} <= allowed
        assert seen["LC_TIME"] == "C"
        assert seen["PATH"] == site.env["PATH"]


@pytest.mark.parametrize("cwd", ["", "/"], ids=["here", "in another directory"])
@pytest.mark.one_database
def test_a_command_inherits_no_file_but_its_three_streams_and_no_signal_setting(
    site: Site, cwd: str
) -> None:
    source = """
import os
print(sorted(os.listdir("/proc/self/fd"), key=int)[:-1])
print([os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in range(3)])
"""
    place = {"cwd": cwd} if cwd else {}
    status = {"argv": ["grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"]}
    site.enqueue(
        *({"id": f"job{number}", **program(source), **place} for number in range(4)),
        {"id": "signals", **status, **place},
    )
    site.run_until_empty("--count", "4")
    for number in range(4):
        printed = site.output_rows(f"job{number}").decode().splitlines()
        assert printed == ["['0', '1', '2']", "['/dev/null', 'pipe', 'pipe']"]
    masks = [line.split() for line in site.output_rows("signals").decode().splitlines()]
    # 32 and 33 are the C library's own.
    own = 1 << 31 | 1 << 32
    assert {name: int(mask, 16) & ~own for name, mask in masks} == {"SigBlk:": 0, "SigIgn:": 0}


@pytest.mark.one_database
def test_a_command_runs_in_a_session_of_its_own(site: Site) -> None:
    source = "import os; print(os.getsid(0) == os.getpgid(0) == os.getpid())"
    site.enqueue({"id": "session", **program(source)})
    site.run_until_empty()
    assert site.output("session") == b"True\n"


@pytest.mark.one_database
def test_a_job_runs_in_its_directory_and_one_whose_directory_is_missing_is_not_started(
    site: Site,
) -> None:
    place = site.directory / "a place"
    place.mkdir()
    site.enqueue(
        {"id": "there", "command": "pwd", "cwd": str(place)},
        {"id": "nowhere", "command": "pwd", "cwd": "/no/such/place", "max_retries": 0},
        {"id": "after", "command": "pwd"},
    )
    worker = site.run_until_empty()
    assert site.output("there").decode().strip() == str(place)
    [attempt] = site.attempts("nowhere")
    assert attempt.outcome == "not_started"
    assert "/no/such/place" in site.job("nowhere").last_error
    assert site.output("after").decode().strip() not in (str(place), "/no/such/place")
    assert "Traceback" not in worker.log


@pytest.mark.one_database
def test_words_after_two_dashes_reach_the_program_as_they_are(site: Site) -> None:
    words = ["$HOME; echo gone", "*", "", "--count", "ä 'q' \"d\"", "-"]
    site.run("enqueue", "--id", "argv", "--", "printf", "%s|", *words)
    site.run_until_empty()
    assert site.output("argv").decode() == "".join(f"{word}|" for word in words)


# Cancel and run now


def test_cancel_ends_a_running_tree_and_the_job_is_cancelled(quick: Site) -> None:
    noted = quick.directory / "noted"
    command = f"trap 'echo TERM >> {noted}' TERM; setsid sleep 300 & while :; do sleep 0.1; done"
    quick.enqueue({"id": "stubborn", "command": command}, quick.effect("other", 60))
    quick.start_worker("--count", "2")
    quick.wait_for_start("other")
    wait_until(lambda: sleepers(quick, 300), message=quick.describe)
    said = quick.run("job", "cancel", "stubborn").stdout
    asked = time.monotonic()
    assert said == "Job 'stubborn' is running; its worker has been asked to stop it\n"
    wait_until(noted.exists, timeout=5)
    assert seconds_since(asked) <= 2
    wait_until(lambda: quick.commands("stubborn") == [])
    assert seconds_since(asked) <= 2 + 1
    quick.wait_for("cancelled", "stubborn")
    [attempt] = quick.attempts("stubborn")
    assert (attempt.outcome, attempt.signal) == ("cancelled", signal.SIGKILL)
    assert quick.job("other").state == "processing"


def test_cancel_ends_a_waiting_job_at_once(site: Site) -> None:
    site.enqueue(
        {"id": "failed", "command": "exit 1", "backoff_base": 100},
        {"id": "scheduled", "command": "true", "delay": 3600},
    )
    worker = site.start_worker()
    site.wait_for("failed", "failed")
    assert worker.stop() == 0
    site.enqueue(site.effect("pending"))
    keys = ("failed", "scheduled", "pending")
    said = site.run("job", "cancel", *keys).stdout
    assert said == "".join(f"Job '{key}' cancelled\n" for key in keys)
    assert site.counts() == {"cancelled": 3}
    site.run_until_empty()
    assert site.effects() == []
    refused = site.run("job", "cancel", "pending", check=False)
    assert refused.returncode == 1
    assert "cancelled" in refused.stderr


def test_run_now_starts_what_was_for_later(site: Site) -> None:
    site.enqueue(site.effect("later", delay=3600))
    site.start_worker()
    site.run("job", "run-now", "later")
    asked = time.monotonic()
    site.wait_for("completed")
    assert site.effects("start")[0].at - asked <= 2


# Which runs when


def test_one_slot_runs_by_priority_and_then_in_the_order_of_enqueueing(site: Site) -> None:
    site.enqueue(
        *(
            site.effect(key, priority=priority)
            for key, priority in [("a", 1), ("b", 9), ("c", 5), ("d", -1000), ("e", 1000), ("f", 9)]
        ),
        site.effect("default"),
    )
    site.run_until_empty("--count", "1")
    assert [effect.job for effect in site.effects("start")] == [
        "e",
        "b",
        "f",
        "c",
        "default",
        "a",
        "d",
    ]


def test_a_worker_serves_the_queues_it_was_given_and_no_other(site: Site) -> None:
    site.enqueue(
        *(site.effect(name, queue=name) for name in ("default", "media", "mail", "media2"))
    )
    site.run_until_empty("-q", "media", "-q", "mail")
    assert site.states() == {
        "default": "pending",
        "media": "completed",
        "mail": "completed",
        "media2": "pending",
    }
    # A queue that appears while the worker runs is its too, where none were named.
    site.start_worker()
    site.enqueue(site.effect("new", queue="new"))
    site.wait_for("completed")


def test_count_8_runs_8_at_once_and_never_more(site: Site) -> None:
    site.enqueue(*(site.effect(f"job{number}", 0.7) for number in range(20)))
    site.run_until_empty("--count", "8")
    running = most = 0
    for effect in site.effects():
        running += 1 if effect.what == "start" else -1
        most = max(most, running)
    assert most == 8
    assert site.counts() == {"completed": 20}


def test_a_scheduled_job_starts_not_before_its_time_and_soon_after_it(site: Site) -> None:
    site.start_worker()
    site.enqueue(*(site.effect(f"in {delay}", delay=delay) for delay in (1.5, 2)))
    site.wait_for("completed")
    for delay in (1.5, 2):
        job = site.job(f"in {delay}")
        assert job.due_at - job.created_at == timedelta(seconds=delay)
        assert timedelta(0) <= job.started_at - job.due_at <= timedelta(seconds=1)


# Settings


def test_a_running_worker_obeys_a_new_job_timeout_within_a_heartbeat(quick: Site) -> None:
    quick.enqueue({"id": "job0", "command": "sleep 1.3", "max_retries": 0})
    quick.start_worker("--count", "4")
    quick.run("config", "set", "job-timeout", "1")
    number = 0

    def one_timed_out() -> bool:
        # One job after the other, until one is given the new limit.
        nonlocal number
        states = quick.counts()
        if states.keys() == {"completed"}:
            number += 1
            quick.sql(COPY, [f"job{number}", "job0"])
        return "dead" in states

    wait_until(one_timed_out, timeout=20, message=quick.describe)
    assert quick.outcomes(f"job{number}") == ["timed_out"]
    [[changed]] = quick.sql("SELECT updated_at FROM queuectl_setting")
    heartbeat = timedelta(seconds=1)
    for earlier in range(number):
        [attempt] = quick.attempts(f"job{earlier}")
        assert attempt.started_at - moment(changed) <= heartbeat * 1.5


COPY = """
INSERT INTO queuectl_job
    (key, queue, command, cwd, env, state, priority, due_at, attempts, max_retries, runs, losses,
     interruptions, prefetchable, created_at, updated_at, last_error, fingerprint, request_digest,
     enqueued_by)
SELECT %s, queue, command, cwd, env, 'pending', priority, due_at, 0, max_retries, 0, 0,
     0, prefetchable, created_at, updated_at, '', '', '', ''
FROM queuectl_job WHERE key = %s
"""


def test_a_running_worker_obeys_a_new_poll_interval_within_a_heartbeat(quick: Site) -> None:
    quick.enqueue(*(quick.effect(f"job{number}") for number in range(6)))
    quick.sql("UPDATE queuectl_job SET state = 'blocked'")
    quick.start_worker()
    quick.run("config", "set", "worker-poll-interval", "0.05")
    stays(lambda: quick.effects() == [], 1.2, quick.describe)
    for number in range(6):
        # No wake-up goes with this on PostgreSQL: only the poll finds it.
        quick.sql("UPDATE queuectl_job SET state = 'pending' WHERE key = %s", [f"job{number}"])
        released = time.monotonic()
        [start] = quick.wait_for_start(f"job{number}")
        assert start.at - released < 0.5
        stays(lambda: True, 0.1 * number, quick.describe)  # at another moment of the interval


def test_a_setting_of_the_time_of_enqueueing_holds_for_max_retries(site: Site) -> None:
    site.run("config", "set", "max_retries", "0")
    site.enqueue(
        {"id": "once", "command": "exit 1"}, {"id": "own", "command": "true", "max_retries": 2}
    )
    site.run("config", "set", "max-retries", "7")
    site.run_until_empty()
    assert (site.job("once").max_retries, site.job("own").max_retries) == (0, 2)
    assert site.job("once").state == "dead"


@pytest.mark.one_database
def test_commands_that_run_at_once_have_their_own_output(site: Site) -> None:
    keys = [f"job{number}" for number in range(40)]
    command = "echo $QUEUECTL_JOB_ID; echo $QUEUECTL_JOB_ID >&2"
    site.enqueue(*({"id": key, "command": command} for key in keys))
    site.run_until_empty("--count", "8")
    assert {key: site.output_rows(key).decode() for key in keys} == {
        key: f"{key}\n{key}\n" for key in keys
    }
    shown = json.loads(site.run("job", "show", "job0", "--json").stdout)
    assert [attempt["outcome"] for attempt in shown["history"]] == ["succeeded"]
