"""What people do to jobs, settings, queues and workers, and the trace it leaves."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.db import OperationalError, connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from jobs import dialect, ledger, operations
from jobs.exceptions import (
    AmbiguousId,
    DuplicateKey,
    InvalidField,
    JobNotFound,
    NotPermitted,
    QueueCTLError,
    WrongState,
)
from jobs.models import Attempt, Event, Job, Output, Queue, Setting, StopMode, Worker
from jobs.operations import Actor
from jobs.states import ACTIVE, FINAL, JobState
from tests.integration.builders import NOW, claim_one, make_job, make_jobs, make_worker, seconds

pytestmark = pytest.mark.django_db

ANN = Actor("ann", "cli")
S = JobState
Operation = Callable[[Job, Actor], Any]
OPERATIONS: dict[str, Operation] = {
    "retry": operations.retry,
    "run now": operations.run_now,
    "cancel": operations.cancel,
    "discard": operations.discard,
}
GONE = None
# What becomes of a job in each state; where nothing is said the operation is refused.
MATRIX: dict[str, dict[JobState, JobState | None]] = {
    "retry": {S.DEAD: S.PENDING},
    "run now": {S.SCHEDULED: S.SCHEDULED, S.FAILED: S.FAILED},
    "cancel": {
        S.PENDING: S.CANCELLED,
        S.SCHEDULED: S.CANCELLED,
        S.BLOCKED: S.CANCELLED,
        S.FAILED: S.CANCELLED,
        S.PROCESSING: S.PROCESSING,
    },
    "discard": {state: GONE for state in S if state is not S.PROCESSING},
}
ALLOWED = [(name, state) for name, states in MATRIX.items() for state in states]
REFUSED = [(name, state) for name in MATRIX for state in S if state not in MATRIX[name]]


def row(job: Job) -> dict[str, Any] | None:
    return Job.objects.filter(id=job.id).values().first()


@pytest.mark.parametrize(("name", "state"), ALLOWED)
def test_an_operation_does_what_the_state_allows(name: str, state: JobState) -> None:
    job = make_job(state=state)
    OPERATIONS[name](job, ANN)
    after = row(job)
    assert (after and after["state"]) == MATRIX[name][state]


@pytest.mark.parametrize(("name", "state"), ALLOWED)
def test_a_change_leaves_exactly_one_event(name: str, state: JobState) -> None:
    job = make_job(state=state)
    OPERATIONS[name](job, ANN)
    event = Event.objects.get()
    assert (event.actor, event.via, event.action) == ("ann", "cli", name)
    assert (event.subject, event.before) == (f"job {job.key}", state)
    assert event.after == (MATRIX[name][state] or "")


@pytest.mark.parametrize(("name", "state"), REFUSED)
def test_an_operation_that_the_state_does_not_allow_changes_nothing(
    name: str, state: JobState
) -> None:
    job = make_job(state=state)
    before = row(job)
    with pytest.raises(WrongState) as caught:
        OPERATIONS[name](job, ANN)
    assert row(job) == before and caught.value.state == state
    assert set(caught.value.allowed) == set(MATRIX[name])


@pytest.mark.parametrize(("name", "state"), REFUSED)
def test_a_refusal_leaves_no_event(name: str, state: JobState) -> None:
    with pytest.raises(WrongState):
        OPERATIONS[name](make_job(state=state), ANN)
    assert not Event.objects.exists()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_job_that_is_gone_is_not_found(name: str) -> None:
    job = make_job(state=S.DEAD)
    Job.objects.filter(id=job.id).delete()
    with pytest.raises(JobNotFound):
        OPERATIONS[name](job, ANN)
    assert not Event.objects.exists()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_stale_object_does_not_decide(name: str) -> None:
    job = make_job(state=S.COMPLETED)
    job.state = next(iter(MATRIX[name]))
    if name == "discard":
        Job.objects.filter(id=job.id).update(
            state=S.PROCESSING, finished_at=None, worker=make_worker(), lease="0" * 32
        )
    with pytest.raises(WrongState):
        OPERATIONS[name](job, ANN)


def test_two_operators_retry_a_dead_job_once() -> None:
    job = make_job(state=S.DEAD)
    operations.retry(job, ANN)
    with pytest.raises(WrongState):
        operations.retry(job, ANN)
    assert Event.objects.count() == 1


# Retry


def test_a_retry_begins_a_new_series() -> None:
    job = make_job(
        state=S.DEAD, attempts=4, losses=2, interruptions=9, runs=7, last_error="no",
        started_at=NOW, cancel_requested_at=NOW, due_at=NOW - seconds(99),
    )  # fmt: skip
    before = dialect.now()
    after = operations.retry(job, ANN)
    assert (after.attempts, after.losses, after.interruptions, after.last_error) == (0, 0, 0, "")
    assert (after.started_at, after.finished_at, after.cancel_requested_at) == (None, None, None)
    assert before <= after.due_at <= dialect.now()


def test_attempt_numbers_go_on_after_a_retry() -> None:
    operations.retry(make_job(state=S.DEAD, runs=7), ANN)
    assert claim_one(make_worker()).number == 8


def test_a_retry_keeps_attempts_and_output() -> None:
    job = make_job(state=S.DEAD, runs=1)
    Attempt.objects.create(job=job, number=1, outcome="failed", finished_at=NOW)
    operations.retry(job, ANN)
    assert Attempt.objects.filter(job=job).count() == 1


def test_a_retry_whose_unique_key_is_taken_is_refused() -> None:
    job = make_job(state=S.DEAD, unique_key="k")
    make_job(unique_key="k")
    with pytest.raises(DuplicateKey, match="'k'"):
        operations.retry(job, ANN)
    assert row(job)["state"] == S.DEAD and not Event.objects.exists()


def test_a_refused_retry_speaks_the_originals_words() -> None:
    with pytest.raises(WrongState, match=r"^Job 'nightly' is not in Dead Letter Queue$") as caught:
        operations.retry(make_job(key="nightly"), ANN)
    assert "pending" in caught.value.hint and "dead" in caught.value.hint


# Run now


@pytest.mark.parametrize("state", [S.SCHEDULED, S.FAILED])
def test_run_now_makes_a_job_due(state: JobState) -> None:
    later = dialect.now() + seconds(3600)
    job = make_job(state=state, due_at=later, run_at=later, attempts=2)
    after = operations.run_now(job, ANN)
    assert after.due_at <= dialect.now() and (after.run_at, after.attempts) == (later, 2)
    assert ledger.promote(dialect.now()) == 1


# Cancel


@pytest.mark.parametrize("state", [S.PENDING, S.SCHEDULED, S.BLOCKED, S.FAILED])
def test_a_waiting_job_is_cancelled_for_good(state: JobState) -> None:
    job = make_job(state=state)
    after = operations.cancel(job, ANN)
    assert after.finished_at is not None and after.is_final
    assert ledger.promote(dialect.now() + seconds(999)) == 0


def test_the_cancel_of_a_running_job_is_a_request_to_its_worker() -> None:
    worker = make_worker()
    job = make_job()
    work = claim_one(worker)
    after = operations.cancel(job, ANN)
    assert after.cancel_requested_at is not None and after.lease is not None
    assert ledger.cancel_requests(worker.id) == {work.lease}


# Discard


def test_a_discarded_job_takes_its_attempts_and_output_along() -> None:
    job, kept = make_job(state=S.COMPLETED, runs=1), make_job(state=S.COMPLETED, runs=1)
    for each in (job, kept):
        Attempt.objects.create(job=each, number=1, outcome="succeeded", finished_at=NOW)
        Output.objects.create(job=each, attempt=1, stream=1, sequence=0, offset=0, data=b"x")
    operations.discard(job, ANN)
    assert [attempt.job_id for attempt in Attempt.objects.all()] == [kept.id]
    assert [chunk.job_id for chunk in Output.objects.all()] == [kept.id]


def test_a_discard_can_be_for_dead_jobs_only() -> None:
    with pytest.raises(WrongState):
        operations.discard(make_job(state=S.COMPLETED), ANN, only=(S.DEAD,))


# Many


def test_retrying_many_brings_back_the_dead_and_leaves_the_rest() -> None:
    for state in S:
        make_job(key=state, state=state)
    done = operations.retry_many(Job.objects.all(), ANN)
    assert (done.changed, sum(done.left.values())) == (1, len(S) - 1)
    assert Job.objects.get(key="dead").state == S.PENDING


def test_retrying_many_brings_back_one_of_those_that_share_a_unique_key() -> None:
    for _ in range(3):
        make_job(state=S.DEAD, unique_key="k")
    make_job(state=S.DEAD)
    done = operations.retry_many(Job.objects.dead(), ANN)
    assert (done.changed, sum(done.left.values())) == (2, 2)


def test_of_dead_jobs_that_share_a_unique_key_the_first_is_brought_back() -> None:
    jobs = {key: make_jobs(3, state=S.DEAD, unique_key=key) for key in ("k", "l")}
    done = operations.retry_many(Job.objects.order_by("-id"), ANN)
    assert (done.changed, done.left) == (2, {"unique_key taken": 4})
    back = set(Job.objects.pending().values_list("id", flat=True))
    assert back == {first.id for first, *_ in jobs.values()}


@pytest.mark.parametrize("state", ACTIVE)
def test_a_dead_job_whose_unique_key_an_active_job_has_is_left(state: JobState) -> None:
    make_job(state=state, unique_key="k")
    kept, back = (make_job(state=S.DEAD, unique_key=key) for key in ("k", "l"))
    done = operations.retry_many(Job.objects.dead(), ANN)
    assert (done.changed, done.left) == (1, {"unique_key taken": 1})
    assert [row(job)["state"] for job in (kept, back)] == [S.DEAD, S.PENDING]


def test_a_unique_key_that_only_ended_jobs_have_keeps_nothing_back() -> None:
    for state in FINAL:
        make_job(state=state, unique_key="k")
    done = operations.retry_many(Job.objects.dead(), ANN)
    assert (done.changed, done.left) == (1, {})


def test_of_jobs_that_were_chosen_only_those_are_brought_back() -> None:
    for key in (None, "k"):
        make_job(state=S.DEAD, unique_key=key)
    chosen = [make_job(state=S.DEAD, unique_key=key).id for key in (None, "k")]
    done = operations.retry_many(Job.objects.filter(id__in=chosen), ANN)
    assert (done.changed, done.left) == (2, {})
    assert set(Job.objects.pending().values_list("id", flat=True)) == set(chosen)


def test_retrying_many_takes_as_many_statements_for_sixty_unique_keys_as_for_two() -> None:
    counts = []
    for number in (2, 60):
        Job.objects.all().delete()
        for index in range(number):
            for _ in range(2):
                make_job(state=S.DEAD, unique_key=f"k{index}")
        with CaptureQueriesContext(connection) as captured:
            done = operations.retry_many(Job.objects.dead(), ANN)
        assert (done.changed, done.left) == (number, {"unique_key taken": number})
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_keys_that_are_taken_at_each_try_are_told_in_a_sentence_and_nothing_is_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on PostgreSQL, where an enqueue may commit after we have looked and before we write."""
    make_job(state=S.DEAD)
    make_job(state=S.DEAD, unique_key="k")
    make_job(unique_key="k")
    monkeypatch.setattr(
        "jobs.operations.many_jobs._first_of_each_key", lambda rows: rows.values("id")
    )
    with pytest.raises(QueueCTLError, match="unique keys") as caught:
        operations.retry_many(Job.objects.dead(), ANN)
    assert "again" in caught.value.hint
    assert Job.objects.dead().count() == 2 and not Event.objects.exists()


def test_discarding_many_leaves_what_runs() -> None:
    for state in S:
        make_job(state=state)
    done = operations.discard_many(Job.objects.all(), ANN)
    assert done.changed == len(S) - 1
    assert [job.state for job in Job.objects.all()] == [S.PROCESSING]


def test_cancelling_many_says_what_became_of_each() -> None:
    for state in S:
        make_job(key=state, state=state)
    done = operations.cancel_many(Job.objects.all(), ANN)
    states = dict(Job.objects.values_list("key", "state"))
    assert states == {state: MATRIX["cancel"].get(state, state) for state in S}
    asked = Job.objects.filter(cancel_requested_at__isnull=False)
    assert [job.state for job in asked] == [S.PROCESSING]
    assert set(Job.objects.filter(finished_at__isnull=False).values_list("state", flat=True)) == {
        S.CANCELLED,
        S.COMPLETED,
        S.DEAD,
    }
    assert (done.changed, done.left) == (5, {"cancelled": 1, "completed": 1, "dead": 1})


BULK: dict[str, Callable[[Actor], Any]] = {
    "retry": lambda actor: operations.retry_many(Job.objects.all(), actor),
    "discard": lambda actor: operations.discard_many(Job.objects.all(), actor),
    "cancel": lambda actor: operations.cancel_many(Job.objects.all(), actor),
    "run now": lambda actor: operations.run_now_many(Job.objects.all(), actor),
}


@pytest.mark.parametrize("name", BULK)
def test_a_bulk_operation_leaves_one_event_for_all(name: str) -> None:
    for _ in range(3):
        for state in S:
            make_job(state=state)
    BULK[name](ANN)
    assert [event.action for event in Event.objects.all()] == [name]


@pytest.mark.parametrize("name", BULK)
def test_a_bulk_operation_on_nothing_leaves_no_event(name: str) -> None:
    BULK[name](ANN)
    assert not Event.objects.exists()


@pytest.mark.parametrize("signed", ["off", "sign"])
def test_a_queue_is_made_by_the_first_job_that_moves_there(signed: str) -> None:
    make_job(key="ended", state=S.COMPLETED)
    with override_settings(QUEUECTL={"SIGNATURES": signed}):
        assert operations.move_many(Job.objects.all(), "new", ANN).changed == 0
        assert not Queue.objects.filter(name="new").exists()
        make_job(key="waits")
        assert operations.move_many(Job.objects.all(), "new", ANN).changed == 1
    assert Queue.objects.filter(name="new").exists()


# Finding


def find(text: str) -> str:
    return operations.find(text).key


def test_an_exact_id_wins_over_a_prefix() -> None:
    for key in ("job1", "job10", "job11"):
        make_job(key=key)
    assert find("job1") == "job1"


def test_the_beginning_of_one_id_is_enough() -> None:
    make_job(key="nightly-backup")
    make_job(key="weekly")
    assert find("night") == "nightly-backup"


def test_a_prefix_of_several_names_up_to_five() -> None:
    for index in range(9):
        make_job(key=f"job{index}")
    with pytest.raises(AmbiguousId) as caught:
        find("job")
    assert "job0, job1, job2, job3, job4" in caught.value.hint and "job5" not in caught.value.hint


@pytest.mark.parametrize(
    "text", ["%", "_", "j%", "job_", "\\", "j\\", "job1\\", "' OR 1=1 --", "*"]
)
def test_a_wildcard_means_itself(text: str) -> None:
    make_job(key="job1")
    with pytest.raises(JobNotFound):
        find(text)


@pytest.mark.parametrize("key", ["50%", "a_b", "a\\b", "' OR 1=1 --", "é x"])
def test_an_id_with_strange_characters_is_found_by_its_beginning(key: str) -> None:
    make_job(key=key)
    make_job(key="other")
    assert find(key) == key and find(key[: len(key) - 1]) == key


def test_a_prefix_tells_upper_case_from_lower() -> None:
    make_job(key="job1")
    with pytest.raises(JobNotFound):
        find("JOB")


def test_a_missing_id_is_answered_with_the_closest() -> None:
    for key in ("job1", "job10", "nightly"):
        make_job(key=key)
    with pytest.raises(JobNotFound, match=r"^Job 'job9' not found$") as caught:
        find("job9")
    assert caught.value.hint.startswith("closest ids: job1")


@pytest.mark.parametrize(("kept", "text"), [(40, 41), (41, 40), (128, 127)])
def test_a_long_id_is_nobodys_neighbour(kept: int, text: int) -> None:
    """To compare a thousand of them with one took 18 seconds."""
    make_job(key="x" * kept)
    with pytest.raises(JobNotFound) as caught:
        operations.find("x" * text, by_prefix=False)
    assert "closest" not in caught.value.hint


@pytest.mark.parametrize("text", ["", "\0", "a\0b", "\ud800", "x" * 10_000])
def test_a_text_that_can_be_no_id_is_not_found(text: str) -> None:
    make_job(key="a")
    with pytest.raises(JobNotFound):
        find(text)


def test_a_surface_may_refuse_prefixes() -> None:
    make_job(key="job1")
    with pytest.raises(JobNotFound):
        operations.find("job", by_prefix=False)


# Settings


def test_a_setting_is_stored_as_a_number_with_who_set_it() -> None:
    assert operations.set_setting("max_retries", "5", ANN) == 5
    row = Setting.objects.get()
    assert (row.key, row.value, row.updated_by) == ("max-retries", 5, "ann")


def test_a_changed_setting_is_one_event_with_before_and_after() -> None:
    operations.set_setting("max-retries", "5", ANN)
    operations.set_setting("max-retries", "6", ANN)
    first, second = Event.objects.order_by("id")
    assert (first.before, first.after) == ("3", "5")
    assert (second.before, second.after) == ("5", "6")


@pytest.mark.parametrize(("name", "text"), [("max-retries", "-1"), ("nonsense", "1")])
def test_a_refused_setting_stores_nothing(name: str, text: str) -> None:
    with pytest.raises(InvalidField):
        operations.set_setting(name, text, ANN)
    assert not Setting.objects.exists() and not Event.objects.exists()


def test_the_policy_is_what_is_stored_and_defaults() -> None:
    operations.set_setting("backoff-base", "3", ANN)
    policy = Setting.objects.policy()
    assert (policy.backoff_base, policy.max_retries) == (3.0, 3)


def test_a_setting_of_another_version_is_no_trouble() -> None:
    Setting.objects.create(key="from-the-future", value="x", updated_at=NOW)
    assert Setting.objects.policy().max_retries == 3


# Workers


def test_all_live_workers_are_asked_to_stop() -> None:
    live, dead = make_worker(), make_worker(stopped_at=NOW)
    assert [worker.id for worker in operations.stop_workers(ANN)] == [live.id]
    live.refresh_from_db()
    dead.refresh_from_db()
    assert (live.stop_requested, live.stop_requested_by) == ("drain", "ann")
    assert dead.stop_requested == ""


def test_only_the_named_workers_are_asked_to_stop() -> None:
    for name in ("a", "b"):
        make_worker(name=name)
    operations.stop_workers(ANN, names=["b"], mode=StopMode.NOW)
    assert {w.name: w.stop_requested for w in Worker.objects.all()} == {"a": "", "b": "now"}


def test_stopping_several_workers_is_one_event() -> None:
    make_worker()
    make_worker()
    operations.stop_workers(ANN)
    assert Event.objects.count() == 1


def test_stopping_no_worker_is_no_event() -> None:
    assert operations.stop_workers(ANN) == []
    assert not Event.objects.exists()


# Queues


def test_a_paused_queue_is_not_claimed_from_until_it_is_resumed() -> None:
    operations.enqueue({"command": "true", "queue": "mail"}, ANN)
    operations.pause("mail", ANN, reason="migration")
    assert ledger.survey([], dialect.now()).queues == []
    operations.resume("mail", ANN)
    assert ledger.survey([], dialect.now()).queues == ["mail"]
    assert [event.action for event in Event.objects.order_by("id")] == ["pause", "resume"]


# Permissions


def start_worker_where_allowed(actor: Actor, allowed: bool = True) -> list[int]:
    """What was started: the pid that the operation was given."""
    started: list[int] = []

    def start() -> int:
        assert Event.objects.filter(action="start").exists(), "it was started before its event"
        started.append(4711)
        return 4711

    with override_settings(QUEUECTL={"START_WORKERS_FROM_WEB": allowed}):
        try:
            assert operations.start_worker(actor, start, host="here") == 4711
        except NotPermitted:
            assert not started, "it was started before it was refused"
            raise
    return started


def test_a_worker_that_was_started_from_the_web_leaves_its_event() -> None:
    start_worker_where_allowed(ANN)
    event = Event.objects.get()
    assert (event.actor, event.action, event.subject) == ("ann", "start", "a worker on here")


@override_settings(QUEUECTL={"START_WORKERS_FROM_WEB": True})
def test_a_start_whose_event_cannot_be_written_starts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("the database has gone away")

    monkeypatch.setattr("jobs.operations.workers.record", away)
    with pytest.raises(OperationalError):
        operations.start_worker(ANN, lambda: pytest.fail("it was started"), host="here")


def test_a_site_that_starts_no_workers_from_the_web_starts_none_for_anybody() -> None:
    root = Actor("root", "web", User.objects.create_superuser("root"))
    with pytest.raises(NotPermitted, match="does not start workers"):
        start_worker_where_allowed(root, allowed=False)
    assert not Event.objects.exists()


NEEDED: dict[str, tuple[str, Callable[[Actor], Any]]] = {
    "retry": ("operate_job", lambda a: operations.retry(make_job(state=S.DEAD), a)),
    "run now": ("operate_job", lambda a: operations.run_now(make_job(state=S.FAILED), a)),
    "cancel": ("operate_job", lambda a: operations.cancel(make_job(), a)),
    "discard": ("delete_job", lambda a: operations.discard(make_job(), a)),
    "retry many": ("operate_job", BULK["retry"]),
    "cancel many": ("operate_job", BULK["cancel"]),
    "discard many": ("delete_job", BULK["discard"]),
    "set": ("change_setting", lambda a: operations.set_setting("max-retries", "5", a)),
    "stop": ("operate_worker", lambda a: operations.stop_workers(a)),
    "start": ("start_worker", lambda a: start_worker_where_allowed(a)),
}


@pytest.mark.parametrize("name", NEEDED)
def test_a_user_with_every_other_permission_may_not(name: str) -> None:
    needed, operate = NEEDED[name]
    make_job(key="bystander", state=S.DEAD)
    make_worker()
    user = User.objects.create_user("someone")
    user.user_permissions.set(Permission.objects.exclude(codename=needed))
    with pytest.raises(NotPermitted, match="someone") as caught:
        operate(Actor("someone", "web", user))
    assert needed in caught.value.hint
    assert Job.objects.get(key="bystander").state == S.DEAD
    assert not Setting.objects.exists() and not Worker.objects.exclude(stop_requested="").exists()


@pytest.mark.parametrize("name", NEEDED)
def test_a_user_with_the_one_permission_may(name: str) -> None:
    needed, operate = NEEDED[name]
    user = User.objects.create_user("someone")
    user.user_permissions.set(Permission.objects.filter(codename=needed))
    operate(Actor("someone", "web", user))


@pytest.mark.parametrize("name", NEEDED)
def test_nobody_in_particular_may_not(name: str) -> None:
    with pytest.raises(NotPermitted):
        NEEDED[name][1](Actor("anonymous", "web", AnonymousUser()))
