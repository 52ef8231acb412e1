"""What a command finds in its environment: built up from an allow-list, never inherited."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from ..work import Work
from .processes import MARK


def allowed(
    environment: Mapping[str, str], patterns: Sequence[str], exclude: Sequence[str]
) -> dict[str, str]:
    """The worker's variables that every command may see."""
    return {
        name: value
        for name, value in environment.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
        and not any(fnmatchcase(name, pattern) for pattern in exclude)
    }


def of(work: Work, base: Mapping[str, str]) -> dict[str, str]:
    """The environment of one attempt: the worker's allowed variables, the job's own, and its identity.

    QUEUECTL_JOB_ID and QUEUECTL_ATTEMPT together are an idempotency key for the job's effects.
    """
    return {
        **base,
        **work.env,
        "QUEUECTL_JOB_ID": work.key,
        "QUEUECTL_ATTEMPT": str(work.number),
        MARK: work.lease,
    }


def program(name: str, search: str) -> str:
    """Where a program is, by a PATH. Raises FileNotFoundError.

    A name with a slash is left to the system, whose reason is more exact than ours.
    """
    if "/" in name:
        return name
    found = shutil.which(name, path=search)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such program in PATH", name)
    return found
