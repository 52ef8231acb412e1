"""Runs many commands quickly: an interpreter, started once and forked for each of them.

Every command has a process of its own, with its own arguments, environment and streams, and goes
from the first line of its script to its exit code; it reads its settings and opens its database
itself. Only what the imports need no settings for is there already.
"""

import atexit
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
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from typing import Any

READY = (
    "django.contrib.admin.options",
    "django.contrib.admin.sites",
    "django.contrib.admin.views.main",
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
    "jobs.cli.printing",
    "jobs.dialect",
    "jobs.lockfile",
    "jobs.outcome",
    "whitenoise.base",
)


class Typist:
    """The other side: where a test types."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=Path(__file__).parents[2],
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
    ) -> CompletedProcess[bytes]:
        """Run a script and its words to their end; without input, stdin is empty."""
        given = None if input is None else input.decode("latin-1")
        request = {"command": command, "env": dict(env), "cwd": str(cwd), "input": given}
        self.requests.write(json.dumps(request).encode() + b"\n")
        self.requests.flush()
        answered, _, _ = select.select([self.answers], [], [], timeout)
        if not answered:
            self.close()
            raise TimeoutExpired(command, timeout)
        code, *told = json.loads(self.answers.readline())
        return CompletedProcess(command, code, *(text.encode("latin-1") for text in told))

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        with self.process, self.requests, self.answers:
            shared.cache_clear()


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
    requests, answers = channel.makefile("rb"), channel.makefile("wb")
    for line in requests:
        answers.write(json.dumps(run(**json.loads(line))).encode() + b"\n")
        answers.flush()


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


def become(command: list[str], env: dict[str, str]) -> int:
    """What Python does with a script; the exit code."""
    os.environ.clear()
    os.environ.update(env)
    sys.argv = command
    added = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = [os.path.dirname(command[0]), *added]
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


if __name__ == "__main__":
    main()
