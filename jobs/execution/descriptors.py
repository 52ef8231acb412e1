"""What a process of a worker has open: how much it may be, and that no command gets it."""

from __future__ import annotations

import os
import resource
from contextlib import suppress


def keep_descriptors() -> None:
    """No command inherits what this process was given when it was started, but its three streams."""
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the listing's own is closed by now
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def allow_open_files(wanted: int) -> int:
    """Raise the soft limit as far as this process needs it, no further; how many it may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
