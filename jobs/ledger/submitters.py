"""Jobs of users who have been disabled since: they wait, for a while, again and again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from django.contrib.auth import get_user_model

from .. import conf
from ..models import Job
from ..models.job import CLAIM_ORDER
from ..states import JobState
from .works import Row

HELD_FOR = timedelta(minutes=5)
_BITE = 1_000


def barred(jobs: Iterable[Row]) -> set[str]:
    """Of those who enqueued these jobs the users who are not active; asked anew in every claim.

    A job has a name only: whoever was deleted, or is no user of the site, is not held.
    """
    if not conf.get().HOLD_JOBS_OF_DISABLED_USERS or not (names := {j.enqueued_by for j in jobs}):
        return set()
    users = get_user_model()
    # Not the site's own manager, which may leave out those who are not active.
    found = users._base_manager.filter(**{f"{users.USERNAME_FIELD}__in": names})
    return {user.get_username() for user in found if not user.is_active} & names


def hold(queues: Sequence[str], users: Collection[str], now: datetime) -> None:
    """Put the first jobs of these users off, a bounded bite of each queue."""
    for queue in queues if users else ():
        jobs = Job.objects.pending().filter(queue=queue, enqueued_by__in=users)
        ids = jobs.order_by(*CLAIM_ORDER).locked().values_list("id", flat=True)[:_BITE]
        Job.objects.pending().filter(id__in=list(ids)).update(
            state=JobState.SCHEDULED,
            due_at=now + HELD_FOR,
            updated_at=now,
            last_error="Held: the user who enqueued it has been disabled.",
        )
