"""The N-th statement, or the N-th COMMIT, fails: for N = 1, 2, 3 … until a run ends untouched."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from unittest.mock import patch

from django.db import OperationalError, connections

from jobs.models import Attempt, Event, Job, Output, Queue, Setting, Worker

STATEMENT, ITS_REPLY = "a statement", "the reply to a statement"
COMMIT, ITS_COMMIT = "a commit", "the reply to a commit"
KINDS = (STATEMENT, ITS_REPLY, COMMIT, ITS_COMMIT)


@dataclass
class Fault:
    """COMMIT does not pass Django's wrapper of statements, so it is counted apart."""

    kind: str
    nth: int
    struck: str = ""
    """The statement that failed; "" if there were not so many."""

    seen: int = 0
    commits: int = 0
    """That have been acknowledged before it struck."""

    rests: bool = False

    @contextmanager
    def armed(self) -> Iterator[None]:
        base = connections["default"]
        inner = base._commit

        def commit() -> None:
            self._does("COMMIT", inner, COMMIT, ITS_COMMIT)
            self.commits += not self.struck

        def statement(execute: Any, sql: str, *rest: Any) -> Any:
            # In a transaction it is undone, whether its reply is lost or it itself.
            alone = not base.in_atomic_block and not sql.startswith("BEGIN")
            loses = ITS_REPLY if alone else ""
            return self._does(sql, lambda: execute(sql, *rest), STATEMENT, loses)

        with base.execute_wrapper(statement), patch.object(base, "_commit", commit):
            yield

    @contextmanager
    def resting(self) -> Iterator[None]:
        """What others than the one under test say is not counted."""
        self.rests = True
        try:
            yield
        finally:
            self.rests = False

    @property
    def leaves_doubt(self) -> bool:
        """Whether something may have been committed of which nobody was told."""
        return self.kind in (ITS_REPLY, ITS_COMMIT)

    def _does(self, said: str, run: Any, fails: str, loses: str) -> Any:
        if self.rests or self.kind not in (fails, loses):
            return run()
        self.seen += 1
        if self.seen != self.nth:
            return run()
        self.struck = said
        if self.kind == loses:
            run()
        raise OperationalError(f"{self.kind} is lost: number {self.nth}, {said}")


def faults(kind: str, step: int = 1) -> Iterator[Fault]:
    """One after the other, or each so-many-th from one that pytest-randomly's seed draws.

    Ends when one has struck nothing.
    """
    for nth in count(1 + random.randrange(step), step):
        fault = Fault(kind, nth)
        yield fault
        if not fault.struck:
            return


def empty() -> None:
    for model in (Output, Attempt, Job, Worker, Event, Queue, Setting):
        model.objects.all()._raw_delete(model.objects.db)
