"""An Event for each refusal of a known person, which outlives whatever the refusal rolls back.

Outside a transaction it is written at once. Inside one it waits until that has committed, until the
request is over, or until any other is written: whatever comes first. It is bounded: a client that
goes on being refused does not fill the table.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from django.core.signals import request_finished
from django.db import DatabaseError, InterfaceError

from .. import clock, dialect
from ..exceptions import NotPermitted
from .actor import Actor
from .events import record

WINDOW = 60.0
"""Seconds in which an equal refusal of the same person is written once."""

MOST = 20
"""Refusals of one person that are written in a window; more are counted."""

MOST_PEOPLE = 1000

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Window:
    began: float
    written: set[tuple[str, ...]] = field(default_factory=set)
    left_out: int = 0


class Book:
    """What this process has written of late, by person."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.windows: OrderedDict[tuple[str, str], _Window] = OrderedDict()

    def enter(self, who: tuple[str, str], what: tuple[str, ...], now: float) -> int | None:
        """None if it need not be written; else how many were left out since the last that was."""
        with self.lock:
            window, left_out = self.windows.get(who), 0
            if window is None or now - window.began >= WINDOW:
                left_out = window.left_out if window else 0
                window = self.windows[who] = _Window(now)
                self.windows.move_to_end(who)
            if what in window.written or len(window.written) >= MOST:
                window.left_out += 1
                return None
            window.written.add(what)
            if len(self.windows) > MOST_PEOPLE:
                self.windows.popitem(last=False)
            return left_out

    def strike(self, who: tuple[str, str], what: tuple[str, ...]) -> None:
        """Take back what was entered and then could not be written."""
        with self.lock:
            if window := self.windows.get(who):
                window.written.discard(what)

    def clear(self) -> None:
        with self.lock:
            self.windows.clear()


@dataclass(frozen=True, slots=True)
class _Refusal:
    actor: Actor
    subject: str
    why: str
    left_out: int

    @property
    def who(self) -> tuple[str, str]:
        return (self.actor.name, self.actor.via)

    @property
    def what(self) -> tuple[str, str]:
        return (self.why, self.subject)

    @property
    def note(self) -> str:
        more = f"; {self.left_out:,} more before were not written down" if self.left_out else ""
        return self.why + more


BOOK = Book()
# Of all threads: one that ends leaves to the others what it did not come to write.
_waiting: deque[_Refusal] = deque()


def note(refusal: NotPermitted, actor: Actor, action: str, subject: str) -> None:
    """Have the Event of a refusal written. Never raises: the refusal itself matters more."""
    if not actor.is_known:
        return
    why = f"{action}: {refusal.hint or refusal}"
    left_out = BOOK.enter((actor.name, actor.via), (why, subject), clock.monotonic())
    if left_out is not None:
        _waiting.append(_Refusal(actor, subject, why, left_out))
    # Also where this one need not be written: its equal may still wait, after a rollback.
    if dialect.in_transaction():
        dialect.on_commit(settle)
    else:
        settle()


def settle(**given: Any) -> None:
    """Write what has waited."""
    refusals = _taken()
    if not refusals:
        return
    try:
        with dialect.atomic():
            now = dialect.now()
            for each in refusals:
                record(each.actor, "refused", each.subject, now=now, note=each.note)
    except (DatabaseError, InterfaceError) as error:
        for each in refusals:
            BOOK.strike(each.who, each.what)
        logger.warning("The refusal of %s could not be written: %s", refusals[0].actor.name, error)


def _taken() -> list[_Refusal]:
    taken = []
    with suppress(IndexError):  # at the end, or where another thread was faster
        while True:
            taken.append(_waiting.popleft())
    return taken


def forget() -> None:
    """As in a new process: nothing has been written, and nothing waits."""
    BOOK.clear()
    _waiting.clear()


request_finished.connect(settle, dispatch_uid="queuectl.refusals")
