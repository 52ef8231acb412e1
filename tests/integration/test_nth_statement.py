"""A worker's whole life, with every single statement and every COMMIT failing once."""

import fcntl
import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from jobs import clock, lockfile, operations
from jobs.models import Attempt, Job, Output, Worker
from jobs.operations import Actor
from jobs.outcome import Captured, Kind, Outcome
from jobs.states import FINAL, JobState
from jobs.work import Work
from jobs.worker import wire
from jobs.worker.wire import Channel
from tests.integration.builders import NOW, make_job, make_queues, make_worker
from tests.integration.ledgers import Busy
from tests.integration.nth import COMMIT, ITS_COMMIT, STATEMENT, Fault, empty, faults
from tests.task_functions import noop

pytestmark = pytest.mark.django_db(transaction=True)

ANN = Actor("ann", "cli")
MOST_ROUNDS = 100
STEP = (
    {STATEMENT: 12, COMMIT: 3, ITS_COMMIT: 3}
    if connection.vendor == "postgresql"
    else {STATEMENT: 3}
)
"""Each so-many-th fails, or with QUEUECTL_EVERY_STATEMENT=1 every one: a life has 250 statements and
takes a second on PostgreSQL."""

EXPECTED = {
    "good": [(1, "succeeded")],
    "again": [(1, "failed"), (2, "succeeded")],
    "dead": [(1, "failed")],
    "task": [(1, "succeeded")],
    "back": [(1, "succeeded")],
    "cancelled": [(1, "cancelled")],
    "lost": [(1, "lost"), (2, "succeeded")],
    "rescued": [(1, "lost"), (2, "succeeded")],
    # Nobody knows whether it had begun, so its number is used up.
    "in doubt": [(2, "succeeded")],
    "short": [(1, "succeeded")],
    "short too": [(1, "succeeded")],
    "ahead": [(1, "succeeded")],
    "crash": [(1, "lost"), (2, "succeeded")],
    "late": [(1, "succeeded")],
}
"""Attempts of each job, whichever statement has failed."""

STATES = dict.fromkeys(EXPECTED, JobState.COMPLETED) | {
    "dead": JobState.DEAD,
    "cancelled": JobState.CANCELLED,
}
ELSEWHERE = {("lost", 1), ("rescued", 1)}
"""Attempts that were of the workers before."""

SAID = Captured(head=b"said", total=4)
FAILED = Outcome(kind=Kind.FAILED, error="Command failed with exit code 1", stderr=SAID)
SUCCEEDED = Outcome(kind=Kind.SUCCEEDED, stdout=SAID)
SPOKE = EXPECTED.keys() - {"task", "cancelled"}
RETURNED_FIVE = Outcome(kind=Kind.SUCCEEDED, result=5)


class Life(Busy):
    """A worker from its registration to its end, with two dead workers to begin with."""

    def __init__(self, directory: Path, fault: Fault) -> None:
        self.directory, self.fault = directory, fault
        self.rounds = 0
        self.ran: list[tuple[str, int]] = []
        self.running: dict[str, tuple[int, Work]] = {}
        """What has not ended yet, and with which runner it is."""

        self.returned = False
        before, beside = self._dead_worker("before"), self._dead_worker("beside")
        self._held("lost", before, started_at=NOW)
        self._held("rescued", beside, started_at=NOW)
        self._held("in doubt", beside, started_at=None)
        for key in ("good", "back", "cancelled"):
            make_job(key=key)
        make_job(key="again", max_retries=1, backoff_base=0)
        make_job(key="dead", max_retries=0)
        make_job(key="task", task=noop.module_path, args={"args": [], "kwargs": {}})
        lock = directory / "own"
        self.lock = os.open(lock, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.begin(before.lock, lock=str(lock), boot=lockfile.boot())
        self.process.wait = self._others_act  # type: ignore[method-assign]
        self.story = self._story()

    def close(self) -> None:
        super().close()
        os.close(self.lock)

    def _dead_worker(self, name: str) -> Worker:
        lock = self.directory / name
        lock.touch()
        return make_worker(name=name, boot=lockfile.boot(), lock=str(lock))

    def _held(self, key: str, worker: Worker, **fields: Any) -> None:
        make_job(key=key, state=JobState.PROCESSING, worker=worker, **fields)

    # What happens while the ledger waits

    def _others_act(self) -> None:
        """In the place of its wait: all it waits for has come, and every moment too."""
        with self.fault.resting():
            self.rounds += 1
            assert self.rounds < MOST_ROUNDS, f"it never ends: {self.describe()}"
            self.answer()
            next(self.story, None)
            process = self.process
            process.retry_at = process.look_at = 0.0
            if self.rounds % 4 == 0:
                process.beat_at = 0.0
                if process.maintenance:
                    process.maintenance._rescue_at = clock.monotonic()
                    process.maintenance._believe_at = 0.0

    def _story(self) -> Iterator[None]:
        yield from self._until(lambda: self._settled("cancelled") and "cancelled" in self.running)
        operations.cancel(Job.objects.get(key="cancelled"), ANN)
        yield from self._until(self._settled)
        make_job(key="short")
        make_job(key="short too")
        make_job(key="ahead", priority=-1)
        yield from self._until(lambda: "ahead" in self.running and self._is_recorded("ahead"))
        self._ends("ahead", SUCCEEDED)
        make_job(key="crash")
        yield from self._until(lambda: "crash" in self.running)
        self._lose_runner(self.running.pop("crash")[0])
        make_job(key="late")
        yield from self._until(lambda: "late" in self.running and self._settled("late"))
        self.supervisor.send(wire.STOP, 60.0)
        self.process.hear_supervisor()

    def _until(self, condition: Callable[[], bool]) -> Iterator[None]:
        while not condition():
            yield

    def _settled(self, *but: str) -> bool:
        return not Job.objects.exclude(state__in=FINAL).exclude(key__in=but).exists()

    def _is_recorded(self, key: str) -> bool:
        held = self.process.hands.held.get(self.running[key][1].lease)
        return held is not None and held.recorded

    # Its runners

    def hears(self, index: int, tag: str, *values: Any) -> bool:
        match tag:
            case wire.RUN:
                for work in map(wire.to_work, values[0]):
                    self._run(index, work)
            case wire.CANCEL:
                self._ends("cancelled", Outcome(kind=Kind.CANCELLED))
            case wire.DRAIN if "late" in self.running:
                self._ends("late", SUCCEEDED)
        return False

    def _run(self, index: int, work: Work) -> None:
        if work.key == "back" and not self.returned:
            self.returned = True
            return self.runners[index].send(wire.RETURNED, [work.lease])
        key = work.key
        self.ran.append((key, work.number))
        if key in ("cancelled", "ahead", "late") or (key, work.number) == ("crash", 1):
            self.running[key] = index, work
            if work.ahead:
                self.runners[index].send(wire.STARTED, [(work.lease, clock.monotonic() - 1)])
            return None
        fails = key == "dead" or (key, work.number) == ("again", 1)
        outcome = RETURNED_FIVE if work.task else FAILED if fails else SUCCEEDED
        return self.end(index, (work, outcome))

    def _ends(self, key: str, outcome: Outcome) -> None:
        index, work = self.running.pop(key)
        self.end(index, (work, outcome))

    def _lose_runner(self, index: int) -> None:
        self.runners[index].close()
        near, far = wire.pair()
        self.sockets.append(far)
        self.runners[index] = Channel(far)
        self.supervisor.send(wire.RUNNER_GONE, index)
        self.supervisor.send_with_fd(near.fileno(), wire.REPLACED, index)
        near.close()
        self.process.hear_supervisor()

    # What came of it

    def describe(self) -> str:
        jobs = [*Job.objects.values_list("key", "state", "runs")]
        return f"{self.fault}\n{jobs}\n{self.ran}\nstill running: {[*self.running]}"


def attempts() -> dict[str, list[tuple[int, str]]]:
    found: dict[str, list[tuple[int, str]]] = {key: [] for key in EXPECTED}
    rows = Attempt.objects.order_by("number").values_list("job__key", "number", "outcome")
    for key, number, outcome in rows:
        found[key].append((number, outcome))
    return found


def assert_all_ended_as_if_nothing_had_failed(life: Life) -> None:
    said = life.describe()
    jobs = Job.objects.all()
    assert dict(jobs.values_list("key", "state")) == STATES, said
    assert attempts() == EXPECTED, said
    assert dict(jobs.values_list("key", "runs")) == {k: e[-1][0] for k, e in EXPECTED.items()}, said
    assert not jobs.exclude(lease=None, worker=None).exists(), said
    assert Counter(life.ran) == Counter(
        (key, number)
        for key, each in EXPECTED.items()
        for number, _ in each
        if (key, number) not in ELSEWHERE
    ), said
    assert jobs.get(key="task").result == 5, said
    assert set(Output.objects.values_list("job__key", flat=True)) == SPOKE, said
    assert not Worker.objects.live().exists(), f"somebody seems to work on: {said}"


@pytest.fixture
def little_garbage() -> Iterator[None]:
    """A ledger collects after each failure; what other tests have left is left out of that."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("little_garbage")
@pytest.mark.parametrize("kind", [STATEMENT, COMMIT, ITS_COMMIT])
def test_whatever_fails_once_in_the_life_of_a_worker_each_job_ends_as_if_nothing_had(
    tmp_path: Path, kind: str
) -> None:
    every = "QUEUECTL_EVERY_STATEMENT" in os.environ
    for fault in faults(kind, 1 if every else STEP.get(kind, 1)):
        empty()
        make_queues("default")
        life = Life(tmp_path, fault)
        try:
            with fault.armed():
                assert life.process.run() == 0
        finally:
            life.close()
        assert_all_ended_as_if_nothing_had_failed(life)
    assert fault.nth > 15, "hardly anything was said: the test shows nothing"
