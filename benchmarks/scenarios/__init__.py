"""The table of scenarios: each yields measurements, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..measuring import Measurement
from ..stage import Stage
from . import drains, enqueueing, fairness, latency, presence


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    explanation: str
    play: Callable[[Stage], Iterator[Measurement]]
    with_peers: bool = False
    """Only with peers, so only in `make bench-peers`."""


SCENARIOS = (
    Scenario(
        "commands",
        "Shell commands, drained",
        "`sh -c true` from a full queue, two at once. The clock runs from the first start to the last"
        " recorded completion; for programs without a queue, over their whole run.",
        drains.commands,
    ),
    Scenario(
        "tasks",
        "Django tasks that do nothing, drained",
        "A full queue, two workers of one slot against one worker of two. Completions durably recorded"
        " count, not starts; every job must have run exactly once.",
        drains.tasks,
    ),
    Scenario(
        "task-peers",
        "Django tasks against other queues, drained",
        "Two slots, in turn with each peer in the shape its documentation recommends: on SQLite those of one"
        " worker, on PostgreSQL those of two with one each, as every peer there has two processes."
        " graphile-worker runs its jobs in Node.js and keeps no record of a job that is done: there it"
        " counts that its row is gone.",
        drains.task_peers,
        with_peers=True,
    ),
    Scenario(
        "crowd",
        "Drained beside a crowd",
        "The same drain with a million other rows in the table, against the same without them.",
        drains.crowd,
    ),
    Scenario(
        "enqueue",
        "Enqueueing",
        "Against the bare ORM writing the same rows into the same table.",
        enqueueing.enqueue,
    ),
    Scenario(
        "latency",
        "Pick-up by an idle worker",
        "From the return of the enqueue's commit in one process to the start of the job in another.",
        latency.idle_worker,
    ),
    Scenario(
        "latency-peers",
        "Pick-up by an idle worker, against other queues",
        "As above, in turn with each peer.",
        latency.peers,
        with_peers=True,
    ),
    Scenario(
        "thousand",
        "A thousand commands at once",
        "`sleep` in a worker with as many slots: from the claim of the first to the start of the"
        " last, and the memory of the worker's own processes while all run.",
        fairness.thousand,
    ),
    Scenario(
        "mixed",
        "Short jobs among long ones",
        "Two workers of two slots. The longest time in which a job was ready and a slot of any worker"
        " was free, and yet the job did not start.",
        fairness.mixed,
    ),
    Scenario(
        "idle", "Doing nothing", "CPU and memory of a worker that has nothing to do.", presence.idle
    ),
    Scenario(
        "start",
        "Start of the command line",
        "`queuectl enqueue` as a process, against a Python that only sets the same site up.",
        presence.start,
    ),
)
