"""Clocks that are set while workers run. Durations are counted by clocks that nobody sets.

On SQLite the database's clock is that of the one host; a server has a clock of its own.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tests.chaos.faults.kinds import POSTGRESQL, Arena, fault

JUMP = 3 * 3600
"""Seconds: more than any run takes, so that a time tells by which setting it was read."""

ZONE = "Europe/Berlin"


@fault("clock-forward", "F65 F66", holds=4, aims=False, needs=("clocks",))
def clock_forward(arena: Arena, _: str) -> Iterator[str]:
    """The database's clock jumps three hours ahead, and stays there."""
    assert arena.clocks is not None
    ahead = arena.clocks.ahead + JUMP
    arena.clocks.set_database(ahead)
    yield f"{ahead} s ahead"


@fault("clock-back", "F65 F66", "away", holds=4, aims=False, needs=("clocks",))
def clock_back(arena: Arena, _: str) -> Iterator[str]:
    """The database's clock is three hours behind for a while."""
    assert arena.clocks is not None
    before = arena.clocks.ahead
    arena.clocks.set_database(before - JUMP)
    try:
        yield f"{JUMP} s behind"
    finally:
        arena.clocks.set_database(before)


@fault("clock-over-summer-time", "F67", holds=5, aims=False, needs=("clocks",))
def clock_over_summer_time(arena: Arena, _: str) -> Iterator[str]:
    """The hour comes that a site's time zone skips, or has twice."""
    assert arena.clocks is not None
    change = next_change(time.time() + arena.clocks.ahead + JUMP)
    arena.clocks.set_database(int(change - 2 - time.time()))
    yield f"{datetime.fromtimestamp(change, UTC):%Y-%m-%d %H:%M} UTC"


def next_change(after: float) -> float:
    """When the offset of the time zone changes next; changes come at whole hours."""
    zone = ZoneInfo(ZONE)
    moment = datetime.fromtimestamp(after // 3600 * 3600, UTC)
    while True:
        later = moment + timedelta(hours=1)
        if moment.astimezone(zone).utcoffset() != later.astimezone(zone).utcoffset():
            return later.timestamp()
        moment = later


@fault("clock-skew", "F64", on=POSTGRESQL, holds=5, needs=("clocks",))
def clock_skew(arena: Arena, name: str) -> Iterator[str]:
    """The clock of one worker's host is three hours off, one way or the other."""
    assert arena.clocks is not None
    off = arena.rng.choice((-JUMP, JUMP))
    arena.clocks.set(name, off)
    try:
        yield f"{off} s off"
    finally:
        arena.clocks.set(name, 0)
