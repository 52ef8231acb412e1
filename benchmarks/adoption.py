"""What the adoption and killing of leftovers costs: python -m benchmarks.adoption

The same drain with it and without, in turn: of commands that leave nothing behind, where it should
cost nothing, and of commands that each leave a process in a session of its own. About three minutes.
"""

from __future__ import annotations

import math
import statistics
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .databases import Sqlite
from .environments import QUEUECTL, Peer
from .measuring import alternate
from .scenarios.drains import drain
from .stage import Stage

KINDS = {
    "leave nothing": ("true", 12_000),
    "leave one process each": ("setsid sleep 2 >/dev/null 2>&1 & true", 1_500),
}


class Site(Stage):
    command = "true"
    watched = True

    def environment(self, url: str, peer: Peer = QUEUECTL) -> dict[str, str]:
        given = super().environment(url, peer) | {"BENCH_COMMAND": self.command}
        return given if self.watched else given | {"DJANGO_SETTINGS_MODULE": "benchmarks.unwatched"}


def new_site(place: Path, pairs: int, database: Sqlite) -> Site:
    return Site(
        directory=place, pairs=pairs, size=None, seconds=0, quick=False, python=Path(sys.executable),
        databases={"sqlite": database}, redis=None, peers={}, skip=print,
    )  # fmt: skip


def main() -> int:
    parser = ArgumentParser(prog="python -m benchmarks.adoption")
    parser.add_argument("--pairs", type=int, default=6, help="runs of each side (default: 6)")
    pairs = parser.parse_args().pairs
    with TemporaryDirectory(prefix="queuectl-adoption-") as name:
        place = Path(name)
        database = Sqlite(place)
        site = new_site(place, pairs, database)

        def rate(size: int, watched: bool) -> dict[str, float]:
            site.watched = watched
            return drain(site, "commands", database, size)

        for kind, (command, size) in KINDS.items():
            site.command = command
            taken = alternate(lambda n=size: rate(n, True), lambda n=size: rate(n, False), pairs)  # type: ignore[misc]
            with_it, without = (statistics.median(f["rate"] for f in side) for side in taken)
            costs = [b["rate"] / a["rate"] - 1 for a, b in zip(*taken, strict=True)]
            low, high = interval(costs)
            print(
                f"commands that {kind}: {with_it:,.0f}/s, without adoption {without:,.0f}/s;"
                f" it costs {statistics.median(costs):.1%}, {low:.1%} to {high:.1%} with 95 % confidence"
                f" (pairs {min(costs):.1%} to {max(costs):.1%})"
            )
    return 0


def interval(costs: Sequence[float]) -> tuple[float, float]:
    """Where the median of all such pairs lies with 95 % confidence, however they are distributed.

    Between the k-th from either end, where fewer than k of n would be on one side of it once in 40
    times. With less than six pairs there is no such k, and nothing is said.
    """
    n, below, k = len(costs), 0.0, 0
    while k < n and (below := below + math.comb(n, k) / 2**n) <= 0.025:
        k += 1
    ordered = sorted(costs)
    return (ordered[k - 1], ordered[-k]) if k else (-math.inf, math.inf)


if __name__ == "__main__":
    sys.exit(main())
