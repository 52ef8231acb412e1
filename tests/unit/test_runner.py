"""A command runner's book-keeping, without its process."""

import itertools
from types import SimpleNamespace
from typing import Any

from jobs.worker import runner


def test_commands_that_are_over_leave_no_alarms_behind() -> None:
    books: Any = object.__new__(runner.Runner)
    books.alarms, books.commands, books.order = [], {}, itertools.count()
    lives = SimpleNamespace(deadline=lambda: 600.0, finished=False)
    books.commands["lease"] = lives
    books._set_alarm(lives)
    for number in range(5_000):
        over = SimpleNamespace(deadline=lambda at=300.0 + number: at, finished=False)
        books._set_alarm(over)
        over.finished = True
    assert len(books.alarms) < 100
    assert lives in [command for _, _, command in books.alarms]
    assert books.alarms[0] == min(books.alarms)
