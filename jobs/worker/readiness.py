"""Whether a worker can begin on this database.

Asked by the ledger: a supervisor that had a connection could not fork.
"""

from __future__ import annotations

import logging

from .. import dialect
from ..exceptions import WorkerRefused
from ..models import Worker

logger = logging.getLogger(__name__)


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
