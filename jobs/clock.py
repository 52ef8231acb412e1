"""The only room that asks what time it is. Everything below an entry point is given `now`."""

from __future__ import annotations

import time
from datetime import UTC, datetime

# CLOCK_BOOTTIME goes on while the machine is suspended, so a lease cannot outlive a closed lid.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> datetime:
    """This machine's time, in UTC. For the database's, see `dialect.now`."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds since boot: for durations and deadlines; the same in every process of this host."""
    return time.clock_gettime(_CLOCK)


def pause(seconds: float) -> None:
    """Block this process: to wait for another, where there is nothing to select on."""
    time.sleep(seconds)
