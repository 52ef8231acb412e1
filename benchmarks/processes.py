"""Starting programs, and what they cost: memory by PSS and CPU time, from /proc."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
LONGEST_SECONDS = 1800.0


class Failed(Exception):
    """A measurement could not be made; the message says why, and goes into the results."""


@dataclass(frozen=True)
class Finished:
    seconds: float
    output: str


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
    timeout: float = LONGEST_SECONDS,
) -> Finished:
    """Run a program to its end and time it. Raises Failed with the end of what it said."""
    began = time.perf_counter()
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except OSError as error:
        raise Failed(f"cannot start: {error.strerror}") from None
    try:
        output, errors = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        raise Failed(f"took more than {timeout:g} s") from None
    finally:
        end(process)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise Failed(_last_line(errors) or f"exit code {process.returncode}")
    return Finished(seconds, output)


def end(process: subprocess.Popen[Any], patience: float = 45.0) -> None:
    """Ask a process that still runs to end, so that it ends what it started; then kill it."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    if process.poll() is None:
        process.kill()
        process.wait()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


@contextmanager
def started(
    command: Sequence[str | Path], *, environment: Mapping[str, str], cwd: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own, asked to end on leaving."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


# /proc


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the name: state, parent …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _children() -> dict[int, list[int]]:
    """Who started whom, of all processes."""
    found: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                pid = int(entry.name)
                found.setdefault(int(_stat(pid)[1]), []).append(pid)
    return found


def of_worker(supervisor: int) -> list[int]:
    """A worker's own processes: the supervisor, and its children the ledger and the runners."""
    return [supervisor, *_children().get(supervisor, [])]


def commands_under(supervisor: int) -> int:
    """How many commands run: what the runners have started."""
    children = _children()
    return sum(len(children.get(runner, [])) for runner in children.get(supervisor, []))


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of these processes so far."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = _stat(pid)
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def pss_megabytes(pids: Sequence[int]) -> float:
    """Proportional set size: what pages shared by several count for, divided among them."""
    kilobytes = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kilobytes += int(line.split()[1])
    return kilobytes / 1024
