"""What is done to a run and when: drawn from its seed, done in order, written down at once."""

import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.chaos.faults import CATALOGUE, Arena, Kind
from tests.chaos.history import Fault, now


@dataclass(frozen=True)
class Strike:
    pause: float
    name: str
    place: int
    """Of the worker that is its target."""


def schedule(seed: int, seconds: float, names: Sequence[str], workers: int) -> list[Strike]:
    """Every fault once, then again in another order, until the time is up."""
    rng = random.Random(f"faults {seed}")
    strikes: list[Strike] = []
    left, round_of = seconds, list[str]()
    while names:
        if not round_of:
            round_of = rng.sample(list(names), len(names))
        strike = Strike(round(rng.uniform(0.2, 2), 2), round_of.pop(), rng.randint(1, workers))
        left -= length([strike])
        if left < 0 and len(strikes) >= len(names):
            break
        strikes.append(strike)
    return strikes


def length(strikes: Sequence[Strike]) -> float:
    """About how many seconds it takes to carry them out."""
    return sum(strike.pause + CATALOGUE[strike.name].lasts for strike in strikes)


class Nemesis:
    def __init__(self, arena: Arena, log: Path, database: str, workers: int) -> None:
        self.arena, self.database, self.workers = arena, database, workers
        self.fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.faults: list[Fault] = []

    def carry_out(self, strikes: Sequence[Strike], until: float, after: Callable[[], None]) -> None:
        """All of them, or those that fit; `after` each, what died is replaced."""
        asked = {strike.name for strike in strikes}
        for strike in strikes:
            if now() > until and asked <= {fault.name for fault in self.faults}:
                return
            time.sleep(strike.pause)
            self._strike(CATALOGUE[strike.name], self.arena.fleet.in_place(strike.place))
            after()
            for tired in self.arena.fleet.tired():
                # Its supervisor waits ever longer before it starts the next ledger.
                self._strike(CATALOGUE["stop-by-signal"], tired)
                after()

    def _strike(self, kind: Kind, target: str) -> bool:
        """Whether it landed."""
        if kind.pair[0]:
            return self._strike_both(kind, target)
        with self._struck(kind, target) as landed:
            if landed:
                time.sleep(kind.holds)
        return landed

    def _strike_both(self, pair: Kind, target: str) -> bool:
        """The second while the first lasts, on another worker where both aim at one."""
        first, second = (CATALOGUE[name] for name in pair.pair)
        fleet = self.arena.fleet
        other = next(name for name in fleet.workers if name != target)
        with self._struck(second, other) as one, self._struck(first, target) as two:
            if one and two:
                time.sleep(pair.holds)
        at = self.faults[-1].began
        self._record(Fault(pair.name, pair.number, "", at, now(), one and two))
        return one and two

    @contextmanager
    def _struck(self, kind: Kind, target: str) -> Iterator[bool]:
        began, self.arena.struck_at = now(), 0.0
        self._write({"begins": kind.name, "target": target, "at": began})
        with kind.strike(self.arena, target) as evidence:
            began = self.arena.struck_at or began
            yield bool(evidence)
        self._record(
            Fault(
                kind.name, kind.number, kind.target(target, evidence), began, now(), bool(evidence),
                kind.consequences(self.database), evidence,
            )
        )  # fmt: skip

    def _record(self, fault: Fault) -> None:
        self.faults.append(fault)
        self._write(asdict(fault))

    def _write(self, line: object) -> None:
        os.write(self.fd, f"{json.dumps(line)}\n".encode())
        os.fsync(self.fd)
