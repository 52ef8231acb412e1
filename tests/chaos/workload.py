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

# Leaves a process of another session and without environment behind, and ends.
LEAVES = """
setsid env -i sleep 20 </dev/null >/dev/null 2>&1 &
"""

# What share of the jobs is what: mostly short ones that succeed, enough of the rest to be hit.
COMMANDS = {
    "quick": 30,
    "short": 16,
    "plain": 20,
    "long": 10,
    "flaky": 8,
    "doomed": 4,
    "later": 5,
    "prints": 5,
    "hangs": 2,
    "leaves": 2,
    "unique": 3,
}
TASKS = {
    "task-quick": 30,
    "task-plain": 20,
    "task-long": 12,
    "task-returns": 10,
    "task-flaky": 8,
    "task-doomed": 4,
    "task-exits": 4,
    "task-dies": 3,
    "task-later": 5,
    "task-hangs": 2,
    "task-forks": 2,
}
MIXES = {"commands": COMMANDS, "tasks": TASKS, "both": COMMANDS | TASKS}
MIX = MIXES["both"]
"""Jobs by what they are; one of another kind is entered in `KINDS`, `_own` and here."""


def planned(
    seed: int, jobs: int, seconds: float, mix: dict[str, int] = MIX, *, prefix: str = ""
) -> tuple[Planned, ...]:
    """That many jobs, spread over that many seconds."""
    rng = random.Random(f"jobs {seed}")
    kinds = rng.choices(list(mix), weights=list(mix.values()), k=jobs)
    moments = sorted(rng.uniform(0, seconds) for _ in kinds)
    return tuple(
        _one(rng, f"{prefix}{kind}-{n:04}", at, kind)
        for n, (kind, at) in enumerate(zip(kinds, moments, strict=True))
    )


def _one(rng: random.Random, key: str, at: float, kind: str) -> Planned:
    is_task, what = kind.startswith("task-"), kind.removeprefix("task-")
    # A task that was enqueued without an answer cannot be enqueued again with the same id.
    insists = rng.random() < 0.5 and not is_task
    priority = rng.choice((5, 5, 5, 2, 8))
    job = Planned(key, round(at, 3), kind, insists=insists, task=is_task, priority=priority)
    return Planned(**{**vars(job), **_own(rng, what, is_task)})


def _own(rng: random.Random, what: str, is_task: bool) -> dict[str, Any]:
    """What a job of a kind has of its own."""
    fails = {"how": "raises"} if is_task else {}
    own: dict[str, dict[str, Any]] = {
        "quick": {},
        "short": {},
        "plain": {"seconds": round(rng.uniform(0.05, 0.4), 3)},
        "long": {"seconds": round(rng.uniform(1, 3), 2)},
        "flaky": {"codes": (*([3] * rng.randint(1, 2)), 0), **fails},
        "doomed": {"codes": (4,), "max_retries": rng.randint(0, 1), **fails},
        "exits": {"codes": (rng.randint(5, 9), 0), "how": "exits"},
        "dies": {"codes": (9, 0), "how": "dies"},
        "returns": {"returns": {"n": rng.randint(0, 10**9), "list": [1, None, "\u00e4"]}},
        "later": {"delay": round(rng.uniform(1, 4), 2)},
        "prints": {"prints": rng.randint(1, 300_000)},
        "hangs": {"seconds": 60, "timeout": 1, "max_retries": 0},
        "leaves": {},
        "forks": {"seconds": round(rng.uniform(0.05, 0.4), 3), "how": "forks"},
        "unique": {"seconds": round(rng.uniform(1, 2), 2), "unique": f"key {rng.randint(1, 2)}"},
        "steady": {"seconds": 0.5},
        "blocks": {"seconds": 5},
        "endless": {"seconds": 11},
    }
    return own[what]


class Kind(Protocol):
    """A way to run a planned job: what the client is given to enqueue it."""

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
            "priority": job.priority,
            "queue": job.queue,
        }
        if job.unique:
            given["unique_key"] = job.unique
        if job.kind in ("quick", "leaves"):
            del given["argv"]
            given["command"] = QUICK.format(log=log) + (LEAVES if job.kind == "leaves" else "")
        if job.delay:
            given["delay"] = job.delay
        return given


class Tasks:
    """By the backend, as a site does it."""

    def request(self, job: Planned, log: Path) -> dict[str, Any]:
        return {
            "task": "tests.chaos.tasks.effect",
            "id": job.key,
            "args": [str(log), job.seconds, job.codes, job.how, job.returns],
            "options": {"max_retries": job.max_retries, "timeout": job.timeout, "backoff": 1.5},
            "priority": job.priority - 5,
            "queue": job.queue,
            "delay": job.delay,
        }


KINDS: dict[bool, Kind] = {False: Commands(), True: Tasks()}
"""Whether it is a task; how it is enqueued."""


def step(job: Planned, log: Path) -> dict[str, Any]:
    """What the client does about a job."""
    request = KINDS[job.task].request(job, log)
    op = {"op": "enqueue", "at": job.at, "key": job.key, "insists": job.insists}
    return {**op, "request": request}
