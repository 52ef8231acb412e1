"""A site of its own for one test: a migrated database, and the real programs run on it."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from tests.acceptance import typist
from tests.acceptance.databases import MANAGE, ROOT, Databases, environment
from tests.support import wait_until

ON_LINUX = sys.platform == "linux"
CONSOLE = (str(Path(sys.executable).with_name("queuectl")),)
EFFECT = Path(__file__).with_name("effect.py")
# Inherited by all that a site starts, hence the way to find it whoever its parent is by then.
# Not QUEUECTL_...: a worker keeps those from its commands.
MARK = "TEST_SITE_MARK"

JOB = (
    "state", "queue", "attempts", "max_retries", "runs", "losses", "interruptions", "last_error",
    "run_at", "due_at", "created_at", "updated_at", "started_at", "finished_at",
)  # fmt: skip
ATTEMPT = (
    "number", "outcome", "exit_code", "signal", "error", "started_at", "finished_at",
    "stdout_bytes", "stderr_bytes", "worker_id",
)  # fmt: skip
WORKER = ("id", "name", "slots", "heartbeat_at", "started_at", "stopped_at")


@dataclass(frozen=True)
class Effect:
    """A line that a run of effect.py left; `at` is comparable with time.monotonic()."""

    what: str
    job: str
    attempt: int
    pid: int
    at: float


class Worker:
    """A running `worker start`; what it prints goes to files, so that no pipe ever fills."""

    def __init__(
        self, site: "Site", *args: str, before: Sequence[str] = (), root: Path = ROOT
    ) -> None:
        self.site = site
        self.family: set[psutil.Process] = set()
        name = f"worker-{len(site.workers) + 1}"
        self.stdout_file = site.directory / f"{name}.stdout"
        self.stderr_file = site.directory / f"{name}.stderr"
        self.args = [*before, sys.executable, str(root / "manage.py"), "worker", "start", *args]
        # A fork of the typist costs a third, where nothing has to be there before Python is.
        is_plain = root == ROOT and not before and "LD_PRELOAD" not in site.env
        self.process = self._launched() if is_plain and ON_LINUX else self._started(root)
        self.pid = self.process.pid

    def _launched(self) -> typist.Launched:
        env = self.site.env
        return typist.shared().launch(
            self.args[1:],
            env=env,
            cwd=ROOT,
            out=self.stdout_file,
            err=self.stderr_file,
            again="CHAOS_WORKER" not in env,
        )

    def _started(self, root: Path) -> subprocess.Popen[bytes]:
        with self.stdout_file.open("wb") as stdout, self.stderr_file.open("wb") as stderr:
            return subprocess.Popen(
                self.args,
                cwd=root,
                env=self.site.env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def returncode(self) -> int | None:
        return self.process.returncode

    def poll(self) -> int | None:
        return self.process.poll()

    def wait(self, timeout: float | None = None) -> int:
        return self.process.wait(timeout)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    @property
    def output(self) -> str:
        return self.stdout_file.read_text(errors="replace")

    @property
    def log(self) -> str:
        return self.stderr_file.read_text(errors="replace")

    def send_signal(self, sig: int) -> None:
        # After a kill, a child that emptied its environment could not be found any more.
        self.remember_family()
        self.process.send_signal(sig)

    def remember_family(self) -> None:
        if self.poll() is not None:
            return
        with suppress(psutil.NoSuchProcess):
            self.family.update(psutil.Process(self.pid).children(recursive=True))

    def stop(self, timeout: float = 15) -> int:
        """End it as a service manager would; its exit code."""
        self.terminate()
        return self.wait(timeout)

    # Its processes

    def supervisor(self) -> psutil.Process:
        return psutil.Process(self.pid)

    def ledger(self) -> psutil.Process:
        """The one that talks to the database."""
        return wait_until(
            lambda: next(filter(self._talks_to_database, self._parts()), None),
            message="no process of the worker has the database open",
        )

    def runners(self) -> list[psutil.Process]:
        ledger = self.ledger()
        return [part for part in self._parts() if part != ledger]

    def all_parts(self) -> list[psutil.Process]:
        """The supervisor first: stopped or killed in this order, nobody reacts to the others."""
        return [self.supervisor(), *self._parts()]

    def locks(self) -> set[str]:
        """Paths of its lock files, one for each life of its ledger."""
        rows = self.site.sql("SELECT lock FROM queuectl_worker WHERE pid = %s", [self.pid])
        return {lock for [lock] in rows}

    def _parts(self) -> list[psutil.Process]:
        # What it adopted is a command's, and has its job's name in its environment.
        return [
            child
            for child in self.supervisor().children()
            if alive(child) and "QUEUECTL_JOB_ID" not in environ(child)
        ]

    def _talks_to_database(self, process: psutil.Process) -> bool:
        try:
            if self.site.is_postgresql:
                return bool(process.net_connections("inet"))
            file = self.site.database_url.removeprefix("sqlite:///")
            return any(opened.path == file for opened in process.open_files())
        except psutil.NoSuchProcess:
            return False


class Site:
    def __init__(self, databases: Databases, directory: Path) -> None:
        self.databases = databases
        self.directory = directory
        self.database_url = databases.new()
        self.mark = secrets.token_hex(16)
        self.workers: list[Worker] = []
        self.effects_file = directory / "effects.log"
        temporary = directory / "tmp"
        temporary.mkdir()
        self.env = environment(self.database_url) | {MARK: self.mark, "TMPDIR": str(temporary)}

    @property
    def is_postgresql(self) -> bool:
        return self.databases.is_postgresql

    def hurry(self, **settings: Any) -> None:
        """From now on its programs use the settings of `quick`, with these changed."""
        self.env["DJANGO_SETTINGS_MODULE"] = "tests.acceptance.quick"
        self.env["TEST_QUEUECTL"] = json.dumps(settings)

    # Its programs

    # Typed into a copy of a process that has imported Django, which costs a third; `fresh` where
    # the start of a process, or what stays behind it, matters.

    def run(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`python manage.py queuectl ARGS`"""
        return self._text([*MANAGE, "queuectl", *args], **options)

    def manage(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`python manage.py ARGS`"""
        return self._text([*MANAGE, *args], **options)

    def queuectl(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The console script: `queuectl ARGS`"""
        return self._text([sys.executable, *CONSOLE, *args], **options)

    def spawn(self, *args: str) -> subprocess.Popen[str]:
        """`python manage.py queuectl ARGS`, to be waited for later."""
        return subprocess.Popen(
            [*MANAGE, "queuectl", *args],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def spawn_worker(self, *args: str, before: Sequence[str] = (), root: Path = ROOT) -> Worker:
        """A worker of the project in `root` that may not be ready yet; `before` precedes its command."""
        worker = Worker(self, *args, before=before, root=root)
        self.workers.append(worker)
        return worker

    def start_worker(
        self, *args: str, timeout: float = 20, before: Sequence[str] = (), root: Path = ROOT
    ) -> Worker:
        """A worker that has said 'Started'."""
        worker = self.spawn_worker(*args, before=before, root=root)
        wait_until(
            lambda: "Started" in worker.output or worker.poll() is not None,
            timeout=timeout,
            message=lambda: f"the worker did not start:\n{worker.output}{worker.log}",
        )
        assert "Started" in worker.output, f"the worker ended:\n{worker.output}{worker.log}"
        return worker

    def run_until_empty(
        self, *args: str, timeout: float = 30, before: Sequence[str] = ()
    ) -> Worker:
        """A worker that has run all there was to run, and has ended."""
        worker = self.start_worker(*args, "--until-empty", before=before)
        assert worker.wait(timeout) == 0, worker.log
        return worker

    # Its jobs

    def enqueue(self, *jobs: dict[str, Any]) -> None:
        """All in one go, through `queuectl enqueue -`."""
        self.run("enqueue", "-", input="".join(f"{json.dumps(job)}\n" for job in jobs))

    def effect(
        self, key: str, seconds: float = 0, later: float | None = None, code: int = 0, **fields: Any
    ) -> dict[str, Any]:
        """A job that leaves effects, and runs that long; its later attempts `later`."""
        rest = seconds if later is None else later
        argv = [sys.executable, "-IS", EFFECT, self.effects_file, seconds, rest, code]
        return {"id": key, "argv": [str(arg) for arg in argv], **fields}

    def effects(self, what: str = "", key: str = "") -> list[Effect]:
        """What effect jobs have left, in the order of time."""
        found = []
        if self.effects_file.exists():
            for line in self.effects_file.read_text().splitlines():
                word, job, attempt, pid, at = line.split()
                found.append(Effect(word, job, int(attempt), int(pid), float(at)))
        return [e for e in found if what in ("", e.what) and key in ("", e.job)]

    def wait_for_start(self, *keys: str, attempt: int = 1, timeout: float = 10) -> list[Effect]:
        """The `start` of that attempt of each of these effect jobs."""

        def started() -> list[Effect] | None:
            effects = {e.job: e for e in self.effects("start") if e.attempt == attempt}
            return [effects[key] for key in keys] if effects.keys() >= set(keys) else None

        return wait_until(started, timeout=timeout, message=self.describe)  # type: ignore[return-value]

    def job(self, key: str) -> SimpleNamespace:
        query = f"SELECT {', '.join(JOB)} FROM queuectl_job WHERE key = %s"
        return _named(JOB, self.sql(query, [key])[0])

    def attempts(self, key: str) -> list[SimpleNamespace]:
        columns = ", ".join(f"a.{name}" for name in ATTEMPT)
        query = (
            f"SELECT {columns} FROM queuectl_attempt a JOIN queuectl_job j ON j.id = a.job_id "
            "WHERE j.key = %s ORDER BY a.number"
        )
        return [_named(ATTEMPT, row) for row in self.sql(query, [key])]

    def outcomes(self, key: str) -> list[str]:
        return [attempt.outcome for attempt in self.attempts(key)]

    def states(self) -> dict[str, str]:
        return dict(self.sql("SELECT key, state FROM queuectl_job ORDER BY id"))  # type: ignore[arg-type]

    def counts(self) -> Counter[str]:
        return Counter(self.states().values())

    def wait_for(self, state: str, *keys: str, timeout: float = 15) -> None:
        """Until these jobs, or all, are in that state."""
        wait_until(
            lambda: {s for key, s in self.states().items() if not keys or key in keys} == {state},
            timeout=timeout,
            message=lambda: f"not all became {state}: {self.describe()}",
        )

    def wait_for_runs(self, key: str, runs: int, timeout: float = 10) -> list[SimpleNamespace]:
        """The attempts of a job, once that many are written down."""
        wait_until(lambda: len(self.attempts(key)) >= runs, timeout=timeout, message=self.describe)
        return self.attempts(key)

    def worker_rows(self) -> list[SimpleNamespace]:
        query = f"SELECT {', '.join(WORKER)} FROM queuectl_worker ORDER BY id"
        return [_named(WORKER, row) for row in self.sql(query)]

    def output(self, key: str, *args: str) -> bytes:
        """What `job output KEY --raw` gives."""
        return self._run([*MANAGE, "queuectl", "job", "output", key, "--raw", *args]).stdout

    def output_rows(self, key: str) -> bytes:
        """The same, read from the tables; of the last attempt."""
        query = (
            "SELECT o.data FROM queuectl_output o JOIN queuectl_job j ON j.id = o.job_id "
            "WHERE j.key = %s AND o.attempt = j.runs ORDER BY o.stream, o.sequence"
        )
        return b"".join(bytes(data) for [data] in self.sql(query, [key]))

    def sql(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows straight from the database; parameters are %s on both."""
        return self.databases.query(self.database_url, query, params)

    def describe(self) -> str:
        logs = "".join(f"\n{worker.args}\n{worker.log}" for worker in self.workers)
        held = {lock: holders({lock}) for worker in self.workers for lock in worker.locks()}
        return f"{self.states()}\n{self.effects()}\n{held}{logs}"

    # Its processes

    def processes(self) -> list[psutil.Process]:
        """All that live and were started by this site, orphans included."""
        found = set(started_with(f"{MARK}={self.mark}"))
        for worker in self.workers:
            worker.remember_family()
            found |= worker.family
        return [process for process in found if alive(process)]

    def commands(self, key: str = "") -> list[psutil.Process]:
        """Processes of jobs, or of one job, that live."""
        ids = ((process, environ(process).get("QUEUECTL_JOB_ID")) for process in self.processes())
        return [process for process, job in ids if job is not None and key in ("", job)]

    def close(self) -> None:
        for worker in self.workers:
            worker.remember_family()
            worker.kill()
        for _ in range(5):  # what a process forked meanwhile is found by the next look
            if left := self.processes():
                signal_all(left, signal.SIGKILL)
                wait_gone(left, 5)
        for worker in self.workers:
            worker.wait()
        self.databases.drop(self.database_url)

    def _text(
        self, command: Sequence[str], *, input: str | bytes | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        given = input.encode() if isinstance(input, str) else input
        result = self._run(command, input=given, **options)
        told = result.stdout.decode(), result.stderr.decode()
        return subprocess.CompletedProcess(result.args, result.returncode, *told)

    def _run(
        self,
        command: Sequence[str],
        *,
        input: bytes | None = None,
        check: bool = True,
        timeout: float = 60,
        env: dict[str, str] | None = None,
        cwd: Path = ROOT,
        fresh: bool = False,
    ) -> subprocess.CompletedProcess[bytes]:
        all_env = self.env | (env or {})
        if fresh:
            result = subprocess.run(
                command,
                input=input,
                stdin=subprocess.DEVNULL if input is None else None,
                capture_output=True,
                timeout=timeout,
                cwd=cwd,
                env=all_env,
            )
        else:
            result = typist.shared().type(
                command[1:], env=all_env, cwd=cwd, input=input, timeout=timeout, again=not env
            )
        if check:
            assert result.returncode == 0, (
                f"exit code {result.returncode} of {command[1:]}:\n"
                f"{result.stdout.decode()}{result.stderr.decode()}"
            )
        return result


def started_with(*entries: str) -> list[psutil.Process]:
    """Processes that have all of these in their environment."""
    if not ON_LINUX:
        pairs = dict(entry.split("=", 1) for entry in entries)
        return [p for p in psutil.process_iter() if pairs.items() <= environ(p).items()]
    wanted, found = [f"\0{entry}\0".encode() for entry in entries], []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, psutil.NoSuchProcess):
            environment = b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
            if all(entry in environment for entry in wanted):
                found.append(psutil.Process(int(pid)))
    return found


def stays(condition: Callable[[], Any], seconds: float, message: Callable[[], str]) -> None:
    """Fails if the condition does not hold all this time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert condition(), message()
        time.sleep(0.05)


def signal_all(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def holders(locks: set[str]) -> list[psutil.Process]:
    """Whoever has one of these files open: a worker's lock is shared by all of it, and by nothing else."""
    return [process for process in psutil.process_iter() if locks & opened(process)]


def has_no_other_lock(process: psutil.Process, locks: set[str]) -> bool:
    """Not so of a neighbour that has one of these open only to look whether it is free."""
    return {path for path in opened(process) if path.endswith(".lock")} <= locks


def opened(process: psutil.Process) -> set[str]:
    found = set()
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{process.pid}/fd"):
            with suppress(OSError):
                found.add(os.readlink(entry.path))
    return found


def freeze(find: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
    """Stop all that is found, until no more is: one that was being forked has its name by then."""
    found: list[psutil.Process] = []
    while new := [process for process in find() if process not in found]:
        signal_all(new, signal.SIGSTOP)
        found += new
        time.sleep(0.05)
    return found


def wait_gone(processes: Sequence[psutil.Process], timeout: float) -> float:
    """Until all have ended; when that was, by time.monotonic()."""
    wait_until(
        lambda: not any(map(alive, processes)),
        timeout=timeout,
        message=lambda: f"still alive: {[p for p in processes if alive(p)]}",
    )
    return time.monotonic()


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def age(process: psutil.Process) -> float:
    """Seconds since it began. Raises NoSuchProcess.

    Not by `create_time`, which is up to a second too early: Linux tells when it was started in whole
    seconds, and everything else since then.
    """
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        raise psutil.NoSuchProcess(process.pid) from None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def arguments(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def environ(process: psutil.Process) -> dict[str, str]:
    try:
        return dict(process.environ())
    except psutil.Error:
        return {}


def moment(value: Any) -> Any:
    """A time as it comes from the database; SQLite gives text."""
    return datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value


def _named(names: Sequence[str], values: Sequence[Any]) -> SimpleNamespace:
    fields = dict(zip(names, values, strict=True))
    for name, value in fields.items():
        if name.endswith("_at"):
            fields[name] = moment(value)
    return SimpleNamespace(**fields)
