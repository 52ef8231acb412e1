"""Taking secrets out of what is stored of a run, in bounded time."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .. import conf, masks
from ..masks import Patterns
from ..outcome import Captured
from .output import Capture

logger = logging.getLogger(__name__)

MARGIN_BYTES = 8_192
"""Beyond where a stream is cut so much more is looked at: a secret no longer than this is seen whole."""

SECONDS, SECONDS_A_BYTE = 0.1, 1e-6
"""Of this process's CPU time, for looking at anything at all and for each byte of it."""

WITHHELD = "not kept: masking it took too long"


class _TooLong(Exception):
    pass


def patterns() -> Patterns:
    """Of this site; usually none."""
    return masks.compiled(conf.get().MASK)


def text(said: str, patterns: Patterns) -> str:
    """An error or a traceback without secrets; none of it if that takes too long."""
    if not patterns or not said:
        return said
    found = _masked(said.encode("utf-8", "surrogatepass"), patterns)
    return WITHHELD if found is None else found.decode("utf-8", "replace")


def stream(capture: Capture, patterns: Patterns) -> Captured:
    """What is kept of a stream without secrets; of one that takes too long only its size."""
    if not patterns or not capture.total:
        return capture.captured()
    parts = [_masked(part, patterns) for part in capture.parts()]
    if None in parts:
        return Captured(total=capture.total)
    return capture.cut([part for part in parts if part is not None])


def _masked(data: bytes, patterns: Patterns) -> bytes | None:
    try:
        with _within(SECONDS + SECONDS_A_BYTE * len(data)):
            return masks.masked(data, patterns)
    except _TooLong:
        logger.error("QUEUECTL['MASK'] takes too long for %d bytes, which are not kept", len(data))
        return None


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raises _TooLong inside once so much CPU time is over: the matcher looks for signals as it goes."""

    inside = True

    def end(number: int, frame: FrameType | None) -> None:
        if inside:
            raise _TooLong

    before = signal.signal(signal.SIGPROF, end)
    timer = signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        inside = False
        signal.setitimer(signal.ITIMER_PROF, *timer)
        signal.signal(signal.SIGPROF, before)
