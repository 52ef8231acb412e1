"""Tasks for the tests: what a site would have."""

import asyncio
import ctypes
import fcntl
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from django.db import connection, connections, transaction

from jobs.tasks import task


@task
def add(a: int, b: int) -> int:
    return a + b


@task
def noop() -> None:
    pass


@task
def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


@task(max_retries=0)
def fail(text: str = "boom") -> None:
    raise ValueError(text)


@task(max_attempts=3, backoff=1)
def fail_twice(path: str) -> int:
    file = Path(path)
    runs = int(file.read_text()) if file.exists() else 0
    file.write_text(str(runs + 1))
    if runs < 2:
        raise OSError(f"run {runs + 1}")
    return runs + 1


@task(takes_context=True)
def context(context: Any) -> Any:
    result = context.task_result
    return {"attempt": context.attempt, "id": result.id, "worker_ids": result.worker_ids}


@task(takes_context=True)
def read_anew(context: Any) -> Any:
    result = context.task_result
    result.refresh()
    return {
        "attempt": context.attempt,
        "status": str(result.status),
        "worker": result.worker_ids[-1],
        "began": result.last_attempted_at is not None,
    }


@task
async def asynchronous(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@task(timeout=0.5, max_retries=0)
def overtime() -> None:
    time.sleep(60)


@task(max_retries=0)
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@task(max_retries=0)
def end_process(how: str) -> None:
    match how:
        case "os._exit":
            os._exit(3)
        case "sys.exit":
            sys.exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "interrupt":
            raise KeyboardInterrupt
        case "generator":
            raise GeneratorExit
        case "memory":
            raise MemoryError
        case "recursion":
            end_process.func(how)


@task(max_retries=0)
def fork(how: str) -> int:
    """Fork a child that comes back from here; its exit code."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    match how:
        case "raises":
            raise ValueError("in the child")
        case "exits":
            sys.exit(3)
        case "says":
            sys.exit("last words")
    return 0


class Broken:
    """A connection in a transaction, which cannot be closed; `how` it does not do so."""

    connection = in_atomic_block = True

    def __init__(self, alias: str, how: str) -> None:
        self.alias, self.how = alias, how

    def close(self) -> None:
        if self.how == "dies":
            os._exit(9)
        raise OSError("this cannot be closed")


@task(max_retries=0)
def break_connection(how: str) -> None:
    connections["default"] = Broken("default", how)


@task
def whether_connected() -> bool:
    return connections["default"].connection is not None


@task
def add_line(path: str) -> None:
    with open(path, "a") as file:
        file.write("one more\n")


@task(max_retries=0)
def returns(what: str) -> Any:
    values: dict[str, Any] = {
        "set": {1},
        "nan": float("nan"),
        "nul": "a\0b",
        "tuple": (1, (2, 3)),
        "bytes": b"text",
        "large": "x" * 2_000_000,
        "beyond": 10**400,
    }
    return values[what]


@task(max_retries=0)
def leave_transaction() -> None:
    connection.set_autocommit(False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@task(max_retries=0)
def long_transaction(seconds: float) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS long_transaction (n integer)")
            cursor.execute("INSERT INTO long_transaction VALUES (1)")
        time.sleep(seconds)


@task(takes_context=True)
def effect(
    context: Any,
    log: str,
    seconds: float = 0,
    *,
    later: float | None = None,
    how: str = "",
    children: int = 0,
    marked: bool = False,
    forks: int = 0,
) -> None:
    """Leave the lines of tests/acceptance/effect.py, and run that long; later attempts `later`.

    Ends as `end_process` or `hang` do if one of their words is given. `children` are left running,
    of each kind that number of times; `marked` ones keep their environment. The first time it `forks`
    that many that start no program, and say so, each second one in a session of its own.
    """
    job, attempt = context.task_result.id, context.attempt
    guard = os.open(f"{log}.{job}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _tell(log, "overlap", job, attempt)
        for _ in range(children):
            _leave_children("" if marked else "env -i")
        for number in range(forks if attempt == 1 else 0):
            if os.fork() == 0:
                if number % 2:
                    os.setsid()
                _tell(log, "forked", job, attempt)
                time.sleep(300)
                os._exit(0)
        _tell(log, "start", job, attempt)
        time.sleep(seconds if attempt == 1 or later is None else later)
        if attempt == 1 or later is None:
            hang.func(how)
            end_process.func(how)
        _tell(log, "end", job, attempt)
    finally:
        os.close(guard)


@task(max_retries=0)
def nested() -> str:
    """What a process says that was forked by a process that this one forks."""
    context = multiprocessing.get_context("fork")
    reading, writing = context.Pipe(duplex=False)
    with reading, writing:
        outer = context.Process(target=_start_another, args=(writing,))
        outer.start()
        outer.join()
        return reading.recv() if reading.poll(1) else "nothing"


@task(max_retries=0)
def end_what_it_forked() -> list[int | None]:
    """By each of the signals that a program hears; their exit codes."""
    codes, context = [], multiprocessing.get_context("fork")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        reading, writing = context.Pipe(duplex=False)
        forked = context.Process(target=_sleep_after, args=(writing,))
        forked.start()
        assert forked.pid
        if number == signal.SIGINT:  # what it raises in the hooks of a fork is lost, in any program
            reading.poll(10)
        os.kill(forked.pid, number)
        forked.join(10)
        codes.append(forked.exitcode)
        forked.kill()
    return codes


def _sleep_after(told: Any) -> None:
    told.send("there")
    for _ in range(600):  # a signal on the way into a long sleep is heard after it
        time.sleep(0.1)


def _start_another(writing: Any) -> None:
    inner = multiprocessing.get_context("fork").Process(target=writing.send, args=("said",))
    inner.start()
    inner.join()


def _tell(log: str, what: str, job: str, attempt: int) -> None:
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        line = f"{what} {job} {attempt} {os.getpid()} {time.monotonic():.6f}\n"
        os.write(out, line.encode())
    finally:
        os.close(out)


def _leave_children(bare: str) -> None:
    """One that is ours, one in a session of its own and without environment, one that is nobody's."""
    for argv in (["sleep", "301"], ["setsid", *bare.split(), "sleep", "302"]):
        subprocess.Popen(argv)
    subprocess.run(["sh", "-c", f"trap '' TERM; setsid {bare} sleep 303 &"], check=True)


@task(max_retries=0)
def hang(how: str) -> None:
    """Go on for a minute, whatever anybody says."""
    match how:
        case "deaf":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            until = time.monotonic() + 60
            while time.monotonic() < until:
                try:
                    time.sleep(60)
                except BaseException:
                    continue
        case "regex":
            re.match(r"(a+)+$", "a" * 60 + "b")
        case "in C":
            ctypes.PyDLL(None).sleep(60)  # with the interpreter's lock
        case "traced":
            ctypes.CDLL(None).ptrace(0, 0, 0, 0)
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(60)


@task(takes_context=True, backoff=1)
def second_time(context: Any) -> Any:
    """Fails once, then tells what its context says."""
    if context.attempt == 1:
        raise LookupError("the first time")
    result = context.task_result
    return {
        "attempt": context.attempt,
        "worker_ids": result.worker_ids,
        "errors": [error.exception_class_path for error in result.errors],
    }


@task(max_retries=0)
def insert(number: int) -> list[int]:
    """Store a row in a table of the test; the rows there are."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO task_row VALUES (%s)", [number])
        cursor.execute("SELECT number FROM task_row ORDER BY number")
        return [found for [found] in cursor.fetchall()]


@task(max_retries=0)
def leave_written(how: str) -> None:
    """Leave a row that was not committed, and a transaction that is open or broken."""
    if how == "atomic":
        transaction.atomic().__enter__()
    else:
        connection.set_autocommit(False)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO task_row VALUES (-1)")
        if how == "broken":
            cursor.execute("SELECT nonsense")


@task(max_retries=0)
def lose_connection(again: bool) -> None:
    """On PostgreSQL: have the server cut our connection, and use it `again` or not."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])
    other.close()
    if again:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")


@task(max_retries=0)
def deep(depth: int) -> None:
    if not depth:
        raise ValueError("at the bottom")
    one_of_many_levels = "deep.func, each level of which says something " * 3 + str(depth)
    try:
        deep.func(depth - 1)
    except ValueError as error:
        error.add_note(one_of_many_levels)
        raise ValueError("at the bottom") from error


@task(max_retries=0)
def leave_alarm(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, seconds)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@task(max_retries=0)
def mute() -> None:
    raise Mute
