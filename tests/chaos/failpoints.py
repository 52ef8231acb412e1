"""Places inside a worker at which it dies, stands still, waits or fails: NAME:ACTION[@N].

Armed in a process by CHAOS_FAILPOINT. It goes off at its N-th passing, once in a run, whichever
process comes by first: a marker file says that it has, and is the proof that the fault landed.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACTIONS = ("kill9", "stop", "raise", "sleep")


@dataclass
class Failpoint:
    name: str
    action: str
    nth: int
    every: bool
    """Again and again, each N-th time, instead of once in a run."""

    marker: Path
    passed: int = 0

    def reached(self) -> None:
        self.passed += 1
        if self.passed % self.nth or (not self.every and self._is_marked()):
            return
        fd = os.open(self.marker, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, f"{os.getpid()}\n".encode())
        os.close(fd)
        self._act()

    def _is_marked(self) -> bool:
        return self.marker.exists()

    def _act(self) -> None:
        from django.db import OperationalError

        match self.action.partition("=")[::2]:
            case "kill9", _:
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop", _:
                os.kill(os.getpid(), signal.SIGSTOP)
            case "raise", _:
                raise OperationalError("a failpoint went off")
            case "sleep", seconds:
                time.sleep(float(seconds))


def parsed(text: str) -> Failpoint:
    name, _, rest = text.partition(":")
    action, _, nth = rest.partition("@")
    if name not in PLACES or action.partition("=")[0] not in ACTIONS:
        raise ValueError(f"no failpoint {text!r}")
    every = nth.endswith("+")
    marker = Path(os.environ["CHAOS_MARKERS"]) / text.replace(":", "-")
    return Failpoint(name, action, int(nth.rstrip("+") or 1), every, marker)


def arm(failpoint: Failpoint) -> None:
    PLACES[failpoint.name](failpoint.reached)


def _around(owner: Any, name: str, before: Any = None, after: Any = None) -> None:
    inner = getattr(owner, name)

    def call(*args: Any, **options: Any) -> Any:
        if before:
            before()
        result = inner(*args, **options)
        if after:
            after()
        return result

    setattr(owner, name, call)


def _at_commit(when: str) -> Callable[[Callable[[], None]], None]:
    """In the ledger's turn alone: a rescue has a transaction of its own, and places of its own."""

    def arm(reached: Callable[[], None]) -> None:
        from jobs import dialect
        from jobs.worker import turns

        inner = dialect.turn

        @contextmanager
        def turn() -> Iterator[Any]:
            with inner() as now:
                yield now
                if when == "before":
                    reached()
            if when == "after":
                reached()

        # Only what the module `turns` calls: registering, closing and rescuing have theirs from elsewhere.
        turns.dialect = Substitute(dialect, turn=turn)
        if when == "after":
            _done("claim_at_once")(reached)

    return arm


def _after_commit_of(name: str) -> Callable[[Callable[[], None]], None]:
    """Where a turn has done this to at least one job, and has committed."""

    def arm(reached: Callable[[], None]) -> None:
        done = False

        def note() -> None:
            nonlocal done
            done = True

        def committed() -> None:
            nonlocal done
            if done:
                done = False
                reached()

        _done(name)(note)
        _at_commit("after")(committed)

    return arm


def _done(name: str) -> Callable[[Callable[[], None]], None]:
    """Where a turn has done this to at least one job, and has not committed."""

    def arm(reached: Callable[[], None]) -> None:
        from jobs import ledger

        inner = getattr(ledger, name)

        def call(*args: Any, **options: Any) -> Any:
            if done := inner(*args, **options):
                reached()
            return done

        setattr(ledger, name, call)

    return arm


class Substitute:
    """A module with some of its functions replaced, for one of those that use it."""

    def __init__(self, inner: Any, **replaced: Any) -> None:
        self.__dict__.update(replaced)
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _place(module: str, name: str, when: str) -> Callable[[Callable[[], None]], None]:
    def arm(reached: Callable[[], None]) -> None:
        from importlib import import_module

        path, _, cls = module.partition(":")
        owner = import_module(f"jobs.{path}")
        _around(getattr(owner, cls) if cls else owner, name, **{when: reached})

    return arm


PLACES: dict[str, Callable[[Callable[[], None]], None]] = {
    "boot": _place("worker.ledger_process:LedgerProcess", "run", "before"),
    "before_turn_commit": _at_commit("before"),
    "after_turn_commit": _at_commit("after"),
    "before_start": _place("execution.shell", "start", "before"),
    "after_start": _place("execution.shell", "start", "after"),
    "after_exit": _place("worker.runner:Runner", "_finish", "after"),
    "in_claim": _done("claim"),
    "in_report": _done("report"),
    "before_heartbeat": _place("ledger", "heartbeat", "before"),
    "after_heartbeat": _place("ledger", "heartbeat", "after"),
    "before_rescue_commit": _place("ledger", "rescue", "after"),
    "before_rescue": _place("worker.maintenance", "rescue", "before"),
    "after_rescue_commit": _place("worker.maintenance", "rescue", "after"),
    "after_release": _place("ledger", "release", "after"),
    "after_release_commit": _after_commit_of("release"),
    "after_report_commit": _after_commit_of("report"),
    "in_promote": _place("ledger", "promote", "after"),
    "in_prune": _place("ledger", "prune", "after"),
    "in_cancel": _place("operations.one_job", "record", "after"),
    "in_import": _place("transfer.importing:_Import", "leave_event", "after"),
    "in_export": _place("transfer.exporting", "_with_attempts", "before"),
}
