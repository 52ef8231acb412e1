"""What a fault is, what it may touch, and the steps that many of them share."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from tests.acceptance.databases import ROOT
from tests.acceptance.site import Site, age, alive, signal_all, wait_gone
from tests.chaos import fleet, workload
from tests.chaos.fleet import Fleet
from tests.chaos.history import Bounds, Planned, now
from tests.chaos.place import Clocks, Disk
from tests.postgres import Cluster
from tests.support import wait_until


@dataclass
class Arena:
    """All that a fault may touch."""

    site: Site
    fleet: Fleet
    bounds: Bounds
    rng: random.Random
    cluster: Cluster | None = None
    client: subprocess.Popen[bytes] | None = None
    disk: Disk | None = None
    """Where the database is alone on a file system of its own."""

    clocks: Clocks | None = None
    """Where the time of programs can be moved."""

    killed: set[str] = field(default_factory=set)
    """Workers whose commands nobody was left to end."""

    extra: list[Planned] = field(default_factory=list)
    """Jobs that faults have enqueued."""

    struck_at: float = 0.0
    """When a fault has struck that had something to make ready before."""

    @property
    def markers(self) -> Path:
        return self.site.directory / "markers"

    @property
    def effects(self) -> Path:
        return self.site.directory / "effects.log"

    @property
    def calls(self) -> Path:
        return self.site.directory / "client.log"

    @property
    def file(self) -> str:
        return self.site.database_url.removeprefix("sqlite:///")


Strike = Callable[[Arena, str], AbstractContextManager[str]]
BOTH, POSTGRESQL, SQLITE = ("postgresql", "sqlite"), ("postgresql",), ("sqlite",)


@dataclass(frozen=True)
class Kind:
    """A fault of the catalogue."""

    name: str
    number: str
    strike: Strike
    on: tuple[str, ...]
    holds: float
    may: tuple[str, ...]
    may_on_postgresql: tuple[str, ...] = ()
    aims: bool = True
    """Whether it has one worker as its target."""

    brings: bool = False
    """Whether it brings its victim along, and names it first in its evidence."""

    needs: tuple[str, ...] = ()
    """What a machine must allow, by the words of `place.ABLE`."""

    on_request: bool = False
    """Not one of all, but only where it is named, or where what is rare is asked for."""

    takes: float = 1.0
    """About how many seconds it needs beside those it holds."""

    pair: tuple[str, str] = ("", "")
    """Two others at once, of which each has its own entry in a history."""

    @property
    def lasts(self) -> float:
        """About how many seconds it takes."""
        return self.holds + self.takes

    def target(self, aimed_at: str, evidence: str) -> str:
        return evidence.partition(" ")[0] if self.brings else aimed_at if self.aims else ""

    def consequences(self, database: str) -> tuple[str, ...]:
        return self.may + (self.may_on_postgresql if database == "postgresql" else ())


CATALOGUE: dict[str, Kind] = {}


def fault(
    name: str,
    number: str,
    *may: str,
    on: tuple[str, ...] = BOTH,
    holds: float = 0.0,
    on_postgresql: tuple[str, ...] = (),
    aims: bool = True,
    brings: bool = False,
    needs: tuple[str, ...] = (),
    on_request: bool = False,
    takes: float = 1.0,
) -> Callable[[Callable[[Arena, str], Iterator[str]]], Strike]:
    def register(function: Callable[[Arena, str], Iterator[str]]) -> Strike:
        strike = contextmanager(function)
        CATALOGUE[name] = Kind(
            name, number, strike, on, holds, may, on_postgresql, aims, brings, needs, on_request, takes
        )  # fmt: skip
        return strike

    return register


# Steps


def wait_until_busy(arena: Arena, name: str) -> None:
    """Until that worker has a job that will not be over in a moment, or has none to have."""

    def busy() -> bool:
        return any(age(process) > 0.1 for process in fleet.commands(arena.site, name))

    with suppress(AssertionError, psutil.NoSuchProcess):
        wait_until(busy, timeout=3)
    arena.struck_at = now()


def victims(find: fleet.Find) -> list[psutil.Process]:
    """Those that are there, or soon: a worker may have been started a moment ago."""
    with suppress(AssertionError):
        return wait_until(find, timeout=5)
    return []


def one(arena: Arena, find: fleet.Find) -> list[psutil.Process]:
    found = victims(find)
    return [arena.rng.choice(found)] if found else []


def killed(found: list[psutil.Process]) -> str:
    signal_all(found, signal.SIGKILL)
    wait_gone(found, 10)
    return f"killed {[process.pid for process in found]}" if found else ""


def paused(found: list[psutil.Process]) -> Iterator[str]:
    signal_all(found, signal.SIGSTOP)
    stopped = [p for p in found if alive(p)]
    try:
        yield f"stopped {[process.pid for process in stopped]}" if stopped else ""
    finally:
        signal_all(found, signal.SIGCONT)


def stop_in_order(arena: Arena, name: str) -> int:
    """Ask a worker to stop; anything but 0 is a complaint."""
    worker = arena.fleet.forget(name)
    worker.terminate()
    code = worker.wait(arena.bounds.grace + arena.bounds.kill + 20)
    if code != 0:
        arena.fleet.complaints.append(f"{name} was asked to stop and ended with {code}")
    return code


def started_by(arena: Arena, name: str) -> int:
    """How many runs of jobs that worker has begun."""
    if not arena.effects.exists():
        return 0
    lines = arena.effects.read_text().splitlines()
    return sum(line.startswith("start ") and line.split()[4] == name for line in lines)


SHORT = {"quick": 1, "task-quick": 1}
"""Commands and tasks that are over at once."""


def enqueue_more(
    arena: Arena,
    jobs: int,
    processes: int = 1,
    queue: str = "default",
    mix: dict[str, int] = SHORT,
    priority: int | None = None,
    seconds: float = 0.0,
    **env: str,
) -> list[str]:
    """So many jobs more, by a client of their own, within so many seconds; their keys."""
    number = len(arena.extra)
    prefix = f"more{number}-"
    changes = {"queue": queue} | ({} if priority is None else {"priority": priority})
    planned = [
        replace(job, **changes)
        for job in workload.planned(number, jobs, seconds, mix, prefix=prefix)
    ]
    arena.extra += planned
    steps = [workload.step(job, arena.effects) for job in planned]
    _carry_out(arena, f"{prefix}steps", steps, processes, env)
    return [job.key for job in planned]


def cancel(arena: Arena, key: str, **env: str) -> None:
    step = {"op": "cancel", "at": 0.0, "key": key, "insists": False}
    _carry_out(arena, f"cancel-{key}", [step], 1, env)


def _carry_out(
    arena: Arena, name: str, steps: list[dict[str, Any]], processes: int, env: dict[str, str]
) -> None:
    plan = arena.site.directory / f"{name}.json"
    plan.write_text(json.dumps({"began": now(), "steps": steps}))
    subprocess.run(
        [sys.executable, "-m", "tests.chaos.client", plan, arena.calls, str(processes)],
        cwd=ROOT,
        env=arena.site.env | arena.fleet.env("more") | env,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=True,
    )
