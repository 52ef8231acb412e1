"""Jobs of users who have been disabled since: they wait, for a while, again and again."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta

from django.contrib.auth import get_user_model
from django.db import DatabaseError, InterfaceError, router, transaction
from django.db.models import Q

from .. import conf, dialect
from ..models import Job
from ..models.job import CLAIM_ORDER, LONGEST_NAME
from ..states import JobState
from .works import Row

logger = logging.getLogger(__name__)

HELD, HELD_FOR = "Held: the user who enqueued it has been disabled.", timedelta(minutes=5)
_BITE = 1_000
"""So many of the first in line of a queue are looked at, and held where they are barred, at once."""


def barred(jobs: Iterable[Row]) -> set[str] | None:
    """Of those who enqueued these jobs the users who are not active; asked anew in every claim.

    A job has a name only: whoever was deleted, or is no user of the site, is not held. None where the
    users cannot be asked for, which is to end neither reports nor the heartbeat.
    """
    if not conf.get().HOLD_JOBS_OF_DISABLED_USERS or not (names := {j.enqueued_by for j in jobs}):
        return set()
    users = get_user_model()
    alias = router.db_for_read(users)
    try:
        with _within(alias):
            # Not the site's own manager, which may leave out those who are not active.
            known = users._base_manager.using(alias).filter(_whose(names, users.USERNAME_FIELD))
            away = {user.get_username()[:LONGEST_NAME] for user in known if not user.is_active}
            return away & names
    except (DatabaseError, InterfaceError) as error:
        logger.warning("nothing is claimed: who is disabled cannot be read: %s", str(error).strip())
        dialect.forget_broken(alias)
        return None


def _within(alias: str) -> AbstractContextManager[None]:
    """A failure of the query leaves the turn as it was. Another database is only read: beginning a
    transaction there may take its write lock, for which the turn would wait.
    """
    return transaction.atomic(using=alias) if alias == conf.get().DATABASE else nullcontext()


def _whose(names: Collection[str], field: str) -> Q:
    """Users of these names, or of longer ones of which a job keeps as much."""
    which = Q(**{f"{field}__in": names})
    for name in names:
        if len(name) == LONGEST_NAME:
            which |= Q(**{f"{field}__startswith": name})
    return which


def hold(queues: Iterable[str], users: Collection[str], now: datetime) -> None:
    """Put the jobs of these users off that are among the first of these queues."""
    for queue in queues:
        line = Job.objects.pending().filter(queue=queue).order_by(*CLAIM_ORDER)
        first = line.values_list("id", "enqueued_by")[:_BITE]
        theirs = Job.objects.pending().filter(id__in=[id for id, name in first if name in users])
        ids = list(theirs.locked().values_list("id", flat=True))
        Job.objects.pending().filter(id__in=ids).update(
            state=JobState.SCHEDULED,
            due_at=now + HELD_FOR,
            updated_at=now,
            last_error=HELD,
        )
