"""Whether a worker can begin on this database, and what it can do here.

Asked by the ledger: a supervisor that had a connection could not fork.
"""

from __future__ import annotations

import logging
import os

from .. import dialect
from ..exceptions import WorkerRefused
from ..execution import descriptors
from ..models import Worker

logger = logging.getLogger(__name__)

SPARE_FILES = 24
"""Descriptors of a ledger beside its runners': the database, wake-ups, and what it opens for a moment."""


def refuse_other_tables() -> None:
    """Raises WorkerRefused where the tables are not those of this version."""
    with dialect.look():
        missing = dialect.unapplied(Worker._meta.app_label)
    if missing:
        raise WorkerRefused(
            "The database is not ready: its tables are missing, or not those of this version"
            f" (migrations not applied: {', '.join(missing)})",
            hint=dialect.how_to_migrate(),
        )


def warn_of_weaknesses() -> None:
    """Say in the log what the database does not guarantee."""
    with dialect.look():
        found = dialect.weaknesses()
    for weakness in found:
        logger.warning("%s", weakness)


def affordable(task_runners: int) -> int:
    """Of so many task runners those whose sockets may be open beside what a ledger needs."""
    taken = len(os.listdir("/dev/fd"))
    allowed = descriptors.allow_open_files(taken + task_runners + SPARE_FILES)
    found = max(1, min(task_runners, allowed - taken - SPARE_FILES))
    if found < task_runners:
        how = "at most %d tasks at once: the limit of open files leaves no room for more"
        logger.warning(how, found)
    return found
