"""Which job somebody means."""

from __future__ import annotations

from .. import validation
from ..exceptions import AmbiguousId, JobNotFound
from ..models import Job


def find(text: str, *, by_prefix: bool = True) -> Job:
    """The job people call this: the exact id, else the one id that begins with it.

    Raises JobNotFound with the closest ids, AmbiguousId with up to five.
    """
    if text != validation.storable(text):
        raise JobNotFound(text)  # PostgreSQL would not even be asked: it refuses such text
    job = Job.objects.filter(key=text).first()
    if job is not None:
        return job
    matches = list(Job.objects.by_prefix(text)[:6]) if by_prefix and text else []
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise AmbiguousId(text, [match.key for match in matches[:5]])
    near = Job.objects.by_prefix(text[:2]) if text else Job.objects.none()
    # Any of them: PostgreSQL's index is in another order, and a million would be sorted.
    near = near.order_by()[: validation.MOST_NAMES]
    raise JobNotFound(text, validation.closest(text, near.values_list("key", flat=True)))
