from __future__ import annotations

from datetime import datetime

from ..models import Event
from ..validation import storable
from .actor import Actor


def record(
    actor: Actor,
    action: str,
    subject: str,
    *,
    now: datetime,
    before: str = "",
    after: str = "",
    note: str = "",
) -> None:
    """Leave the one Event of a change, in the change's own transaction."""
    Event.objects.create(
        at=now,
        actor=actor.name,
        via=actor.via,
        action=action,
        subject=storable(subject)[:160],
        before=before,
        after=after,
        note=storable(note),
    )
