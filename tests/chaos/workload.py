"""What a run enqueues: drawn from its seed, the same jobs at the same moments each time."""

import random
import sys
from pathlib import Path
from typing import Any, Protocol

from tests.chaos.history import Planned

EFFECT = Path(__file__).with_name("effect.py")

# A hundredth of what an interpreter costs to start; /proc/uptime is CLOCK_BOOTTIME.
QUICK = """
read at rest </proc/uptime
who="$QUEUECTL_JOB_ID $QUEUECTL_ATTEMPT $QUEUECTL_LEASE $CHAOS_WORKER $$ $at"
echo "start $who" >>{log}
echo "end $who" >>{log}
"""

# What share of the jobs is what: mostly short ones that succeed, enough of the rest to be hit.
MIX = {
    "quick": 30,
    "short": 16,
    "plain": 20,
    "long": 10,
    "flaky": 8,
    "doomed": 4,
    "later": 5,
    "prints": 5,
    "hangs": 2,
}


def planned(seed: int, jobs: int, seconds: float, mix: dict[str, int] = MIX) -> tuple[Planned, ...]:
    """That many jobs, spread over that many seconds."""
    rng = random.Random(f"jobs {seed}")
    kinds = rng.choices(list(mix), weights=list(mix.values()), k=jobs)
    moments = sorted(rng.uniform(0, seconds) for _ in kinds)
    return tuple(
        _one(rng, f"{kind}-{n:04}", at, kind)
        for n, (kind, at) in enumerate(zip(kinds, moments, strict=True))
    )


def _one(rng: random.Random, key: str, at: float, kind: str) -> Planned:
    job = Planned(key, round(at, 3), kind, insists=rng.random() < 0.5)
    own: dict[str, Any] = {
        "quick": {},
        "short": {},
        "plain": {"seconds": round(rng.uniform(0.05, 0.4), 3)},
        "long": {"seconds": round(rng.uniform(1, 3), 2)},
        "flaky": {"codes": (*([3] * rng.randint(1, 2)), 0)},
        "doomed": {"codes": (4,), "max_retries": rng.randint(0, 1)},
        "later": {"delay": round(rng.uniform(1, 4), 2)},
        "prints": {"prints": rng.randint(1, 300_000)},
        "hangs": {"seconds": 60, "timeout": 1, "max_retries": 0},
        "poison": {"max_retries": 0},
        "steady": {"seconds": 0.5},
        "blocks": {"seconds": 5},
        "endless": {"seconds": 11},
    }[kind]
    return Planned(**{**vars(job), **own})


class Kind(Protocol):
    """A way to run a planned job: what `enqueue` is given for it."""

    def request(self, job: Planned, log: Path) -> dict[str, Any]: ...


class Commands:
    def request(self, job: Planned, log: Path) -> dict[str, Any]:
        argv = [
            sys.executable, "-IS", str(EFFECT), str(log), str(job.seconds),
            ",".join(map(str, job.codes)), str(job.prints),
        ]  # fmt: skip
        given: dict[str, Any] = {
            "id": job.key,
            "argv": argv,
            "max_retries": job.max_retries,
            "timeout": job.timeout,
            "backoff_base": 1.5,
        }
        if job.kind == "poison":
            given["command"] = f"{' '.join(given.pop('argv'))}; kill -9 $PPID; sleep 60"
        if job.kind == "quick":
            del given["argv"]
            given["command"] = QUICK.format(log=log)
        if job.delay:
            given["delay"] = job.delay
        return given


KINDS: dict[str, Kind] = {"commands": Commands()}
