"""Runs many commands quickly: an interpreter, started once and forked for each of them.

Every command has a process of its own, with its own arguments, environment and streams, and goes
from the first line of its script to its exit code; it reads its settings and opens its database
itself. Only what the imports need no settings for is there already. Commands of one site share
more: they are forked from a copy that has set up Django, once, in the environment of that site.

A command that stays, as a worker does, becomes a child of the test, as if it had started it.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from typing import Any

import django

READY = (
    "axes",
    "django.contrib.admin.options",
    "django.contrib.admin.sites",
    "django.contrib.admin.views.main",
    "django.contrib.auth.hashers",
    "django.contrib.auth.management",
    "django.contrib.auth.password_validation",
    "django.contrib.staticfiles.finders",
    "django.core.management",
    "django.db.backends.postgresql.base",
    "django.db.backends.sqlite3.base",
    "django.db.migrations",
    "django.template.defaulttags",
    "django.template.loader_tags",
    "django.views.debug",
    "environ",
    "jobs.cli.arguments",
    "jobs.cli.printing",
    "jobs.dialect",
    "jobs.execution.confine",
    "jobs.execution.shell",
    "jobs.lockfile",
    "jobs.outcome",
    "jobs.pages.printed",
    "jobs.redaction",
    "jobs.transitions",
    "jobs.worker.runner",
    "jobs.worker.wakeup",
    "whitenoise.base",
    *(("django_tasks.backends",) if django.VERSION < (6,) else ("django.tasks.backends.base",)),
)

ROOM = "TYPIST_ROOM"
"""A variable that is there for its length: /proc shows what a process was started with, no longer."""

_PR_SET_CHILD_SUBREAPER = 36


class Typist:
    """The other side: where a test types."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=Path(__file__).parents[2],
                env=os.environ | {ROOM: "-" * 16_384},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        with ours:
            self.requests, self.answers = ours.makefile("wb"), ours.makefile("rb")

    def type(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        input: bytes | None = None,
        timeout: float = 60,
        again: bool = False,
    ) -> CompletedProcess[bytes]:
        """Run a script and its words to their end; without input, stdin is empty.

        `again` promises more of the project's in this environment, for which Django is set up.
        """
        given = None if input is None else input.decode("latin-1")
        request = {"command": command, "env": dict(env), "cwd": str(cwd), "input": given}
        code, *told = self._ask("run", request, timeout, again=again)
        return CompletedProcess(command, code, *(text.encode("latin-1") for text in told))

    def launch(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        out: Path,
        err: Path,
        again: bool = False,
    ) -> "Launched":
        """Start a script that stays, in a session of its own; both files are made."""
        request = {"command": command, "env": dict(env), "cwd": str(cwd)}
        request |= {"out": str(out), "err": str(err)}
        with adopting():
            return Launched(self._ask("launch", request, 60, again=again))

    def _ask(self, what: str, request: dict[str, Any], timeout: float, *, again: bool) -> Any:
        self.requests.write(json.dumps([what, request, again]).encode() + b"\n")
        self.requests.flush()
        answered, _, _ = select.select([self.answers], [], [], timeout)
        if not answered:
            self.close()
            raise TimeoutExpired(request["command"], timeout)
        return json.loads(self.answers.readline())

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        with self.process, self.requests, self.answers:
            shared.cache_clear()


class Launched:
    """What `subprocess.Popen` is for a process that another one started, and we adopted."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.poll() is None:
            fd = os.pidfd_open(self.pid)
            try:
                select.select([fd], [], [], timeout)
            finally:
                os.close(fd)
        if (code := self.poll()) is None:
            raise TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@contextmanager
def adopting() -> Iterator[None]:
    """Whoever loses its parent meanwhile, below this process, becomes its child."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@cache
def shared() -> Typist:
    """One for all tests of a process."""
    typist = Typist()
    atexit.register(typist.close)
    return typist


def main() -> None:
    for name in READY:
        import_module(name)
    gc.collect()
    gc.freeze()  # what a child need not look at, it need not copy
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    serve(channel)


def serve(channel: socket.socket) -> None:
    """Answer until nobody asks any more."""
    ready: Ready | None = None
    requests, answers = channel.makefile("rb"), channel.makefile("wb")
    for line in requests:
        what, request, again = json.loads(line)
        if again and (ready is None or ready.env != request["env"]):
            if ready:
                ready.close()
            ready = Ready(request["env"])
        if again and ready and ready.is_set_up:
            answer = ready.ask(what, request)
        else:
            answer = launch(**request) if what == "launch" else run(**request)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


class Ready:
    """A copy of this process that has set up Django, and serves one environment."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            with suppress(BaseException):  # who asks next fails alike, and says why
                set_up(env)
                theirs.sendall(b"set up\n")
                serve(theirs)
            os._exit(0)
        theirs.close()
        with ours:
            self.requests, self.answers = ours.makefile("wb"), ours.makefile("rb")
        self.is_set_up = self.answers.readline() == b"set up\n"

    def ask(self, what: str, request: dict[str, Any]) -> Any:
        self.requests.write(json.dumps([what, request, False]).encode() + b"\n")
        self.requests.flush()
        return json.loads(self.answers.readline())

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        with self.requests, self.answers:
            pass


def set_up(env: dict[str, str]) -> None:
    take_on(env, str(Path(__file__).parents[2]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "queuectl_project.settings")
    django.setup()
    gc.collect()
    gc.freeze()


def run(
    command: list[str], env: dict[str, str], cwd: str, input: str | None
) -> tuple[int, str, str]:
    with (
        tempfile.TemporaryFile() if input is not None else open(os.devnull, "rb") as stdin,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        if input is not None:
            stdin.write(input.encode("latin-1"))
            stdin.seek(0)
        child = os.fork()
        if child == 0:
            for fd, stream in enumerate((stdin, stdout, stderr)):
                os.dup2(stream.fileno(), fd)
            os.chdir(cwd)
            os._exit(become(command, env))
        _, status = os.waitpid(child, 0)
        for stream in (stdout, stderr):
            stream.seek(0)
        code = os.waitstatus_to_exitcode(status)
        return code, stdout.read().decode("latin-1"), stderr.read().decode("latin-1")


def launch(command: list[str], env: dict[str, str], cwd: str, out: str, err: str) -> int:
    """The pid of a process whose parent has ended."""
    reading, writing = os.pipe()
    with open(os.devnull, "rb") as stdin, open(out, "wb") as stdout, open(err, "wb") as stderr:
        between = os.fork()
        if between == 0:
            if os.fork():
                os._exit(0)
            os.setsid()
            for fd, stream in enumerate((stdin, stdout, stderr)):
                os.dup2(stream.fileno(), fd)
            show(env)
            os.write(writing, b"%d" % os.getpid())
            os.closerange(3, 64)
            os.chdir(cwd)
            os._exit(become(command, env))
        os.waitpid(between, 0)
    pid = int(os.read(reading, 20))
    for fd in (reading, writing):
        os.close(fd)
    return pid


def show(env: Mapping[str, str]) -> None:
    """Let /proc show this environment, as it does for a process that was started with it."""
    words = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begins, ends = map(int, words[47:49])
    shown = b"".join(b"%s=%s\0" % (*map(os.fsencode, entry),) for entry in env.items())
    assert len(shown) <= ends - begins
    os.environ.clear()  # what is overwritten is no longer read
    ctypes.memmove(begins, shown.ljust(ends - begins, b"\0"), ends - begins)


def become(command: list[str], env: dict[str, str]) -> int:
    """What Python does with a script; the exit code."""
    take_on(env, os.path.dirname(command[0]))
    sys.argv = command
    code: Any = 0
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as error:
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    gc.collect()  # what nobody closed is complained about here, as at the end of a process
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code)


def take_on(env: dict[str, str], directory: str) -> None:
    """The environment, and what Python makes of it for a script in that directory."""
    os.environ.clear()
    os.environ.update(env)
    if env.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")
    added = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = [directory, *added]


if __name__ == "__main__":
    main()
