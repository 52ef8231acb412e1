"""The wish that a worker stops: how often it was said, and by when everything has to be over."""

from __future__ import annotations

import os
import signal
from types import FrameType

from .. import clock, conf

LEAVE_SECONDS = 5.0
"""How long processes may take to leave once they have nothing left to do."""


class Stopping:
    """Hears the signals of the supervisor's process."""

    def __init__(self) -> None:
        self.settings = conf.get()
        self.said = self._passed_on = 0
        self.bell = -1
        """Writing to it wakes the supervisor."""

        self.leave_by: float | None = None

    def watch_signals(self) -> int:
        """From now on; returns what is readable after each signal, a child's death among them."""
        reading, self.bell = os.pipe()
        for fd in (reading, self.bell):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self.bell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._hear)
        return reading

    def _hear(self, number: int, frame: FrameType | None) -> None:
        # Only a flag: a handler runs between any two steps, in the middle of a frame too.
        self.said += 1

    @property
    def is_news(self) -> bool:
        """Whether it was said more often than has been passed on."""
        return self.said != self._passed_on

    def pass_on(self) -> float:
        """The grace that goes with the wish: none if it was said again."""
        self._passed_on = self.said
        grace = self.settings.GRACE_SECONDS if self.said == 1 else 0.0
        self.leave_within(grace)
        return grace

    def leave_within(self, grace: float) -> None:
        limit = clock.monotonic() + grace + self.settings.KILL_SECONDS + LEAVE_SECONDS
        self.leave_by = limit if self.leave_by is None else min(self.leave_by, limit)

    @property
    def is_late(self) -> bool:
        return self.leave_by is not None and clock.monotonic() > self.leave_by
