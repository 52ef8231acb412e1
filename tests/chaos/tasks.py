"""The Django tasks of a run. What they do is told in the same log as that of commands."""

import fcntl
import os
import signal
import time
from typing import Any

from jobs.tasks import task
from tests.chaos import inside


class PlannedError(Exception):
    pass


@task(takes_context=True)
def effect(
    context: Any, log: str, seconds: float, codes: list[int], how: str, returned: Any
) -> Any:
    """As effect.py is for commands; a code that is not 0 ends it by what `how` says.

    One that `forks` leaves a process in a session of its own, without a program or a mark of its own.
    """
    key, attempt = context.task_result.id, context.attempt
    who = f"{key} {attempt} {inside.lease} {os.environ.get('CHAOS_WORKER', '-')} {os.getpid()}"
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    guard = os.open(f"{log}.{key}", os.O_RDWR | os.O_CREAT, 0o600)
    signal.signal(signal.SIGUSR1, _take_memory)
    try:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _tell(out, "overlap", who)
        _tell(out, "start", who)
        if how == "forks" and os.fork() == 0:
            _stay(guard)
        time.sleep(seconds)
        _tell(out, "end", who)
        _end(codes[min(attempt, len(codes)) - 1], how)
    finally:
        os.close(guard)
        os.close(out)
    return returned


def _stay(guard: int) -> None:
    os.close(guard)  # what stays behind is not the run
    os.setsid()
    time.sleep(20)
    os._exit(0)


def _tell(out: int, what: str, who: str) -> None:
    at = time.clock_gettime(time.CLOCK_BOOTTIME)
    os.write(out, f"{what} {who} {at:.6f}\n".encode())


def _end(code: int, how: str) -> None:
    if code == 0:
        return
    if how == "exits":
        os._exit(code)
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    raise PlannedError(f"code {code}")


def _take_memory(*_: object) -> None:
    kept = []
    for _ in range(400):
        kept.append(bytearray(b"x" * 2**20))
