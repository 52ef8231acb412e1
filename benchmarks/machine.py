"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import statistics
import subprocess
import time
from pathlib import Path


def describe(directory: Path) -> dict[str, str]:
    """The machine in a few facts; never its name."""
    return {
        "Processor": f"{_line('/proc/cpuinfo', 'model name')}, {len(os.sched_getaffinity(0))} cores",
        "Memory": f"{int(_line('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        "System": f"{_line('/etc/os-release', 'PRETTY_NAME', '=')}, Linux {platform.release()}",
        "fdatasync": f"{fdatasync_milliseconds(directory):.2f} ms (median of 200, 4 KiB each)",
    }


def load() -> float:
    """What has been running in the last minute."""
    return os.getloadavg()[0]


TOOLS = {
    "xargs": "--version",
    "parallel": "--version",
    "redis-server": "--version",
    "node": "--version",
}
_VERSION = re.compile(r"(?<![\w.])v?(\d+(\.\d+)*)\b")


def tools() -> dict[str, str]:
    """Versions of the programs that are measured, or served a peer; those that are installed."""
    found = {}
    for name, option in TOOLS.items():
        if path := shutil.which(name):
            said = subprocess.run([path, option], capture_output=True, text=True, check=False)
            if number := _VERSION.search(said.stdout):
                found[name] = number[1]
    return found


def _line(file: str, key: str, separator: str = ":") -> str:
    for line in Path(file).read_text().splitlines():
        name, _, value = line.partition(separator)
        if name.strip() == key:
            return value.strip().strip('"')
    return "unknown"


def fdatasync_milliseconds(directory: Path) -> float:
    """Durable commits cost at least this; near 0 it is no disk, and the figures mean little."""
    path = directory / "fdatasync"
    seconds = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(200):
            os.write(descriptor, bytes(4096))
            began = time.perf_counter()
            os.fdatasync(descriptor)
            seconds.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(seconds) * 1000


def commit(root: Path) -> str:
    """What of QueueCTL was measured: a commit, and whether the checkout had changes."""
    words = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
