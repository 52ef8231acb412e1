"""What the adoption and killing of leftovers costs: python -m benchmarks.adoption

The same drain with it and without, in turn: of commands that leave nothing behind, where it should
cost nothing, and of commands that each leave a process in a session of its own. About a minute.
"""

from __future__ import annotations

import statistics
import sys
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory

from .databases import Sqlite
from .environments import QUEUECTL, Peer
from .measuring import alternate
from .scenarios.drains import drain
from .stage import Stage

KINDS = {
    "leave nothing": ("true", 5000),
    "leave one process each": ("setsid sleep 2 >/dev/null 2>&1 & true", 1500),
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
    parser.add_argument("--pairs", type=int, default=4, help="runs of each side (default: 4)")
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
            print(
                f"commands that {kind}: {with_it:,.0f}/s, without adoption {without:,.0f}/s;"
                f" it costs {statistics.median(costs):.1%} (pairs {min(costs):.1%} to {max(costs):.1%})"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
