"""How long a job waits between a failure and its next run."""

from __future__ import annotations

import math
from datetime import timedelta

CAP_SECONDS = 86_400.0
"""No wait is longer than a day."""


def delay(failures: int, *, base: float, cap: float = CAP_SECONDS) -> timedelta:
    """Return min(cap, base ** failures) seconds: 2 s, 4 s, 8 s after failures 1, 2, 3 with base 2.

    Compared as logarithms first, since 2.0 ** 5000 is an OverflowError and not infinity.
    """
    if base > 1 and failures * math.log(base) > math.log(cap):
        return timedelta(seconds=cap)
    return timedelta(seconds=min(cap, base**failures))
