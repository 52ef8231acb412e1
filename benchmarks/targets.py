"""What each figure is to reach, and where it does not, what bounds it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from .measuring import Measurement


@dataclass(frozen=True)
class Target:
    """For rows of a scenario whose title fits: a median ratio, or a median figure where there is no rival."""

    scenario: str
    rows: str
    """A pattern with `*`."""

    figure: float
    bound: str = ""
    """Why it is missed, as measured; shown only where it is."""

    def is_met(self, measurement: Measurement) -> bool:
        reached = reached_by(measurement)
        return reached <= self.figure if _is_cost(measurement) else reached >= self.figure

    def said(self, measurement: Measurement) -> str:
        sign = "≤" if _is_cost(measurement) else "≥"
        return f"{sign} {self.figure:g}{'' if self.is_met(measurement) else ': **missed**'}"


def of(scenario: str, title: str) -> Target | None:
    """The target of a row; the first that fits."""
    fitting = (t for t in TARGETS if t.scenario == scenario and fnmatchcase(title, t.rows))
    return next(fitting, None)


def reached_by(measurement: Measurement) -> float:
    return measurement.median_ratio if measurement.rival else measurement.ours.median


def _is_cost(measurement: Measurement) -> bool:
    return measurement.rival is None and not measurement.more_is_better


TARGETS = (
    Target("commands", "*, against GNU parallel*", 5.0),
    Target("commands", "commands, SQLite, against xargs*", 1.0),
    Target("commands", "commands, PostgreSQL, against xargs*", 0.8),
    Target("task-peers", "tasks, SQLite, against huey", 5.0),
    Target("task-peers", "tasks, SQLite, against *", 12.0),
    Target("task-peers", "tasks, PostgreSQL, against Celery*", 6.0),
    Target("task-peers", "tasks, PostgreSQL, against pgqueuer*", 0.9),
    Target("task-peers", "tasks, PostgreSQL, against *", 8.0),
    Target("crowd", "*", 0.9),
    Target("enqueue", "one at a time*", 0.8),
    Target("enqueue", "one call*", 0.7),
    Target("enqueue", "`queuectl enqueue -`*", 0.5),
    Target("latency", "*p50", 2.0),
    Target("latency", "*p99", 10.0),
    Target("thousand", "*started within", 2.0),
    Target("thousand", "*PSS*", 200.0),
    Target("mixed", "*", 250.0),
    Target("idle", "CPU*", 0.5),
    Target("idle", "PSS*", 100.0),
    Target("start", "*", 0.77),
)
