"""One run: workers, a client and a nemesis; then heal, drain, collect."""

import json
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from tests.acceptance.databases import ROOT
from tests.acceptance.site import Site
from tests.chaos import client, collect, nemesis, workload
from tests.chaos.faults import CATALOGUE, Arena, clocks
from tests.chaos.fleet import Fleet
from tests.chaos.history import Bounds, History, Planned, now
from tests.chaos.place import There, lacks
from tests.support import wait_until


@dataclass(frozen=True)
class Plan:
    database: str
    seed: int
    seconds: float
    faults: tuple[str, ...]
    rate: float = 6.0
    """Jobs a second."""

    workers: int = 2
    slots: int = 4
    kind: str = "both"
    """Of jobs: commands, tasks or both; for what no mix is given."""

    mutant: str = ""
    drained_within: float = 180.0
    mix: tuple[tuple[str, int], ...] = ()
    env: tuple[tuple[str, str], ...] = ()

    @property
    def needs(self) -> set[str]:
        """What its faults need of the place."""
        return {need for name in self.faults for need in CATALOGUE[name].needs}


def run(plan: Plan, there: There, directory: Path) -> History:
    """The history of a run; its logs stay in the directory."""
    with ExitStack() as stack:
        site = stack.enter_context(_site(there, directory, plan))
        return _Run(plan, site, there, stack).history()


@contextmanager
def _site(there: There, directory: Path, plan: Plan) -> Iterator[Site]:
    site = Site(there.source, directory)
    site.hurry()
    site.env |= {"DJANGO_SETTINGS_MODULE": "tests.chaos.settings", **dict(plan.env)}
    if there.clocks:
        site.env["TIME_ZONE"] = clocks.ZONE
    (directory / "markers").mkdir()
    site.env["CHAOS_MARKERS"] = str(directory / "markers")
    if plan.mutant:
        site.env["CHAOS_MUTANT"] = plan.mutant
    try:
        yield site
    finally:
        site.close()


class _Run:
    def __init__(self, plan: Plan, site: Site, there: There, stack: ExitStack) -> None:
        self.plan, self.site = plan, site
        parts = urlsplit(site.database_url)
        server = (parts.hostname or "", parts.port or 0) if site.is_postgresql else None
        self.fleet = Fleet(site, slots=plan.slots, server=server, clocks=there.clocks)
        stack.callback(self.fleet.close)
        rng = random.Random(f"victims {plan.seed}")
        self.arena = Arena(
            site, self.fleet, Bounds(), rng, there.cluster, None, there.disk, there.clocks
        )
        self.effects, self.calls = self.arena.effects, self.arena.calls
        self.steps = site.directory / "steps.json"
        self.nemesis = nemesis.Nemesis(
            self.arena, site.directory / "nemesis.log", plan.database, plan.workers
        )
        self.strikes = nemesis.schedule(plan.seed, plan.seconds, plan.faults, plan.workers)
        self.seconds = max(plan.seconds, nemesis.length(self.strikes))
        jobs = int(plan.rate * self.seconds)
        self.planned = workload.planned(
            plan.seed, jobs, self.seconds, dict(plan.mix) or workload.MIXES[plan.kind]
        )
        stack.callback(self._end_client)

    def history(self) -> History:
        plan = self.plan
        if self.arena.disk is not None:
            self.arena.disk.flush()
        self._upkeep()
        self.fleet.wait_ready(list(self.fleet.workers))
        base = tuple(collect.usage(self.fleet))
        began = now()
        self._write_steps(began)
        self._start_client()
        self.nemesis.carry_out(self.strikes, began + plan.seconds, self._upkeep)
        self._upkeep()
        self._finish_client(until=began + self.seconds + client.INSISTS_SECONDS)
        healed, open_at_heal = now(), self._open()
        drained = self._drain()
        usage, connections = tuple(collect.usage(self.fleet)), collect.connections(self.fleet)
        self.fleet.revive(plan.workers)
        # A worker that was just started takes signals only once its supervisor watches them.
        self.fleet.wait_ready(list(self.fleet.workers))
        self.fleet.stop()
        return replace(
            self._collected(began, healed, open_at_heal, drained),
            base=base,
            usage=usage,
            connections=connections,
        )

    def _upkeep(self) -> None:
        self.fleet.revive(self.plan.workers)
        if self.arena.client is not None and self.arena.client.poll() not in (None, 0):
            self._start_client()

    # The client

    def _write_steps(self, began: float) -> None:
        steps = [workload.step(job, self.effects) for job in self.planned]
        steps += _persons(self.plan.seed, self.planned, self.seconds)
        steps.sort(key=lambda step: float(str(step["at"])))
        self.steps.write_text(json.dumps({"began": began, "steps": steps}))

    def _start_client(self) -> None:
        with (self.site.directory / "client.stderr").open("ab") as log:
            self.arena.client = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.client", str(self.steps), str(self.calls)],
                cwd=ROOT,
                env=self.site.env | self.fleet.env("client"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _finish_client(self, until: float) -> None:
        assert self.arena.client is not None
        code = self.arena.client.wait(max(10.0, until - now()))
        assert code == 0, (self.site.directory / "client.stderr").read_text()

    def _end_client(self) -> None:
        if self.arena.client is not None:
            self.arena.client.kill()
            self.arena.client.wait()

    # The end

    def _open(self) -> int:
        counts = self.site.counts()
        return sum(counts.values()) - sum(counts[s] for s in ("completed", "dead", "cancelled"))

    def _drain(self) -> float | None:
        try:
            wait_until(lambda: self._open() == 0, timeout=self.plan.drained_within)
        except AssertionError:
            return None
        return now()

    def _collected(
        self, began: float, healed: float, open_at_heal: int, drained: float | None
    ) -> History:
        moved = tuple(self.arena.clocks.steps) if self.arena.clocks else ()
        site, rows = self.site, collect.Rows(self.site, moved)
        return History(
            database=self.plan.database,
            seed=self.plan.seed,
            planned=(*self.planned, *self.arena.extra),
            asked=self.plan.faults,
            calls=client.calls(self.calls),
            effects=collect.effects(self.effects),
            faults=tuple(self.nemesis.faults),
            jobs=rows.jobs(),
            attempts=rows.attempts(),
            workers=rows.workers(),
            events=rows.events(),
            began=began,
            healed=healed,
            open_at_heal=open_at_heal,
            drained=drained,
            residue=tuple(collect.residue(site, self.arena.killed)),
            damage=tuple(collect.damage(site)),
            complaints=(*self.fleet.complaints, *collect.complaints(site)),
            leaks=tuple(collect.leaks(site)),
            clock=moved,
            slots=self.plan.workers * self.plan.slots,
            notes={
                "workers_started": self.fleet.started,
                "mutant": self.plan.mutant,
                "slots": self.plan.slots,
            },
        )


def _persons(seed: int, planned: tuple[Planned, ...], seconds: float) -> list[dict[str, object]]:
    """What a person does meanwhile: cancels some jobs, and retries some that may be dead."""
    rng = random.Random(f"persons {seed}")
    steps: list[dict[str, object]] = []
    for job in planned:
        what = job.kind.removeprefix("task-")
        if what in ("long", "later") and rng.random() < 0.2:
            steps.append({"op": "cancel", "key": job.key, "at": job.at + rng.uniform(0.1, 2)})
        if what == "doomed" and rng.random() < 0.4:
            steps.append({"op": "retry", "key": job.key, "at": job.at + rng.uniform(3, 6)})
    return [{**step, "insists": False} for step in steps if float(str(step["at"])) < seconds + 5]


def faults_of(database: str) -> tuple[str, ...]:
    """Every fault of the catalogue that there is for a database, but those on request."""
    return tuple(k.name for k in CATALOGUE.values() if database in k.on and not k.on_request)


def left_out(names: Iterable[str]) -> dict[str, str]:
    """Those that this machine cannot do, and what it lacks."""
    lacking = {
        name: ", ".join(filter(None, map(lacks, dict.fromkeys(CATALOGUE[name].needs))))
        for name in names
    }
    return {name: words for name, words in lacking.items() if words}
