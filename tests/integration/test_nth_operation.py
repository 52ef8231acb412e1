"""What people do, with every single statement and COMMIT failing once: all of it is done, or nothing."""

import io
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.db import OperationalError
from django.db.models import Value
from django.db.models.functions import Concat

from jobs import conf, dialect, ledger, operations, transfer
from jobs.exceptions import WrongState
from jobs.models import Attempt, Event, Job, Output, Queue, Setting
from jobs.operations import Actor
from jobs.outcome import Captured
from jobs.states import JobState
from tests.integration.builders import claim, make_job, make_queues, make_worker, report, seconds
from tests.integration.nth import COMMIT, ITS_COMMIT, KINDS, Fault, empty, faults

pytestmark = pytest.mark.django_db(transaction=True)

ANN = Actor("ann", "cli")
NEW = {"id": "new", "command": "true"}
ELSEWHERE = NEW | {"queue": "elsewhere"}
STEP = 3
"""Each so-many-th statement fails, or with QUEUECTL_EVERY_STATEMENT=1 every one."""


def fill() -> None:
    """A job in every state that matters here, those that ran with their attempts and output."""
    empty()
    make_queues("default")
    worker = make_worker()
    for key in ("dead", "dead too", "completed", "runs"):
        make_job(key=key)
    for work in claim(worker):
        if work.key != "runs":
            report(worker, work, stdout=Captured(head=b"said", total=4))
    Job.objects.filter(key__startswith="dead").update(state=JobState.DEAD, attempts=1)
    make_job(key="waits")
    make_job(key="unique", state=JobState.DEAD, unique_key="once")


def found() -> list[Any]:
    """All that is stored, but for times and numbers of rows."""
    jobs = Job.objects.order_by("key")
    return [
        list(jobs.values_list("key", "state", "attempts", "runs", "queue", "started_at")),
        list(jobs.exclude(lease=None, worker=None).values_list("key")),
        list(jobs.exclude(cancel_requested_at=None).values_list("key")),
        list(Attempt.objects.order_by("job__key").values_list("job__key", "number", "outcome")),
        list(Output.objects.order_by("job__key").values_list("job__key", "attempt")),
        list(Queue.objects.order_by("name").values_list("name")),
        list(Setting.objects.order_by("key").values_list("key", "value")),
        list(Event.objects.order_by("id").values_list("actor", "action", "subject")),
    ]


def exported() -> bytes:
    """An export of such a site, of other jobs, with a setting and a queue."""
    fill()
    make_queues("other")
    Job.objects.update(key=Concat(Value("other "), "key"), unique_key=None, queue="other")
    operations.set_setting("max-retries", "5", ANN)
    stream = io.BytesIO()
    transfer.export(stream, "queuectl", ANN)
    return stream.getvalue()


def prune(_: bytes) -> None:
    with dialect.turn() as now:
        policy = conf.policy({"prune-dead-above": 1, "prune-completed-after": 1})
        assert ledger.prune(policy, now + seconds(10**9)) <= 4


def one(key: str) -> Job:
    return operations.find(key)


ACTS: dict[str, Callable[[bytes], object]] = {
    "enqueue": lambda _: operations.enqueue(NEW, ANN),
    "enqueue elsewhere": lambda _: operations.enqueue(ELSEWHERE, ANN),
    "enqueue many": lambda _: operations.enqueue_many([ELSEWHERE, NEW | {"id": "newer"}], ANN),
    "cancel what waits": lambda _: operations.cancel(one("waits"), ANN),
    "cancel what runs": lambda _: operations.cancel(one("runs"), ANN),
    "cancel all": lambda _: operations.cancel_many(Job.objects.all(), ANN),
    "retry": lambda _: operations.retry(one("unique"), ANN),
    "retry all": lambda _: operations.retry_many(Job.objects.dead(), ANN),
    "discard all": lambda _: operations.discard_many(Job.objects.all(), ANN),
    "import": lambda file: transfer.import_file(io.BytesIO(file), ANN),
    "prune": prune,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_whatever_fails_once_all_is_done_or_nothing_and_another_try_does_the_rest(
    act: Callable[[bytes], object], kind: str
) -> None:
    file = exported()
    fill()
    act(file)
    whole = found()
    every = kind in (COMMIT, ITS_COMMIT) or "QUEUECTL_EVERY_STATEMENT" in os.environ
    for fault in faults(kind, 1 if every else STEP):
        fill()
        before = found()
        assert before != whole, "it does nothing: the test shows nothing"
        failed = is_refused_by(act, file, fault)
        after = found()
        assert after in (before, whole), f"half of it is done: {fault}"
        if not failed:
            assert after == whole, f"it has not failed, and is not done: {fault}"
        elif not fault.leaves_doubt and not fault.commits:
            assert after == before, f"it has failed, and is done: {fault}"
        if after == before:
            act(file)
            assert found() == whole, f"another try does not do it: {fault}"
        else:
            with suppress(WrongState):
                act(file)
            *again, _ = found()
            assert again == whole[:-1], f"another try makes it something else: {fault}"


def is_refused_by(act: Callable[[bytes], object], file: bytes, fault: Fault) -> bool:
    with fault.armed():
        try:
            act(file)
        except OperationalError:
            assert fault.struck
            return True
    return False
