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
    "the processors. In the middle of a drain on SQLite (/proc/stat, three drains in turn with three of"
    " xargs) two cores have 798 us for a command: 763 are used, 35 are idle. xargs uses 694 and keeps"
    " nothing; it leaves 77 idle. With no moment idle QueueCTL would reach 1.01 of it. What costs a"
    " command its 69 us more: a session, two pipes, a runner that reads them and tells what came of it,"
    " the claim and the record, and the program that counts. The kernel is not the end of it: a program"
    " in C that starts and reaps as many, two at once, each in a session with two pipes of its own,"
    " reaches 1.25 of xargs (five pairs in turn; 1.35 without session and pipes). A profile of the runner"
    " or of the ledger shows no line of Python with more than 2 %."
)
TASKS = (
    "the processors. In the middle of a drain on PostgreSQL by two workers (19,460 tasks a second for"
    " 2 s) a task costs the server 34 us of CPU, the ledgers 32 and the runners 30, and 5 % of two cores"
    " are idle: with no moment lost they would reach 20,500 a second, 0.65 of pgqueuer. One worker"
    " leaves 36 % idle, as its ledger and its server take turns. Each task is claimed, started in a"
    " process that can be killed, and has a row of its attempt; pgqueuer runs its jobs inside the"
    " process that claims them and deletes their rows."
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
    "what is claimed ahead behind a long job is asked back after 150 ms, or after 30 to 100 if another"
    " runner of its worker has a slot for it, and is claimed anew with the next turn."
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
