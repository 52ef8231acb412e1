"""Real commands in a real runner: what comes of them, and that nothing of them is left."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import clock, conf
from jobs.execution import processes, shell
from jobs.outcome import Kind
from jobs.worker import runner as runner_module
from jobs.worker import wire
from tests.support import wait_until
from tests.unit.builders import work
from tests.unit.runners import KILL_SECONDS, OUTPUT_LIMIT, Runner, lives

PYTHON = sys.executable
MARGIN_SECONDS = conf.Settings().FENCE_MARGIN_SECONDS
TOLERANCE_SECONDS = 0.5
"""What the rounds of a runner, and a busy machine, add to a bound."""

STAYS = "echo $$ >> pids; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def shared() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.close()


@pytest.fixture
def own() -> Iterator[Runner]:
    """For tests that end the runner, or stop all it runs."""
    runner = Runner(slots=2)
    yield runner
    runner.close()


def pid_in(file: Path) -> int:
    wait_until(lambda: file.exists() and file.read_text().strip(), message=f"nothing in {file}")
    return int(file.read_text())


# How it ended


@pytest.mark.parametrize("code", [0, 1, 3, 126, 255])
def test_the_exit_code_decides(shared: Runner, code: int) -> None:
    found = shared.run(work(f"exit {code}"))
    kind = Kind.FAILED if code else Kind.SUCCEEDED
    assert (found.kind, found.exit_code, found.signal) == (kind, code, None)


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV", "INT", "HUP"])
def test_a_foreign_signal_is_a_failure_that_names_it(shared: Runner, name: str) -> None:
    found = shared.run(work(f"kill -{name} $$"))
    number = signal.Signals[f"SIG{name}"]
    assert (found.kind, found.exit_code, found.signal) == (Kind.FAILED, None, number)
    assert f"signal {number.value} (SIG{name})" in found.error


def test_a_failure_quotes_the_last_line_of_stderr(shared: Runner) -> None:
    found = shared.run(work("echo one >&2; echo two >&2; echo out; exit 3"))
    assert "two" in found.error and "exit code 3" in found.error and "one" not in found.error


def test_a_success_has_no_error_whatever_it_said(shared: Runner) -> None:
    assert shared.run(work("echo trouble >&2")).error == ""


def test_an_unknown_command_is_a_failure(shared: Runner) -> None:
    found = shared.run(work("no-such-command-anywhere"))
    assert (found.kind, found.exit_code) == (Kind.FAILED, 127)
    assert "not found" in found.error


def test_a_run_is_measured(shared: Runner) -> None:
    before = clock.monotonic()
    found = shared.run(work(argv=[PYTHON, "-c", "sum(range(10**6))"]))
    assert found.started is not None and found.ended is not None
    assert before <= found.started < found.ended <= clock.monotonic()
    assert found.cpu_seconds is not None and 0 < found.cpu_seconds < 10


def test_the_peak_memory_of_a_large_command_is_told(shared: Runner) -> None:
    size = 300_000_000
    found = shared.run(work(argv=[PYTHON, "-c", f"len(bytearray({size}))"]))
    assert found.peak_memory_bytes is not None and size < found.peak_memory_bytes < 3 * size


def test_the_peak_memory_of_whoever_started_the_worker_is_not_mistaken_for_a_commands() -> None:
    ballast = bytearray(300_000_000)
    runner = Runner()
    try:
        found = runner.run(work(argv=[PYTHON, "-c", f"len(bytearray({len(ballast) // 2}))"]))
        small = runner.run(work(argv=["/bin/true"]))
    finally:
        runner.close()
    assert found.peak_memory_bytes is not None and found.peak_memory_bytes < len(ballast)
    assert small.peak_memory_bytes is None


# Timeouts


def test_a_command_over_its_time_is_ended_by_sigterm(shared: Runner) -> None:
    found = shared.run(work("sleep 300", timeout=0.3))
    assert (found.kind, found.signal) == (Kind.TIMED_OUT, signal.SIGTERM)
    assert found.error == "Job timed out after 0.3 seconds"


def test_commands_that_end_just_when_their_time_is_up_have_one_outcome_each(
    shared: Runner,
) -> None:
    """And it says what happened: none that was ended counts as a success, none that ended as cut short."""
    given = [
        work(argv=["sleep", "0.05"], timeout=0.045 + n % 21 / 1000, ahead=True) for n in range(500)
    ]
    shared.give(*given)
    found = [shared.outcome(each) for each in given]
    assert {(each.kind, each.exit_code, each.signal) for each in found} <= {
        (Kind.SUCCEEDED, 0, None),
        (Kind.TIMED_OUT, None, signal.SIGTERM),
        (Kind.TIMED_OUT, 0, None),
    }
    assert Kind.TIMED_OUT in {each.kind for each in found}
    assert (
        shared.run(work("true")).kind is Kind.SUCCEEDED
    )  # a second outcome would have come by now


def test_a_command_over_its_time_gets_sigterm_first(shared: Runner) -> None:
    found = shared.run(work("trap 'echo bye; exit 0' TERM; sleep 300 & wait", timeout=0.3))
    assert (found.kind, found.stdout.head) == (Kind.TIMED_OUT, b"bye\n")


def test_a_command_that_ignores_sigterm_is_killed(shared: Runner) -> None:
    found = shared.run(work("trap '' TERM; while :; do sleep 0.1; done", timeout=0.3))
    assert (found.kind, found.signal) == (Kind.TIMED_OUT, signal.SIGKILL)
    assert found.ended is not None and found.started is not None
    assert KILL_SECONDS <= found.ended - found.started < 0.3 + KILL_SECONDS + 1


@pytest.mark.parametrize(
    "escape",
    [
        pytest.param("(trap '' TERM; echo $$ >/dev/null; exec {sleep}) &", id="child"),
        pytest.param("(trap '' TERM; ({sleep}) & wait) &", id="grandchild"),
        pytest.param("setsid {sleep} &", id="other session"),
        pytest.param("(setsid sh -c '{sleep} & exit' &) &", id="daemon"),
    ],
)
def test_all_that_a_command_started_ends_with_its_time(
    shared: Runner, tmp_path: Path, escape: str
) -> None:
    file = tmp_path / "pid"
    sleep = f'sh -c "echo \\$\\$ > {file}; trap : TERM; sleep 300; sleep 300"'
    given = work(escape.format(sleep=sleep) + " sleep 300", timeout=1)
    shared.give(given)
    pid = pid_in(file)
    assert shared.outcome(given).kind is Kind.TIMED_OUT
    wait_until(lambda: not lives(pid), timeout=2, message=f"{pid} outlived its job's timeout")


# What it leaves behind


def test_a_child_that_holds_the_pipe_does_not_hold_the_job(shared: Runner) -> None:
    began = time.monotonic()
    found = shared.run(work("sleep 300 & echo hi"))
    assert (found.kind, found.stdout.head) == (Kind.SUCCEEDED, b"hi\n")
    assert time.monotonic() - began < 10


def test_a_child_that_holds_the_pipe_is_ended_with_the_job(shared: Runner, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    shared.run(work(f"sleep 300 & echo $! > {file}"))
    pid = pid_in(file)
    wait_until(lambda: not lives(pid), timeout=2, message=f"{pid} outlived its job")


def test_what_a_child_says_soon_after_still_counts(shared: Runner) -> None:
    found = shared.run(work("(sleep 0.3; echo late) & echo early"))
    assert found.stdout.head == b"early\nlate\n"


@pytest.mark.parametrize("prefix", ["setsid", "nohup setsid"])
def test_a_child_that_left_its_session_is_ended_soon_after_the_job(
    shared: Runner, tmp_path: Path, prefix: str
) -> None:
    file = tmp_path / "pid"
    escapee = f"sh -c 'echo $$ > {file}; exec sleep 300' >/dev/null 2>&1"
    shared.run(work(f"{prefix} {escapee} & sleep 0.3"))
    pid = pid_in(file)
    wait_until(lambda: not lives(pid), timeout=3, message=f"{pid} outlived its job")


def test_ending_one_job_spares_what_another_left_its_session_with(
    shared: Runner, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    spawning = f"setsid sh -c 'echo $$ > {file}; exec sleep 300' >/dev/null 2>&1 &"
    living = work(f"({spawning}); sleep 300", timeout=60)
    shared.give(living)
    pid = pid_in(file)
    for _ in range(4):
        shared.run(work("sleep 0.3"))
    assert lives(pid)
    shared.tell(wire.CANCEL, living.lease)
    assert shared.outcome(living).kind is Kind.CANCELLED
    wait_until(lambda: not lives(pid), timeout=3, message=f"{pid} outlived its job")


# Output


def test_both_streams_are_kept_apart(shared: Runner) -> None:
    found = shared.run(work("echo out; echo err >&2"))
    assert (found.stdout.head, found.stderr.head) == (b"out\n", b"err\n")


def test_output_is_kept_byte_for_byte(shared: Runner) -> None:
    script = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4)"
    found = shared.run(work(argv=[PYTHON, "-c", script]))
    assert found.stdout.head == bytes(range(256)) * 4


def test_output_that_does_not_end_in_a_line_is_kept(shared: Runner) -> None:
    assert shared.run(work("printf abc")).stdout.head == b"abc"


def test_a_flood_keeps_its_ends_and_its_size(shared: Runner) -> None:
    size = 30_000_000
    found = shared.run(work(f"echo first; head -c {size} /dev/zero; echo last"))
    assert (found.kind, found.stdout.total) == (Kind.SUCCEEDED, size + 11)
    assert found.stdout.kept == OUTPUT_LIMIT
    assert found.stdout.head.startswith(b"first\n") and found.stdout.tail.endswith(b"last\n")


def test_a_flood_does_not_outlast_its_time(shared: Runner) -> None:
    assert shared.run(work("yes", timeout=0.5)).kind is Kind.TIMED_OUT


# How it begins


def test_stdin_is_empty(shared: Runner) -> None:
    found = shared.run(work("readlink /proc/self/fd/0; cat; echo end"))
    assert found.stdout.head == b"/dev/null\nend\n"


def test_a_command_has_no_descriptor_but_the_three(shared: Runner) -> None:
    script = "import os; print([fd for fd in range(256) if os.path.exists(f'/dev/fd/{fd}')])"
    assert shared.run(work(argv=[PYTHON, "-c", script])).stdout.head == b"[0, 1, 2]\n"


def test_a_command_leads_a_session_of_its_own(shared: Runner) -> None:
    script = "import os; print(os.getsid(0) == os.getpgrp() == os.getpid())"
    assert shared.run(work(argv=[PYTHON, "-c", script])).stdout.head == b"True\n"


@pytest.mark.parametrize("mask", ["SigBlk", "SigIgn"])
def test_a_command_finds_its_signals_as_any_program_does(shared: Runner, mask: str) -> None:
    said = shared.run(work(argv=["cat", "/proc/self/status"])).stdout.head.decode()
    fields = dict(line.split(":", 1) for line in said.splitlines())
    standard = (1 << 31) - 1  # the rest are real-time signals, of which the C library uses some
    assert int(fields[mask], 16) & standard == 0


def test_a_closed_pipe_ends_a_writer_quietly(shared: Runner) -> None:
    found = shared.run(work("yes | head -n 1"))
    assert (found.stdout.head, found.stderr.head) == (b"y\n", b"")


def test_argv_meets_no_shell(shared: Runner) -> None:
    words = ["$HOME", "a b", "*", ";exit 3", "$(id)", "é", ""]
    found = shared.run(work(argv=["printf", "%s\n", *words]))
    assert found.stdout.head.decode().split("\n")[:-1] == words


def test_a_command_text_meets_the_shell(shared: Runner) -> None:
    assert shared.run(work("A=1; echo $((A + 1)) | cat")).stdout.head == b"2\n"


@pytest.mark.parametrize("ending", ["\r\n", "\n\n", " # comment", " \\"])
def test_a_text_ends_as_the_shell_takes_it(shared: Runner, ending: str) -> None:
    assert shared.run(work(f"echo hi{ending}")).stdout.head.startswith(b"hi")


def test_the_longest_command_runs(shared: Runner) -> None:
    text = "echo hi #"
    found = shared.run(work(text + "x" * (131_071 - len(text))))
    assert found.stdout.head == b"hi\n"


def test_a_command_sees_what_is_allowed_and_its_own(shared: Runner) -> None:
    given = work(argv=["env"], key="nightly", number=7, env={"OWN": "a=b c", "SECRET": "mine"})
    lines = shared.run(given).stdout.head.decode().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    assert found.keys() == {
        "PATH", "HOME", "SHOWN_TO_COMMANDS", "OWN", "SECRET", "QUEUECTL_JOB_ID", "QUEUECTL_ATTEMPT",
        "QUEUECTL_LEASE",
    } - ({"HOME"} - os.environ.keys())  # fmt: skip
    assert found["OWN"] == "a=b c"
    assert (found["QUEUECTL_JOB_ID"], found["QUEUECTL_ATTEMPT"]) == ("nightly", "7")


def test_a_command_runs_in_its_directory(shared: Runner, tmp_path: Path) -> None:
    assert shared.run(work("pwd", cwd=str(tmp_path))).stdout.head.decode() == f"{tmp_path}\n"


def test_a_directory_is_one_commands_alone(shared: Runner, tmp_path: Path) -> None:
    before = shared.run(work("pwd")).stdout.head
    shared.run(work("true", cwd=str(tmp_path)))
    assert shared.run(work("pwd")).stdout.head == before


@pytest.fixture
def plain_file(tmp_path: Path) -> Path:
    file = tmp_path / "plain"
    file.write_text("#!/bin/sh\n")
    return file


def test_a_missing_directory_is_not_started(shared: Runner) -> None:
    found = shared.run(work("true", cwd="/no/such/directory"))
    assert (found.kind, found.started, found.obstacle) == (Kind.NOT_STARTED, None, None)
    assert found.error == "Could not start: No such file or directory: /no/such/directory"


def test_a_file_is_no_directory_to_run_in(shared: Runner, plain_file: Path) -> None:
    found = shared.run(work("true", cwd=str(plain_file)))
    assert (found.kind, "Not a directory" in found.error) == (Kind.NOT_STARTED, True)


def test_after_a_directory_that_failed_the_next_command_runs(shared: Runner) -> None:
    shared.run(work("true", cwd="/no/such/directory"))
    assert shared.run(work("true")).kind is Kind.SUCCEEDED


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program"])
def test_a_missing_program_is_not_started(shared: Runner, program: str) -> None:
    found = shared.run(work(argv=[program]))
    assert (found.kind, found.obstacle) == (Kind.NOT_STARTED, None)
    assert program in found.error


def test_a_program_without_permission_is_not_started(shared: Runner, plain_file: Path) -> None:
    found = shared.run(work(argv=[str(plain_file)]))
    assert found.error == f"Could not start: Permission denied: {plain_file}"


def test_a_program_that_somebody_is_writing_is_not_started(shared: Runner, tmp_path: Path) -> None:
    program = tmp_path / "true"
    shutil.copy("/bin/true", program)
    with program.open("ab"):
        found = shared.run(work(argv=[str(program)]))
    assert found.error == f"Could not start: Text file busy: {program}"
    assert shared.run(work(argv=[str(program)])).kind is Kind.SUCCEEDED


def test_a_program_is_looked_for_in_the_jobs_own_path(shared: Runner, tmp_path: Path) -> None:
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    given = work(argv=["only-here"], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert shared.run(given).stdout.head == b"found\n"


def test_a_relative_program_is_looked_for_in_the_jobs_directory(
    shared: Runner, tmp_path: Path
) -> None:
    program = tmp_path / "here"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    assert shared.run(work(argv=["./here"], cwd=str(tmp_path))).stdout.head == b"found\n"


def test_too_long_an_environment_is_not_started(shared: Runner) -> None:
    found = shared.run(work("true", env={f"A{i}": "x" * 131_000 for i in range(40)}))
    assert (found.kind, found.obstacle) == (Kind.NOT_STARTED, None)


# What the ledger says


def test_a_cancelled_command_is_ended(shared: Runner) -> None:
    given = work("sleep 300", ahead=True)
    shared.give(given)
    shared.wait_for_start(given)
    shared.tell(wire.CANCEL, given.lease)
    assert shared.outcome(given, timeout=3).kind is Kind.CANCELLED


def test_what_a_command_starts_because_it_is_ended_is_ended_too(
    shared: Runner, tmp_path: Path
) -> None:
    """It left the session, and was not there yet when its family was looked for."""
    ready, file = tmp_path / "ready", tmp_path / "pid"
    escape = f"setsid sleep 300 >/dev/null 2>&1 & echo $! > {file}; exit"
    waiting = f"echo > {ready}; while :; do sleep 0.05; done"
    given = work(f"escape() {{ {escape}; }}; trap escape TERM; {waiting}")
    shared.give(given)
    wait_until(ready.exists)
    shared.tell(wire.CANCEL, given.lease)
    assert shared.outcome(given).kind is Kind.CANCELLED
    pid = pid_in(file)
    wait_until(lambda: not lives(pid), timeout=3, message=f"{pid} outlived its job")


def test_only_as_many_run_at_once_as_there_are_slots(own: Runner, tmp_path: Path) -> None:
    script = "touch $QUEUECTL_JOB_ID; sleep 0.3; ls | wc -l; rm $QUEUECTL_JOB_ID"
    works = [work(script, key=str(i), cwd=str(tmp_path)) for i in range(6)]
    own.give(*works)
    assert max(int(own.outcome(given).stdout.head) for given in works) <= 2


def test_what_has_not_started_can_be_recalled(own: Runner) -> None:
    running = [work("sleep 300", ahead=True), work("sleep 300", ahead=True)]
    waiting = [work("true"), work("true")]
    own.give(*running, *waiting)
    own.wait_for_start(*running)
    own.tell(wire.RECALL)
    until = time.monotonic() + 10
    while len(own.returned) < 2:
        own.listen(until)
    assert own.returned == {given.lease for given in waiting}


def test_a_drained_runner_interrupts_after_the_grace(own: Runner) -> None:
    quick, slow = work("sleep 0.4; echo done", ahead=True), work("sleep 300", ahead=True)
    own.give(quick, slow)
    own.wait_for_start(quick, slow)
    own.tell(wire.DRAIN, 1.0)
    assert own.outcome(quick).kind is Kind.SUCCEEDED
    assert own.outcome(slow, timeout=4).kind is Kind.INTERRUPTED


@pytest.mark.parametrize(
    ("command", "processes"),
    [
        pytest.param(STAYS, 1, id="obeys"),
        pytest.param(f"trap '' TERM; {STAYS}", 1, id="ignores SIGTERM"),
        pytest.param(f"setsid sh -c \"trap '' TERM; $STAYS\" & {STAYS}", 2, id="its child does"),
    ],
)
def test_without_a_renewed_lease_nothing_of_a_command_lives_a_margin_before_it_runs_out(
    own: Runner, tmp_path: Path, command: str, processes: int
) -> None:
    given, file = work(command, cwd=str(tmp_path), env={"STAYS": STAYS}), tmp_path / "pids"
    own.give(given)
    wait_until(lambda: file.exists() and len(file.read_text().split()) == processes)
    pids = [int(pid) for pid in file.read_text().split()]
    ends = clock.monotonic() + MARGIN_SECONDS + KILL_SECONDS + 0.5
    own.tell(wire.RENEW, ends)
    wait_until(lambda: not any(map(lives, pids)), message=f"of {pids} some live on")
    assert clock.monotonic() <= ends - MARGIN_SECONDS + TOLERANCE_SECONDS
    assert own.outcome(given).kind is Kind.INTERRUPTED


def test_a_runner_whose_ledger_is_gone_kills_its_commands_and_leaves(tmp_path: Path) -> None:
    runner, file = Runner(slots=2), tmp_path / "pid"
    escape = f"trap '' TERM; setsid sh -c 'echo $$ > {file}; exec sleep 300' & sleep 300"
    runner.give(work(escape, timeout=None), work("sleep 300"))
    pid = pid_in(file)
    assert runner.close() == runner_module.LEDGER_GONE
    assert not lives(pid)


def test_output_that_nobody_takes_waits_for_its_turn(own: Runner) -> None:
    works = [work("head -c 65536 /dev/zero") for _ in range(40)]
    own.give(*works)
    assert all(own.outcome(given).stdout.kept == OUTPUT_LIMIT for given in works)


def test_a_malformed_frame_is_the_end_of_the_runner(own: Runner) -> None:
    own.channel.socket.sendall(b"\xff" * 64)
    assert own.process.wait(10) == runner_module.LEDGER_GONE


def test_what_cannot_be_killed_does_not_hold_the_outcome_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A setuid program that it left, for example: no signal of ours reaches that."""
    rules = shell.Rules("/bin/sh", {"PATH": os.environ["PATH"]}, output_limit=100, kill_seconds=0.5)
    monkeypatch.setattr(processes, "send", lambda pids, number: None)
    monkeypatch.setattr(processes, "send_group", lambda group, number: None)
    began = clock.monotonic()
    command = shell.start(work("sleep 30 & echo $!"), rules, began)
    _, status, usage = os.wait4(command.pid, 0)
    command.exited(status, usage, began)
    kills = shell.LINGER_SECONDS
    for seconds in (kills + 0.01, kills + 1.4):
        command.tick(began + seconds, processes.Look(()))
        assert not command.finished
    command.tick(began + kills + 1.6, processes.Look(()))
    assert command.finished
    left = int(command.outcome().stdout.head)
    os.kill(left, signal.SIGKILL)


def test_what_has_got_the_number_of_a_main_process_that_ended_is_spared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = shell.Rules("/bin/sh", {"PATH": os.environ["PATH"]}, output_limit=100, kill_seconds=0.5)
    began, told = clock.monotonic(), list[tuple[int, int]]()
    command = shell.start(work("setsid sleep 30 & echo $!"), rules, began)
    _, status, usage = os.wait4(command.pid, 0)
    wait_until(lambda: not processes.group_lives(command.pid))
    ended = clock.monotonic()
    another = processes.Process(command.pid, 1, command.pid, command.pid, int(ended * 1e6))
    search = processes.processes
    monkeypatch.setattr(processes, "processes", lambda: {**search(), another.pid: another})
    monkeypatch.setattr(processes.os, "killpg", lambda group, number: told.append((group, number)))
    command.exited(status, usage, ended)
    for seconds in (0.0, shell.LINGER_SECONDS + 0.1, shell.LINGER_SECONDS + 4):
        command.tick(ended + seconds, processes.Look({command.pid}))
    assert command.finished
    assert {number for _, number in told} <= {0}, "asked at most whether it is there"
    escaped = int(command.outcome().stdout.head)
    processes.send([escaped], signal.SIGKILL)


def test_what_a_success_left_is_ended_though_its_streams_end_later() -> None:
    rules = shell.Rules("/bin/sh", {"PATH": os.environ["PATH"]}, output_limit=100, kill_seconds=0.5)
    began = clock.monotonic()
    command = shell.start(work("sleep 30 >&- 2>&- & sleep 0.1 & echo $!"), rules, began)
    _, status, usage = os.wait4(command.pid, 0)
    command.exited(status, usage, clock.monotonic())
    command.tick(clock.monotonic(), processes.Look(()))
    assert not command.finished

    def ends() -> bool:
        command.drain()
        command.tick(clock.monotonic(), processes.Look(()))
        return command.finished

    wait_until(ends, timeout=1.5)
    wait_until(lambda: not processes.group_lives(command.pid))
