"""Who has said nothing, and for how long."""

from __future__ import annotations

from collections.abc import Hashable

LONGEST_ROUND = 3.0
"""A round of ours that took longer was one in which we stood still ourselves."""

ROUND_SECONDS = 1.0
"""What a round takes at most otherwise, and what one in which we stood still counts for."""


class Silence:
    """How long each of some processes has given no sign of life.

    Only time in which we were awake counts: whatever stopped us, a suspended machine or somebody's
    SIGSTOP, may have stopped them too, and they get their time anew.
    """

    def __init__(self, now: float) -> None:
        self._looked_at = now
        self._seconds: dict[Hashable, float] = {}
        self._signs: dict[Hashable, int] = {}

    def heard(self, who: Hashable) -> None:
        """A sign of life, or the beginning of one."""
        self._seconds[who] = 0.0

    def saw(self, who: Hashable, sign: int) -> None:
        """The last sign it left; it was heard if that is not what it was."""
        if self._signs.setdefault(who, sign) != sign:
            self._signs[who] = sign
            self.heard(who)

    def passes(self, now: float) -> None:
        """Time goes on for all of them."""
        took, self._looked_at = now - self._looked_at, now
        counts = took if took <= LONGEST_ROUND else ROUND_SECONDS
        for who in self._seconds:
            self._seconds[who] += counts

    def of(self, who: Hashable) -> float:
        """Seconds since the last sign; 0 for somebody never heard of."""
        return self._seconds.get(who, 0.0)

    def forget(self) -> None:
        """Other processes come now, and have their time from the beginning."""
        self._seconds.clear()
        self._signs.clear()
