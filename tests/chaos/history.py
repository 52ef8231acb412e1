"""What a run leaves, as values: all that the checker reads, kept as one JSON file.

Times are seconds of CLOCK_BOOTTIME, which neither NTP nor a changed clock moves; the times of
rows were converted when they were collected.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Bounds:
    """The settings of the run that promises are counted in."""

    lease: float = 5.0
    heartbeat: float = 1.0
    margin: float = 1.0
    rescue: float = 1.0
    kill: float = 1.0
    grace: float = 3.0
    max_lost: int = 3
    max_interrupts: int = 10
    poll: float = 1.0

    @property
    def rescued_within(self) -> float:
        return self.lease + self.rescue + 5


@dataclass(frozen=True)
class Planned:
    """One job of the workload, and what its runs do."""

    key: str
    at: float
    """Seconds after the start of the run."""

    kind: str = "plain"
    seconds: float = 0.0
    codes: tuple[int, ...] = (0,)
    """Exit codes of its attempts; the last one goes for all that follow."""

    max_retries: int = 3
    delay: float = 0.0
    timeout: float = 60.0
    prints: int = 0
    """Bytes of its output."""

    insists: bool = False
    """Whether its client asks again after an answer that it could not understand."""

    task: bool = False
    """Whether it is a Django task, and not a command."""

    how: str = ""
    """How a task whose code is not 0 fails: it raises, or its process exits or dies by SIGKILL."""

    returns: Any = None
    """What a task gives back."""

    priority: int = 5
    queue: str = "default"
    unique: str = ""
    """The unique key it asks for."""

    def code(self, attempt: int) -> int:
        return self.codes[min(attempt, len(self.codes)) - 1]


@dataclass(frozen=True)
class Call:
    """A call of the client and what it heard: ok, fail, or info where nobody can know."""

    op: str
    key: str
    began: float
    answer: str
    said: str = ""


@dataclass(frozen=True)
class Effect:
    """A line that a run of a job left: start, end, or overlap with an earlier run that lived."""

    what: str
    key: str
    attempt: int
    lease: str
    worker: str
    pid: int
    at: float


@dataclass(frozen=True)
class Fault:
    """What the nemesis did, whether it landed, and which consequences it may have.

    loses, interrupts: attempts of its target (of all, without one). overlaps: two runs at once.
    fails: a run by a signal. away: the database, so that no bound of time holds meanwhile.
    stands: its target cannot act, so that no bound of time holds for it meanwhile.
    others-flow: nothing; whoever is not its target goes on.
    """

    name: str
    number: str
    target: str
    began: float
    ended: float
    landed: bool
    may: tuple[str, ...] = ()
    evidence: str = ""

    def reaches(self, worker: str) -> bool:
        return self.landed and self.target in ("", worker)


@dataclass(frozen=True)
class Job:
    key: str
    state: str
    attempts: int
    max_retries: int
    runs: int
    losses: int
    interruptions: int
    has_lease: bool
    due_at: float
    created_at: float
    backoff_base: float
    last_error: str = ""
    id: int = 0
    priority: int = 5
    finished_at: float | None = None
    unique: str = ""
    result: Any = None


@dataclass(frozen=True)
class Attempt:
    key: str
    number: int
    outcome: str
    exit_code: int | None
    signal: int | None
    started_at: float | None
    finished_at: float
    worker: str
    worker_id: int | None = None
    output: str = ""
    """sha256 of what is kept of stdout."""

    stdout_bytes: int = 0
    error: str = ""


@dataclass(frozen=True)
class Worker:
    id: int
    name: str
    heartbeat_at: float
    stopped_at: float | None
    end: str = ""


@dataclass(frozen=True)
class Event:
    action: str
    key: str
    before: str
    after: str
    at: float


@dataclass(frozen=True)
class Usage:
    """What a process of a worker holds."""

    worker: str
    part: str
    """supervisor, ledger, runner or tasks."""

    fds: int
    rss: int
    """MB."""

    task_runners: int = 0
    """Of its worker: its ledger and its supervisor have something of each."""


@dataclass(frozen=True)
class Step:
    """From then on the database's clock was that many seconds ahead."""

    at: float
    ahead: float


@dataclass(frozen=True)
class History:
    database: str
    seed: int
    bounds: Bounds = Bounds()
    planned: tuple[Planned, ...] = ()
    asked: tuple[str, ...] = ()
    """Names of the faults that were asked for."""

    calls: tuple[Call, ...] = ()
    effects: tuple[Effect, ...] = ()
    faults: tuple[Fault, ...] = ()
    jobs: tuple[Job, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    workers: tuple[Worker, ...] = ()
    events: tuple[Event, ...] = ()
    began: float = 0.0
    healed: float = 0.0
    drained: float | None = 0.0
    """When nothing was left to do; None if that never came."""

    open_at_heal: int = 0
    """Jobs that were not final when the last fault was over."""

    residue: tuple[str, ...] = ()
    """Processes, locks and connections that were left after the last worker had stopped."""

    damage: tuple[str, ...] = ()
    """What the database's own checks found."""

    complaints: tuple[str, ...] = ()
    """Tracebacks in the logs of workers, and workers that ended by themselves."""

    leaks: tuple[str, ...] = ()
    """Where a secret of the run was found."""

    clock: tuple[Step, ...] = ()
    slots: int = 0
    """Of all workers together; 0: unknown."""

    base: tuple[Usage, ...] = ()
    """When the first workers were ready, and had nothing to do yet."""

    usage: tuple[Usage, ...] = ()
    """When the queue was empty again."""

    connections: tuple[int, int] = (0, 0)
    """How many to a server were open then, and how many might be."""

    notes: dict[str, Any] = field(default_factory=dict)

    def ahead(self, at: float) -> float:
        """How far ahead the database's clock was at that moment."""
        return ahead(self.clock, at)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> "History":
        return _revived(cls, json.loads(path.read_text()))


def ahead(clock: Sequence[Step], at: float) -> float:
    return next((step.ahead for step in reversed(clock) if step.at <= at), 0.0)


READ_LATE = 300.0
"""Seconds: what ended while the database was away is dated by a clock that may have been set since."""


def unmoved(clock: Sequence[Step], told: float) -> float:
    """A time that the database's clock told, as one that nobody has moved.

    Steps are longer than any run, and the first comes within half of one, so that only one of the clock's
    settings can have told it.
    """
    began = [step.at - abs(step.ahead) / 2 for step in clock[:1]] or [float("-inf")]
    began += [step.at for step in clock]
    ended = [*(step.at for step in clock), float("inf")]
    settings = [0.0, *(step.ahead for step in clock)]
    for since, until, by in zip(began, ended, settings, strict=True):
        if since - READ_LATE <= told - by <= until + READ_LATE:
            return told - by
    return told


def _revived(kind: Any, value: Any) -> Any:
    """A value from JSON as the type it was: tuples of dataclasses come back as such."""
    if isinstance(value, dict) and hasattr(kind, "__dataclass_fields__"):
        hints = get_type_hints(kind)
        names = {f.name for f in fields(kind)}
        return kind(**{k: _revived(hints[k], v) for k, v in value.items() if k in names})
    if isinstance(value, list) and get_origin(kind) is tuple:
        return tuple(_revived(get_args(kind)[0], item) for item in value)
    return value


def by_key(records: Sequence[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for record in records:
        found.setdefault(record.key, []).append(record)
    return found
