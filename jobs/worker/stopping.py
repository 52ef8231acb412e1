"""The wish that a worker stops: how often it was said, and by when everything has to be over."""

from __future__ import annotations

import os
import signal
from types import FrameType

from .. import clock, conf

LEAVE_SECONDS = 5.0
"""How long processes may take to leave once they have nothing left to do."""


class Stopping:
    """Hears the signals of the supervisor's process, and remembers the wish however it was said."""

    def __init__(self) -> None:
        self.settings = conf.get()
        self.said = self._passed_on = 0
        self.bell = -1
        """Writing to it wakes the supervisor."""

        self.grace_ends: float | None = None
        """Until when what runs may go on; None while nobody wants us to stop."""

        self.leave_by: float | None = None

    def watch_signals(self) -> int:
        """From now on; returns what is readable after each signal, a child's death among them."""
        reading, self.bell = os.pipe()
        for fd in (reading, self.bell):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self.bell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
            signal.signal(signal.SIGHUP, self._hear)
        return reading

    def _hear(self, number: int, frame: FrameType | None) -> None:
        # Only a flag: a handler runs between any two steps, in the middle of a frame too.
        if number == signal.SIGHUP:
            signal.signal(number, signal.SIG_IGN)  # the shell and the kernel each send one
        self.said += 1

    @property
    def is_news(self) -> bool:
        """Whether it was said more often than has been passed on."""
        return self.said != self._passed_on

    @property
    def is_wanted(self) -> bool:
        return self.said > 0 or self.grace_ends is not None

    def pass_on(self) -> float:
        """What is left of the grace that goes with the wish: nothing if signals have said it again."""
        if self.is_news:
            self._passed_on = said = self.said
            self.leave_within(self.settings.GRACE_SECONDS if said == 1 else 0.0)
        assert self.grace_ends is not None
        return max(0.0, self.grace_ends - clock.monotonic())

    def leave_within(self, grace: float) -> None:
        """Somebody wants us to stop. The earliest end that was ever asked for holds."""
        ends = clock.monotonic() + grace
        self.grace_ends = ends if self.grace_ends is None else min(self.grace_ends, ends)
        self.leave_by = self.grace_ends + self.settings.KILL_SECONDS + LEAVE_SECONDS

    @property
    def is_late(self) -> bool:
        return self.leave_by is not None and clock.monotonic() > self.leave_by
