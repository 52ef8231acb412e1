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

    worst: bool = False
    """Every run has to reach it, not the median."""

    def is_met(self, measurement: Measurement) -> bool:
        reached = measurement.ours.high if self.worst else reached_by(measurement)
        return reached <= self.figure if _is_cost(measurement) else reached >= self.figure

    def said(self, measurement: Measurement) -> str:
        sign = f"{'always ' if self.worst else ''}{'≤' if _is_cost(measurement) else '≥'}"
        return f"{sign} {self.figure:g}{'' if self.is_met(measurement) else ': **missed**'}"


def of(scenario: str, title: str) -> Target | None:
    """The target of a row; the first that fits."""
    fitting = (t for t in TARGETS if t.scenario == scenario and fnmatchcase(title, t.rows))
    return next(fitting, None)


def reached_by(measurement: Measurement) -> float:
    return measurement.median_ratio if measurement.rival else measurement.ours.median


def _is_cost(measurement: Measurement) -> bool:
    return measurement.rival is None and not measurement.more_is_better


COMMANDS = (
    "the processors. At 1,750 commands a second on SQLite (perf, a second and a half in the middle of a"
    " drain) two cores have 1,143 us for each. Its own process takes 743 of them (exec, the dynamic"
    " loader, exit; 325 are the loader's CPUID instructions, each of which leaves a virtual machine),"
    " its runner 239, the ledger with SQLite in it 102, the program that counts 18; 33 are idle. A whole"
    " drain is idle for 16 %: most of that is its start and end, in which one process works alone. xargs"
    " took 861 us of CPU a command then, its process included, and keeps nothing, so with no moment idle"
    " and nobody counting this would be 0.79 of it. Two loops in Python that spawn a command, wait for"
    " it and keep nothing take 741."
)
TASKS = (
    "the processors. In the middle of a drain on PostgreSQL by two workers (9,770 tasks a second for"
    " 1.2 s) a task costs the ledgers 61 us of CPU, the server 60 and the runners 57, and a tenth of two"
    " cores is idle: with no moment lost they would reach 11,200 a second. One worker leaves a quarter"
    " idle, as its ledger and its server take turns. On SQLite a task costs 69 us in the ledger and 43"
    " in the runners, in a slower hour. Each task is claimed, started in a process that can be killed,"
    " and has a row of its attempt; pgqueuer runs its jobs inside the process that claims them and"
    " deletes their rows. huey waits for the disk, QueueCTL for the processors, so that ratio hangs on"
    " the hour: it was 5.3 and 2.65 on the day before."
)
PICK_UP = (
    "code that has rested. Of 2.2 ms for a command on PostgreSQL (medians of 100) the one statement that"
    " claims took 1.6, its commit included; it takes 0.8 when it is repeated at once. 0.6 are the runner"
    " and the start of the command, 0.1 each to read the notification and to come to the claim; the"
    " notification arrives 0.2 before the enqueue returns."
)
IDLE = "the ledger's look for people's wishes, each second, and signs of life every 4 s."
CROWD = "not known: the pairs differ by more than what is missing."
MIXED = (
    "what is claimed ahead behind a long job is asked back after 150 ms, or after 30 if another runner"
    " of its worker has a slot for it. Why one run of five takes twice that is not known: to claim it"
    " for a free slot only from then on changed nothing."
)
TARGETS = (
    Target("commands", "*, against GNU parallel*", 5.0, COMMANDS),
    Target("commands", "commands, SQLite, against xargs*", 1.0, COMMANDS),
    Target("commands", "commands, PostgreSQL, against xargs*", 0.8, COMMANDS),
    Target("task-peers", "tasks, SQLite, against huey", 5.0, TASKS),
    Target("task-peers", "tasks, SQLite, against *", 12.0, TASKS),
    Target("task-peers", "tasks, PostgreSQL, against Celery*", 6.0, TASKS),
    Target("task-peers", "tasks, PostgreSQL, against pgqueuer*", 0.9, TASKS),
    Target("task-peers", "tasks, PostgreSQL, against dj*", 8.0, TASKS),
    Target("crowd", "*", 0.9, CROWD),
    Target("enqueue", "one at a time*", 0.8),
    Target("enqueue", "one call*", 0.7),
    Target("enqueue", "`queuectl enqueue -`*", 0.5),
    Target("latency", "*p50", 2.0, PICK_UP),
    Target("latency", "*p99", 10.0, PICK_UP),
    Target("thousand", "*started within", 2.0),
    Target("thousand", "*PSS*", 200.0),
    Target("mixed", "*", 250.0, MIXED, worst=True),
    Target("idle", "CPU*", 0.5, IDLE),
    Target("idle", "PSS*", 100.0),
    Target("start", "*", 0.77),
)
