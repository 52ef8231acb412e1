"""What can be done to a run. Each fault is a context: it strikes, lasts, and is over.

It yields its evidence, or nothing where it found no victim: then it did not land.
"""

from tests.chaos.faults import processes, machine, clocks, postgresql, others, sqlite, places, pairs  # noqa: I001
from tests.chaos.faults.kinds import CATALOGUE, Arena, Kind

__all__ = ["CATALOGUE", "ROOMS", "Arena", "Kind"]

ROOMS = (processes, machine, clocks, postgresql, others, sqlite, places, pairs)
"""Each enters its faults in the catalogue, in this order; a pair needs both of its parts there."""
