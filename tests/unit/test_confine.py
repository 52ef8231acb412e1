"""Commands with fewer rights than their runner has, and what they cannot see of it."""

import errno
import os
import pwd
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.execution import confine, processes
from jobs.outcome import Kind, Obstacle, Outcome
from tests.support import wait_until
from tests.unit.builders import work
from tests.unit.runners import Runner
from tests.unit.test_shell import PYTHON

# Nobody else's: a limit of processes is the user's.
UID = 61_234 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
MIB = 2**20
CONFINE = {
    "slim": {
        "umask": 0o027, "nice": 5, "no_new_privs": True, "processes": 3000, "open_files": 64,
        "memory_bytes": 512 * MIB, "file_bytes": 4096, "cpu_seconds": 100, "core_bytes": 0,
    },
    "other": {"user": UID, "group": UID, "processes": 25},
    "crowded": {"user": UID, "group": UID, "processes": 1},
    "gone": {"user": "no-such-user"},
    "nameless": {"user": UID},
}  # fmt: skip

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
# Root may look into every process. A container's root may not, which shows what any other user meets.
LOOKING = "-sys_ptrace,-perfmon,-sys_admin"
UNPRIVILEGED = ["setpriv", f"--bounding-set={LOOKING}", f"--inh-caps={LOOKING}"]
PREFIX = UNPRIVILEGED if os.geteuid() == 0 else []
needs_setpriv = pytest.mark.skipif(
    bool(PREFIX) and shutil.which("setpriv") is None, reason="root without setpriv"
)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    runner = Runner(prefix=PREFIX if shutil.which("setpriv") else [], CONFINE=CONFINE)
    yield runner
    runner.close()


def said(found: Outcome) -> str:
    assert found.kind is Kind.SUCCEEDED, (found.error, found.stderr.head)
    return found.stdout.head.decode()


def status(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (s.partition(":") for s in text.splitlines())}


# What holds for any user


def test_limits_are_those_of_the_queue(runner: Runner) -> None:
    found = said(runner.run(work(argv=["cat", "/proc/self/limits"], queue="slim")))
    limits = {line[:26].strip(): line[26:].split()[:2] for line in found.splitlines()}
    for name, value in {
        "Max processes": 3000, "Max open files": 64, "Max address space": 512 * MIB, "Max file size": 4096,
        "Max cpu time": 100, "Max core file size": 0,
    }.items():  # fmt: skip
        assert limits[name] == [str(value)] * 2, name


def test_niceness_umask_and_privileges_are_those_of_the_queue(runner: Runner) -> None:
    found = said(
        runner.run(work("nice; umask; grep NoNewPrivs /proc/self/status", queue="slim"))
    ).split()
    assert found == ["5", "0027", "NoNewPrivs:", "1"]


def test_a_queue_without_an_entry_is_left_alone(runner: Runner) -> None:
    found = said(runner.run(work("nice; ulimit -n; grep NoNewPrivs /proc/self/status")))
    nice, files, *rest = found.split()
    assert (nice, rest) == (str(os.getpriority(os.PRIO_PROCESS, 0)), ["NoNewPrivs:", "0"])
    assert files != "64"


def test_a_limit_is_felt(runner: Runner, tmp_path: Path) -> None:
    file = tmp_path / "large"
    found = runner.run(work(f"head -c 100000 /dev/zero > {file}", queue="slim"))
    assert found.kind is Kind.FAILED
    assert file.stat().st_size == 4096


def test_a_limit_that_is_lower_already_stays() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    runner = Runner(CONFINE={"*": {"open_files": hard + 1000}})
    try:
        assert said(runner.run(work("ulimit -n"))) == f"{hard}\n"
    finally:
        runner.close()


def test_a_confined_command_finds_its_surroundings_as_any_other(
    runner: Runner, tmp_path: Path
) -> None:
    script = """
import os
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1])
print(os.getsid(0) == os.getpgrp() == os.getpid(), os.getcwd(), repr(os.read(0, 1)))
"""
    found = said(runner.run(work(argv=[PYTHON, "-c", script], cwd=str(tmp_path), queue="slim")))
    # One was Python's own, for the listing.
    assert found.splitlines() == ["[0, 1, 2]", f"True {tmp_path} b''"]
    facts = status(said(runner.run(work(argv=["cat", "/proc/self/status"], queue="slim"))))
    # 32 and 33 are the C library's own.
    assert [int(facts[mask], 16) & (1 << 31) - 1 for mask in ("SigBlk", "SigIgn")] == [0, 0]


def test_argv_and_env_reach_a_confined_program_byte_for_byte(runner: Runner) -> None:
    words = ["$HOME", "a b", ";exit 3", "é", ""]
    found = runner.run(work(argv=["printf", "%s\n", *words], queue="slim"))
    assert found.stdout.head.decode().split("\n")[:-1] == words
    found = runner.run(work('printf %s "$A"', env={"A": "ö = 'x'\n"}, queue="slim"))
    assert found.stdout.head.decode() == "ö = 'x'\n"


@pytest.mark.parametrize("queue", ["slim", "plain"])
def test_what_cannot_start_says_why(runner: Runner, tmp_path: Path, queue: str) -> None:
    plain, busy = tmp_path / "plain", tmp_path / "busy"
    plain.write_text("#!/bin/sh\n")
    shutil.copy("/bin/true", busy)
    busy.chmod(0o755)
    with busy.open("ab"):
        for given, reason in (
            (work(cwd="/no/such", queue=queue), "No such file or directory: /no/such"),
            (work(cwd=str(plain), queue=queue), f"Not a directory: {plain}"),
            (work(argv=["no-such"], queue=queue), "no such program in PATH: no-such"),
            (work(argv=["/no/such"], queue=queue), "No such file or directory: /no/such"),
            (work(argv=[str(plain)], queue=queue), f"Permission denied: {plain}"),
            (work(argv=[str(busy)], queue=queue), f"Text file busy: {busy}"),
            (
                work(env={f"A{i}": "x" * 131_000 for i in range(40)}, queue=queue),
                "Argument list too long: /bin/sh",
            ),
            (work(env={"A": "\0"}, queue=queue), "embedded null byte"),
        ):
            found = runner.run(given)
            assert (found.kind, found.started, found.obstacle) == (Kind.NOT_STARTED, None, None)
            assert reason.removesuffix(": /bin/sh") in found.error, found.error
    assert runner.run(work("true", queue=queue)).kind is Kind.SUCCEEDED


@pytest.mark.parametrize(
    ("queue", "reason"),
    [("gone", "no such user: no-such-user"), ("nameless", "its group must be given")],
)
def test_a_user_that_is_not_there_is_not_started(runner: Runner, queue: str, reason: str) -> None:
    found = runner.run(work("true", queue=queue))
    assert (found.kind, found.obstacle) == (Kind.NOT_STARTED, None)
    assert reason in found.error


def test_a_user_or_group_with_a_nul_is_no_such() -> None:
    for given in ({"user": "a\0b"}, {"user": UID, "group": "a\0b"}):
        [said] = confine.unknown({"*": given})
        assert "no such" in said


def test_a_step_that_is_refused_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "ran"
    prefix = ["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid"] if PREFIX else []
    runner = Runner(prefix=prefix, CONFINE={"*": {"user": UID, "group": UID}})
    try:
        found = runner.run(work(f"touch {file}"))
    finally:
        runner.close()
    assert (found.kind, found.obstacle) == (Kind.NOT_STARTED, None)
    assert found.error == f"Could not start: Operation not permitted: user {UID}"
    assert not file.exists()


def test_a_runner_that_cannot_fork_keeps_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot_fork() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    confined = confine.Confinements(CONFINE).of("slim")
    assert confined is not None
    monkeypatch.setattr(confine.os, "fork", cannot_fork)
    before = os.listdir("/dev/fd")
    with pytest.raises(BlockingIOError):
        confine.spawn(confined, "", "/bin/true", ["true"], {}, stdout=1, stderr=2, defaulted=())
    assert os.listdir("/dev/fd") == before


# Another user


@needs_root
def test_a_command_is_wholly_the_user_of_its_queue(runner: Runner) -> None:
    found = said(runner.run(work("cat /proc/self/status; umask; env; pwd", queue="other")))
    facts = status(found)
    assert facts["Uid"].split() == facts["Gid"].split() == [str(UID)] * 4
    assert facts["Groups"] == str(UID)
    assert (facts["CapEff"], facts["CapPrm"], facts["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert "\n0077\n" in found and found.endswith("\n/\n")
    assert {f"USER={UID}", f"LOGNAME={UID}", "HOME=/"} <= set(found.splitlines())


@needs_root
def test_the_user_of_every_queue_is_that_of_any_queue_that_names_no_other() -> None:
    runner = Runner(CONFINE={
        "*": {"user": "nobody"}, "slow": {"nice": 5}, "other": {"user": UID, "group": UID},
    })  # fmt: skip
    try:
        found = {
            queue: said(runner.run(work("id -u; nice; umask; echo $USER", queue=queue))).split()
            for queue in ("default", "never-heard-of", "slow", "other")
        }
    finally:
        runner.close()
    uid, nice = str(pwd.getpwnam("nobody").pw_uid), str(os.getpriority(os.PRIO_PROCESS, 0))
    assert found == {
        "default": [uid, nice, "0077", "nobody"],
        "never-heard-of": [uid, nice, "0077", "nobody"],
        "slow": [uid, "5", "0077", "nobody"],
        "other": [str(UID), nice, "0077", str(UID)],
    }


@needs_root
def test_its_streams_can_be_opened_by_name(runner: Runner) -> None:
    found = runner.run(work("echo out > /dev/stdout; echo err > /dev/stderr", queue="other"))
    assert (found.stdout.head, found.stderr.head) == (b"out\n", b"err\n")


@needs_root
def test_a_directory_its_user_may_not_enter_is_not_started(runner: Runner, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    found = runner.run(work("true", cwd=str(tmp_path), queue="other"))
    assert found.error == f"Could not start: Permission denied: {tmp_path}"


@needs_root
def test_it_cannot_signal_its_runner(runner: Runner) -> None:
    found = runner.run(work("kill -9 $PPID", queue="other"))
    assert found.kind is Kind.FAILED and "not permitted" in found.error
    assert runner.process.poll() is None


@needs_root
@pytest.mark.parametrize(
    "escape", ["{} &", "(setsid sh -c '{} & exit' &) &"], ids=["child", "daemon"]
)
def test_all_that_another_user_started_ends_with_its_time(runner: Runner, escape: str) -> None:
    """Where the runner lacks CAP_SYS_PTRACE, too, and while another command runs."""
    neighbour = work("sleep 300", ahead=True)
    runner.give(neighbour)
    runner.wait_for_start(neighbour)
    stubborn = 'sh -c "trap : TERM; sleep 300; sleep 300"'
    given = work(f"{escape.format(stubborn)} sleep 300", timeout=1, queue="other")
    runner.give(given)
    wait_until(lambda: len(of_user(UID)) >= 4)
    assert runner.outcome(given).kind is Kind.TIMED_OUT
    wait_until(
        lambda: of_user(UID) == [], timeout=2, message="something outlived its job's timeout"
    )
    runner.tell("cancel", neighbour.lease)
    assert runner.outcome(neighbour).kind is Kind.CANCELLED


@needs_root
def test_a_fork_bomb_stays_within_the_processes_of_its_user(runner: Runner) -> None:
    bomb = "i=0; while [ $i -lt 100 ]; do sleep 60 >/dev/null 2>&1 & i=$((i+1)); done; wait"
    given = work(bomb, timeout=20, queue="other")
    runner.give(given)
    found = runner.outcome(given)
    assert found.kind is Kind.FAILED and "fork" in found.stderr.head.decode().lower()
    assert runner.run(work("echo fine")).stdout.head == b"fine\n"
    wait_until(lambda: of_user(UID) == [], timeout=3, message="something of the bomb is left")


@needs_root
def test_a_user_with_too_many_processes_already_is_put_off(runner: Runner) -> None:
    running = work("sleep 60 & sleep 60", ahead=True, queue="other")
    runner.give(running)
    wait_until(lambda: len(of_user(UID)) >= 3)
    found = runner.run(work("true", queue="crowded"))
    assert (found.kind, found.obstacle) == (Kind.NOT_STARTED, Obstacle.SHORT)
    runner.tell("cancel", running.lease)
    runner.outcome(running)


def of_user(uid: int) -> list[int]:
    found = []
    for pid in processes.processes():
        try:
            if os.stat(f"/proc/{pid}").st_uid == uid:
                found.append(pid)
        except OSError:
            continue
    return found


# The worker's secrets


LOOK = (
    "readlink /proc/$PPID/fd/* /proc/$PPID/cwd /proc/$PPID/exe;"
    " cat /proc/$PPID/environ | tr '\\0' '\\n'; head -c 100 /proc/$PPID/maps"
)


@needs_setpriv
def test_a_command_of_the_same_user_sees_nothing_of_its_runner(runner: Runner) -> None:
    found = runner.run(work(LOOK))
    assert (found.stdout.head, b"Permission denied" in found.stderr.head) == (b"", True)


@needs_setpriv
def test_a_dumpable_worker_is_open() -> None:
    runner = Runner(prefix=PREFIX, DUMPABLE=True)
    try:
        found = said(runner.run(work(LOOK)))
    finally:
        runner.close()
    # The environment that it was started with, not the one it has been given since.
    assert "PATH=" in found and "socket:[" in found and " r-" in found


def test_a_command_inherits_nothing_its_runner_was_started_with(tmp_path: Path) -> None:
    with (tmp_path / "private").open("w") as file:
        runner = Runner(fds=[file.fileno()])
        try:
            found = said(runner.run(work(argv=["ls", "-l", "/proc/self/fd"])))
        finally:
            runner.close()
    assert str(file.name) not in found


# Few descriptors


def test_without_descriptors_a_command_is_put_off_and_what_runs_can_still_be_ended() -> None:
    runner = Runner(slots=32, prefix=["sh", "-c", 'ulimit -n 48; exec "$@"', "sh"])
    try:
        works = [work("sleep 300", timeout=0.5) for _ in range(32)]
        runner.give(*works)
        kinds = [(found.kind, found.obstacle) for found in map(runner.outcome, works)]
        assert set(kinds) == {(Kind.NOT_STARTED, Obstacle.SHORT), (Kind.TIMED_OUT, None)}
        assert runner.run(work("true")).kind is Kind.SUCCEEDED
    finally:
        assert runner.close() != -signal.SIGKILL


# Before a worker starts


def test_only_a_worker_of_root_may_start_commands_of_another_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {"media": {"user": UID, "group": UID}, "*": {"nice": 3}}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    [said] = confine.forbidden(given)
    assert "'media'" in said and "root" in said
    assert confine.forbidden(given, ["mail"]) == []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert confine.forbidden(given) == []


def test_an_unknown_user_or_group_is_told_by_queue() -> None:
    given = {"a": {"user": "no-such-user"}, "b": {"user": UID, "group": "no-such-group"}, "c": {}}
    first, second = confine.unknown(given)
    assert "'a'" in first and "no-such-user" in first
    assert "'b'" in second and "no-such-group" in second
    assert confine.unknown(given, ["c", "d"]) == []


@pytest.mark.parametrize(
    ("given", "queues", "expected"),
    [
        ({}, [], True),
        ({"media": {"user": "m"}}, [], True),
        ({"media": {"user": "m"}}, ["media"], False),
        ({"*": {"user": "m"}, "media": {"nice": 3}}, [], False),
        ({"*": {"nice": 3}, "media": {"user": "m"}}, ["media", "mail"], True),
    ],
)
def test_whether_commands_keep_the_workers_user(
    given: dict[str, dict[str, object]], queues: list[str], expected: bool
) -> None:
    assert confine.unconfined(given, queues) is expected
