"""How long a job waits between a failure and its next run."""

from __future__ import annotations

import math
import zlib
from datetime import timedelta

CAP_SECONDS = 86_400.0
"""No wait is longer than a day."""


def delay(
    failures: int, *, base: float, cap: float = CAP_SECONDS, jitter: float = 0.0
) -> timedelta:
    """Return min(cap, base ** failures) seconds: 2 s, 4 s, 8 s after failures 1, 2, 3 with base 2.

    `jitter`: that part of it more, up to the cap. Compared as logarithms first, since 2.0 ** 5000 is
    an OverflowError and not infinity.
    """
    if base > 1 and failures * math.log(base) > math.log(cap):
        return timedelta(seconds=cap)
    return timedelta(seconds=min(cap, base**failures * (1 + jitter)))


def drawn(lot: str) -> float:
    """A number from 0 up to 1 by the chance that is in the text; of the same text the same."""
    return zlib.crc32(lot.encode()) / 2**32
