"""Types many commands quickly: the console script, started once and forked for each of them.

    python -m tests.acceptance.typist

reads requests, a JSON object a line, and answers each with another. Every command runs in a
process of its own, with its own arguments and streams, from the first line of the console
script to its exit code. Only what Python and Django import on the way is there already.
"""

import gc
import json
import os
import select
import subprocess
import sys
import tempfile
from subprocess import CompletedProcess
from typing import Any

PATIENCE_SECONDS = 30.0


class Typist:
    """The other side: where a test types."""

    def __init__(self, directory: Any, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=directory,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def type(self, *words: str, input: str | bytes = b"") -> CompletedProcess[str]:
        """`queuectl WORDS`"""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        given = input.encode() if isinstance(input, str) else input
        request = {"words": words, "input": given.decode("latin-1")}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        answered, _, _ = select.select([self.process.stdout], [], [], PATIENCE_SECONDS)
        assert answered, f"no end of: queuectl {' '.join(words)}"
        answer = json.loads(self.process.stdout.readline())
        return CompletedProcess(["queuectl", *words], *answer)

    def close(self) -> None:
        self.process.kill()
        with self.process:
            pass


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "queuectl_project.settings")
    django.setup()
    import jobs.cli.tree  # noqa: F401

    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer = run(request["words"], request["input"].encode("latin-1"))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def run(words: list[str], given: bytes) -> tuple[int, str, str]:
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        stdin.write(given)
        stdin.seek(0)
        child = os.fork()
        if child == 0:
            for fd, stream in enumerate((stdin, stdout, stderr)):
                os.dup2(stream.fileno(), fd)
            os._exit(become_the_console_script(words))
        _, status = os.waitpid(child, 0)
        for stream in (stdout, stderr):
            stream.seek(0)
        code = os.waitstatus_to_exitcode(status)
        return code, stdout.read().decode(), stderr.read().decode()


def become_the_console_script(words: list[str]) -> int:
    from jobs.cli.console import main as console

    sys.stdin = os.fdopen(0, "r", encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    sys.argv = ["queuectl", *words]
    code = 0
    try:
        console()
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
    return code


if __name__ == "__main__":
    main()
