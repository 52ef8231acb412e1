"""Measure QueueCTL: python -m benchmarks [--peers] [--only NAME …]. See README.md."""

from __future__ import annotations

import signal
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from . import databases, environments, machine
from .databases import Database, Sqlite
from .environments import HERE, PEERS, QUEUECTL, ROOT, Peer
from .processes import Failed
from .report import Results
from .scenarios import SCENARIOS, Scenario
from .stage import Skip, Stage

Started = TypeVar("Started")

QUICK = HERE / ".work" / "quick"
"""Where results of --quick go, so that they are never taken for real ones."""


def options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks", description="Measure QueueCTL.")
    parser.add_argument("--peers", action="store_true", help="other queues too, installed first")
    parser.add_argument("--pairs", type=int, help="runs of each side (default: 5)")
    parser.add_argument("--size", type=int, help="jobs of every drain (default: by --seconds)")
    parser.add_argument("--seconds", type=float, default=8.0, help="work of every drain, about (8)")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these scenarios, peers or databases"
    )
    parser.add_argument("--quick", action="store_true", help="tiny, to see that the harness works")
    parser.add_argument("--to", type=Path, metavar="DIR", help="where results go (default: here)")
    parser.add_argument("--list", action="store_true", help="name the scenarios and peers")
    chosen = parser.parse_args()
    unknown = set(chosen.only or ()) - _names()
    if unknown:
        parser.error(f"no such scenario, peer or database: {', '.join(sorted(unknown))}")
    chosen.pairs = chosen.pairs or (2 if chosen.quick else 5)
    return chosen


def _names() -> set[str]:
    return {s.name for s in SCENARIOS} | {p.name for p in PEERS} | set(environments.BOTH)


def main() -> int:
    chosen = options()
    if chosen.list:
        print("scenarios:", *(scenario.name for scenario in SCENARIOS))
        print("peers:", *(peer.name for peer in PEERS))
        print("databases:", *environments.BOTH)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are ended too
    results = Results(chosen.to or (QUICK if chosen.quick else HERE))
    with stage(chosen) as (built, skipped):
        results.describe(machine.describe(built.directory))
        for scenario in _chosen_scenarios(chosen):
            play(scenario, built, skipped, results)
    print(f"\nWritten: {results.directory / 'RESULTS.md'}")
    return 0


def _chosen_scenarios(chosen: Namespace) -> list[Scenario]:
    able = [s for s in SCENARIOS if chosen.peers or not s.with_peers]
    named = [s for s in able if s.name in (chosen.only or ())]
    return named or able


def _wants(chosen: Namespace, name: str, among: set[str]) -> bool:
    """Whether a peer or database was asked for; none of its kind named means all."""
    named = among & set(chosen.only or ())
    return not named or name in named


@contextmanager
def stage(chosen: Namespace) -> Iterator[tuple[Stage, list[tuple[str, str]]]]:
    """Everything that is needed, started, installed and later removed."""
    skipped: list[tuple[str, str]] = []

    def skip(what: str, why: str) -> None:
        print(f"  not measured: {what}: {why}", flush=True)
        skipped.append((what, why))

    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="queuectl-bench-")))
        python, peers = environments.here(), {}
        if chosen.peers:
            python = _scratch_or_here(skip)
            peers = dict(_installed_peers(chosen, skip))
        redis = None
        if any("redis" in peer.databases for peer, _ in peers.values()):
            redis = _start(stack, partial(databases.redis, directory), "Redis", skip)
        built = Stage(
            directory=directory,
            pairs=chosen.pairs,
            size=chosen.size,
            seconds=chosen.seconds,
            quick=chosen.quick,
            python=python,
            databases=_databases(chosen, stack, directory, skip),
            redis=redis,
            peers=peers,
            skip=skip,
        )
        yield built, skipped


def _scratch_or_here(skip: Skip) -> Path:
    try:
        print("Preparing an environment for QueueCTL", flush=True)
        return environments.scratch(QUEUECTL)
    except Failed as failure:
        skip("QueueCTL with the peers' Python", str(failure))
        return environments.here()


def _installed_peers(chosen: Namespace, skip: Skip) -> Iterator[tuple[str, tuple[Peer, Path]]]:
    for peer in PEERS:
        if _wants(chosen, peer.name, {peer.name for peer in PEERS}):
            print(f"Preparing an environment for {peer.title}", flush=True)
            try:
                yield peer.name, (peer, environments.scratch(peer))
            except Failed as failure:
                skip(peer.title, f"cannot be installed: {failure}")


def _databases(
    chosen: Namespace,
    stack: ExitStack,
    directory: Path,
    skip: Skip,
) -> dict[str, Database]:
    found: dict[str, Database] = {}
    if _wants(chosen, "sqlite", set(environments.BOTH)):
        found["sqlite"] = Sqlite(directory)
    if _wants(chosen, "postgres", set(environments.BOTH)):
        server = _start(stack, databases.postgres, "PostgreSQL", skip)
        if server is not None:
            found["postgres"] = server
    return found


def _start(
    stack: ExitStack, server: Callable[[], AbstractContextManager[Started]], name: str, skip: Skip
) -> Started | None:
    try:
        return stack.enter_context(server())
    except Failed as failure:
        skip(name, str(failure))
        return None


def play(
    scenario: Scenario, built: Stage, skipped: list[tuple[str, str]], results: Results
) -> None:
    """Measure one scenario, show each figure as it comes, keep what there is."""
    print(f"\n{scenario.title}", flush=True)
    found, before, began, load = [], len(skipped), time.monotonic(), machine.load()
    try:
        for measurement in scenario.play(built):
            found.append(measurement)
            ratios = " ".join(f"{ratio:.2f}" for ratio in measurement.ratios)
            rival = f"  against {measurement.rival.label}: {ratios}" if measurement.rival else ""
            figure = f"{measurement.ours.median:,.4g} {measurement.unit}"
            print(f"  {measurement.what}: {figure}{rival}", flush=True)
    except Failed as failure:
        built.skip("the rest of this", str(failure))
    results.keep(scenario, found, skipped[before:], circumstances(built, began, load))


def circumstances(built: Stage, began: float, load: float) -> dict[str, str]:
    """When, how and with what versions a scenario was measured."""
    names = ["Django", "psycopg", "django-tasks"]
    versions = environments.versions(built.python, *names)
    return {
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC in {time.monotonic() - began:.0f} s",
        "commit": machine.commit(ROOT),
        "options": f"--pairs {built.pairs} --seconds {built.seconds:g}",
        "load before": f"{load:.2f} (should be near 0)",
        **versions,
        **machine.tools(),
        **{f"on {base.name}:": base.settings for base in built.databases.values()},
    }


if __name__ == "__main__":
    sys.exit(main())
