"""How long jobs take, and how many to claim ahead of the free slots."""

from __future__ import annotations

SHORTEST_PACE = 1e-5
"""Seconds: less no job takes with what is done around it."""

GATHER_SECONDS, COMPANY = 0.05, 100
"""Reports wait for company no longer than this, only while runners have work, and no longer than so many
need to end: by then what a turn costs beside its jobs is little for each, and who waits does nothing."""

AHEAD_SECONDS, AHEAD_MOST, AHEAD_FIRST = 0.1, 1_000, 16
"""Claim ahead no more than the slots do in this time, and never more than that many. How many of
them pay is found by trying, from a few upwards."""

MOST_COUNTED = 2 * AHEAD_SECONDS
"""Whatever took longer counts as this long: one long job among many short ones says nothing of the next."""

AHEAD_BYTES = 4 << 20
"""And no more than about so much: what is claimed is written, read and passed on."""

LONG_TIMES, LONG_SECONDS = 4, 0.03
"""A job is a long one among others once it has run for so many times what they take, and for this long."""


class Pace:
    """Learned from the jobs that end."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        """A job takes, as a moving average."""

        self.turnover: float | None = None
        """Seconds from one end to the next in a slot that had work: what is done around a job is in it.
        Never what a slot waited for us, or we would claim less for being slow, and be slower for it."""

        self.size = 0.0
        """Bytes of a job, as a moving average."""

        self.stride = AHEAD_FIRST
        """Jobs to claim ahead: doubled when the runners had run dry, halved when some came too late."""

        self._was_late = False
        """Whether something has come too late since the runners last ran dry."""

    def took(self, seconds: float) -> None:
        """A job has ended that ran so long."""
        self.seconds = _average(self.seconds, min(seconds, MOST_COUNTED))

    def followed(self, seconds: float, slots: int) -> None:
        """A job has ended so long after the one before it in its runner, where it had waited for that."""
        self.turnover = _average(self.turnover, min(seconds, MOST_COUNTED) * slots)

    def weighed(self, size: int) -> None:
        """A job has been claimed that is so large."""
        self.size = _average(self.size or None, size)

    def ran_dry(self) -> None:
        """The runners had nothing; once after something came late that says only that it was taken back."""
        if not self._was_late:
            self.stride = min(AHEAD_MOST, self.stride * 2)
        self._was_late = False

    def came_late(self) -> None:
        self.stride = max(AHEAD_FIRST, self.stride // 2)
        self._was_late = True

    @property
    def is_short(self) -> bool:
        """Whether a slot does a job and more in the time that is claimed ahead."""
        return self.seconds is not None and self.seconds <= AHEAD_SECONDS

    @property
    def long_seconds(self) -> float:
        """Whoever has run for so long is not about to make room."""
        return min(AHEAD_SECONDS, max(LONG_SECONDS, LONG_TIMES * (self.seconds or 0.0)))

    def ahead(self, slots: int) -> int:
        """Jobs to claim ahead of so many slots."""
        if not (slots and self.is_short):
            return 0
        # One at least: how jobs follow each other is learned from such alone, and would stay as it was.
        most = min(slots * AHEAD_SECONDS / self._each, AHEAD_BYTES / max(1.0, self.size))
        return min(self.stride, max(1, int(most)))

    def gather(self, waiting: int, slots: int, turn: float) -> float:
        """Seconds that reports may wait for company: until the runners would be idle after a turn.

        `turn` is what one takes, in which some have ended. Twice that is left: the next finds more to write.
        """
        if not self.is_short:
            return 0.0
        apart = self._each / max(1, slots)
        return max(0.0, min(GATHER_SECONDS, COMPANY * apart - turn, waiting * apart - 2 * turn))

    @property
    def _each(self) -> float:
        return max(self.seconds or 0.0, self.turnover or 0.0, SHORTEST_PACE)


def _average(known: float | None, new: float) -> float:
    return new if known is None else 0.8 * known + 0.2 * new
