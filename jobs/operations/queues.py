from __future__ import annotations

from datetime import datetime

from .. import dialect
from ..exceptions import InvalidField, QueueCTLError
from ..models import Queue
from ..validation import showable, storable
from .actor import Actor
from .events import record
from .policy import must


def pause(name: str, actor: Actor, *, reason: str = "", until: datetime | None = None) -> Queue:
    """Let no job of a queue be claimed until resumed, or until a time. What runs goes on.

    Raises QueueCTLError for an unknown queue, InvalidField for a time that is past, or
    that some zone cannot show.
    """
    must(actor, "operate_queue", "pause", f"queue {name}")
    with dialect.atomic():
        now, queue = dialect.now(), _locked(name)
        if until is not None:
            _must_be_to_come(until, now)
        queue.paused_at, queue.paused_by = now, actor.name
        queue.paused_reason, queue.paused_until = storable(reason), until
        queue.save(update_fields=_PAUSE)
        said = queue.paused_reason
        record(actor, "pause", f"queue {name}", now=now, before="active", after="paused", note=said)
    return queue


def _must_be_to_come(until: datetime, now: datetime) -> None:
    if until <= now:
        raise InvalidField("until", "Invalid until: it is past", hint="until takes a time to come")
    try:
        showable(until)
    except OverflowError:
        hint = "until takes a time that every zone can show, not the last day of all"
        raise InvalidField("until", f"Invalid until: {until}", hint=hint) from None


def resume(name: str, actor: Actor) -> Queue:
    """Let the jobs of a queue be claimed again. Raises QueueCTLError unless it is paused."""
    must(actor, "operate_queue", "resume", f"queue {name}")
    with dialect.atomic():
        now, queue = dialect.now(), _locked(name)
        if not (queue.is_paused(now) or {*queue.unreadable} & {*_PAUSE}):
            raise QueueCTLError(f"Queue '{name}' is not paused")
        queue.paused_at, queue.paused_by = None, ""
        queue.paused_reason, queue.paused_until = "", None
        queue.save(update_fields=_PAUSE)
        record(actor, "resume", f"queue {name}", now=now, before="paused", after="active")
        dialect.notify()
    return queue


_PAUSE = ("paused_at", "paused_by", "paused_reason", "paused_until")


def _locked(name: str) -> Queue:
    queue = Queue.objects.select_for_update().filter(name=storable(name)).first()
    if queue is None:
        known = ", ".join(Queue.objects.names(10))
        raise QueueCTLError(
            f"Queue '{name}' not found",
            hint=f"known queues: {known}" if known else "no queue has been used yet",
        )
    return queue
