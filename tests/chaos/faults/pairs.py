"""Two faults at once, where each alone is survived: of a worker's death, its standstill, a
database that is away or says nothing, and a clock that jumps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations

from tests.chaos.faults.kinds import BOTH, CATALOGUE, Arena, Kind

AMONG = ("kill-worker", "pause-long", "restart-server", "silence", "long-writer", "clock-forward")


@contextmanager
def _by_nemesis(arena: Arena, name: str) -> Iterator[str]:
    raise NotImplementedError("a pair is struck as two")
    yield ""


for _first, _second in combinations(AMONG, 2):
    _a, _b = CATALOGUE[_first], CATALOGUE[_second]
    if _on := tuple(database for database in BOTH if database in _a.on and database in _b.on):
        _name = f"{_first}+{_second}"
        CATALOGUE[_name] = Kind(
            _name, "F80", _by_nemesis, _on, max(_a.holds, _b.holds) + 1.0, (),
            needs=(*_a.needs, *_b.needs), pair=(_first, _second),
        )  # fmt: skip
