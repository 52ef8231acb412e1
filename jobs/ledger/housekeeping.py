"""Jobs whose time has come become claimable, and those that are kept no longer go."""

from __future__ import annotations

from datetime import datetime, timedelta

from .. import conf
from ..models import Job
from ..states import FINAL, TIMED

PROMOTE_BITE = PRUNE_BITE = 500


def promote(now: datetime, limit: int = PROMOTE_BITE) -> int:
    """Make scheduled and failed jobs whose time has come claimable, a bounded bite; returns how many."""
    promoted = 0
    for state in TIMED:
        ids = list(Job.objects.due(state, now).locked().values_list("id", flat=True)[:limit])
        if ids:
            promoted += Job.objects.promote(ids, state, now)
    return promoted


def prune(policy: conf.Policy, now: datetime, limit: int = PRUNE_BITE) -> int:
    """Delete final jobs that are older, or more, than is kept; a bounded bite, returns how many."""
    doomed: list[int] = []
    for keep in policy.keep:
        if keep.seconds:
            doomed += Job.objects.older(keep.state, now - timedelta(seconds=keep.seconds), limit)
        if keep.number:
            doomed += Job.objects.beyond(keep.state, keep.number, limit)
    # Somebody may have retried one since it was read: what is not final any more stays.
    final = Job.objects.filter(id__in=sorted(set(doomed))[:limit], state__in=FINAL).locked()
    return Job.objects.delete_whole(list(final.values_list("id", flat=True)))
