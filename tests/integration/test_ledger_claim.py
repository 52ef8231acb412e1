import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs import conf, ledger
from jobs.dialect.claims import MANY_QUEUES
from jobs.models import Attempt, Job, Queue, Worker
from jobs.outcome import Kind
from jobs.states import JobState
from jobs.work import Run, Work
from tests.integration.builders import (
    NOW,
    POLICY,
    claim,
    claim_one,
    keys,
    make_job,
    make_jobs,
    make_queues,
    make_worker,
    report,
    seconds,
)

pytestmark = pytest.mark.django_db

ROOM = ledger.Room(free=1)
TASK = {"task": "tests.task_functions.add", "args": {"args": [1, 2], "kwargs": {}}}
NOT_PENDING = [state for state in JobState if state is not JobState.PENDING]


def test_claim_takes_the_highest_priority_first() -> None:
    for priority in (5, -3, 900, 6):
        make_job(key=str(priority), priority=priority)
    assert keys(claim(make_worker())) == ["900", "6", "5", "-3"]


def test_claim_takes_what_was_due_first_among_equals() -> None:
    for age in (1, 30, 7):
        make_job(key=str(age), due_at=NOW - seconds(age))
    assert keys(claim(make_worker())) == ["30", "7", "1"]


def test_claim_keeps_the_order_of_enqueueing_among_equals() -> None:
    jobs = make_jobs(5)
    assert keys(claim(make_worker())) == [job.key for job in jobs]


def test_claim_merges_queues_by_priority_and_due_time() -> None:
    for key, queue, priority, age in (
        ("third", "a", 5, 1),
        ("first", "b", 6, 0),
        ("second", "b", 5, 9),
        ("fourth", "b", 5, 0),
    ):
        make_job(key=key, queue=queue, priority=priority, due_at=NOW - seconds(age))
    found = claim(make_worker(), queues=["a", "b"])
    assert keys(found) == ["first", "second", "third", "fourth"]


@pytest.mark.parametrize(("free", "ahead", "taken"), [(0, 0, 0), (1, 0, 1), (2, 3, 5), (9, 9, 6)])
def test_claim_takes_no_more_than_it_was_allowed(free: int, ahead: int, taken: int) -> None:
    make_jobs(6)
    assert len(claim(make_worker(), free=free, ahead=ahead)) == taken


def test_claim_takes_no_more_jobs_that_one_loss_would_end_than_it_was_allowed() -> None:
    for key, losses in (("a", 2), ("b", 2), ("c", 1), ("d", 0)):
        make_job(key=key, losses=losses)
    found = claim(make_worker(), wary=1)
    assert keys(found) == ["a", "c", "d"]
    assert [work.wary for work in found] == [True, False, False]


def test_jobs_that_one_loss_would_end_do_not_stand_in_the_way() -> None:
    for key, losses in (("a", 2), ("b", 2), ("c", 0)):
        make_job(key=key, losses=losses)
    assert keys(claim(make_worker(), free=1, wary=0)) == ["c"]
    assert ledger.is_claimable(["default"], ROOM)
    assert not ledger.is_claimable(["default"], ledger.Room(free=1, wary=0))


def test_claim_over_many_queues_takes_no_more_than_it_was_allowed() -> None:
    for queue in "abc":
        make_jobs(4, queue=queue)
    claim(make_worker(), free=3, ahead=2, queues=list("abc"))
    assert Job.objects.processing().count() == 5


def test_the_best_jobs_are_for_the_free_slots_and_the_rest_ahead() -> None:
    make_jobs(5)
    found = claim(make_worker(), free=2, ahead=2)
    assert [work.ahead for work in found] == [False, False, True, True]


def test_a_job_claimed_for_a_free_slot_counts_as_started() -> None:
    make_job()
    claim_one(make_worker())
    assert Job.objects.get().started_at == NOW


def test_a_job_claimed_ahead_does_not_count_as_started() -> None:
    make_job()
    claim(make_worker(), free=0, ahead=1)
    assert Job.objects.get().started_at is None


def test_a_claimed_job_is_processing_under_the_workers_lease() -> None:
    worker, job = make_worker(), make_job()
    work = claim_one(worker)
    job.refresh_from_db()
    assert (job.state, job.worker_id) == (JobState.PROCESSING, worker.id)
    assert job.lease is not None and work.lease == f"{job.lease.hex}-{job.id}"


def test_each_claim_has_a_fresh_lease() -> None:
    make_job()
    worker = make_worker()
    first = claim_one(worker)
    ledger.release([first], now=NOW)
    assert claim_one(worker).lease != first.lease


def test_no_two_jobs_share_a_lease() -> None:
    make_jobs(5)
    assert len({work.lease for work in claim(make_worker())}) == 5


@pytest.mark.parametrize("state", NOT_PENDING)
def test_only_pending_jobs_are_claimed(state: JobState) -> None:
    make_job(state=state)
    assert claim(make_worker()) == []


def test_a_claimed_job_is_not_claimed_again() -> None:
    make_jobs(3)
    claim(make_worker())
    assert claim(make_worker()) == []


def test_only_the_named_queues_are_claimed_from() -> None:
    make_job(queue="a")
    make_job(key="mine", queue="b")
    make_job(queue="b2")
    assert keys(claim(make_worker(), queues=["b"])) == ["mine"]


def test_no_queues_no_claim() -> None:
    make_job()
    assert claim(make_worker(), queues=[]) == []


def test_a_job_not_to_be_prefetched_is_never_claimed_ahead_and_nobody_passes_it() -> None:
    """Where short jobs never end no slot would ever be free for it."""
    make_job(key="a")
    make_job(key="suspect", prefetchable=False)
    make_job(key="c")
    assert keys(claim(make_worker(), free=1, ahead=5)) == ["a"]
    assert not ledger.is_claimable(["default"], ledger.Room(free=0, ahead=5))
    assert keys(claim(make_worker(), free=1, ahead=5)) == ["suspect", "c"]


def test_a_job_not_to_be_prefetched_is_claimed_for_a_free_slot() -> None:
    make_job(key="suspect", prefetchable=False)
    assert keys(claim(make_worker(), free=1)) == ["suspect"]


def test_a_job_whose_cancellation_was_asked_for_is_not_run_again() -> None:
    make_job(key="unwanted", cancel_requested_at=NOW)
    make_job(key="wanted")
    assert keys(claim(make_worker())) == ["wanted"]


def test_a_job_whose_cancellation_was_asked_for_ends_at_the_claim() -> None:
    job = make_job(cancel_requested_at=NOW)
    claim(make_worker())
    job.refresh_from_db()
    assert (job.state, job.finished_at, job.lease) == (JobState.CANCELLED, NOW, None)


def test_a_job_that_ends_at_the_claim_has_no_attempt() -> None:
    job = make_job(cancel_requested_at=NOW)
    claim(make_worker())
    job.refresh_from_db()
    assert (job.runs, Attempt.objects.count()) == (0, 0)


def test_a_work_carries_what_its_job_asked_for() -> None:
    make_job(
        key="full", argv=["ls", "-l"], cwd="/tmp", env={"A": "1"}, timeout=7.5, backoff_base=3.0,
        max_retries=9, attempts=2, losses=1, interruptions=4, runs=6,
    )  # fmt: skip
    work = claim_one(make_worker())
    assert (work.key, work.command, work.argv, work.cwd, work.env) == (
        "full", None, ["ls", "-l"], "/tmp", {"A": "1"},
    )  # fmt: skip
    assert (work.timeout, work.backoff_base, work.max_retries) == (7.5, 3.0, 9)
    assert (work.attempts, work.losses, work.interruptions, work.number) == (2, 1, 4, 7)


def test_a_work_takes_the_policys_defaults_where_its_job_has_none() -> None:
    make_job(timeout=None, backoff_base=None)
    policy = conf.policy({"job-timeout": 7, "backoff-base": 3.0, "backoff-jitter": 0.25})
    room = ledger.Room(free=1)
    [work] = ledger.claim(make_worker().id, ["default"], room, policy=policy, now=NOW)
    assert (work.timeout, work.backoff_base, work.backoff_jitter) == (7, 3.0, 0.25)


def test_a_works_repr_hides_what_it_runs() -> None:
    make_job(command="echo hunter2", env={"A": "hunter2"})
    assert "hunter2" not in repr(claim_one(make_worker()))


@pytest.mark.parametrize(
    ("fields", "active"),
    [
        ({}, True),
        ({"paused_at": NOW - seconds(1)}, False),
        ({"paused_at": NOW - seconds(9), "paused_until": NOW + seconds(1)}, False),
        ({"paused_at": NOW - seconds(9), "paused_until": NOW}, True),
        ({"paused_at": NOW - seconds(9), "paused_until": NOW - seconds(1)}, True),
    ],
)
def test_a_paused_queue_is_not_served_until_its_pause_is_over(
    fields: dict[str, object], active: bool
) -> None:
    mail = Queue.objects.create(name="mail", created_at=NOW, **fields)
    make_job(queue="mail")
    assert (ledger.survey([], NOW).queues == ["mail"]) is active
    assert mail.is_paused(NOW) is not active
    make_queues(*(f"other-{number}" for number in range(MANY_QUEUES)))
    assert (ledger.survey([], NOW).queues == ["mail"]) is active


def test_a_worker_of_named_queues_serves_those_that_exist() -> None:
    make_queues("a", "b", "c")
    assert ledger.survey(["c", "a", "zzz"], NOW).queues == ["a", "c"]


def test_a_worker_of_all_queues_serves_every_one() -> None:
    make_queues("b", "a")
    assert ledger.survey([], NOW).queues == ["a", "b"]


def test_of_many_queues_those_are_asked_in_which_something_is_pending() -> None:
    make_queues("b", "a", "later", "é", *(f"idle-{number}" for number in range(MANY_QUEUES)))
    make_jobs(3, queue="b")
    make_jobs(2, queue="a")
    make_job(queue="é")
    make_job(queue="later", state=JobState.SCHEDULED)
    assert ledger.survey([], NOW).queues == ["a", "b", "é"]


def test_a_turn_asks_no_more_where_there_are_a_thousand_queues() -> None:
    make_queues(*(f"customer-{number}" for number in range(1000)))
    make_job(queue="customer-500")
    with CaptureQueriesContext(connection) as captured:
        survey = ledger.survey([], NOW)
        works = claim(make_worker(), survey.queues)
    assert keys(works) == [Job.objects.get().key]
    assert sum("queuectl_job" in query["sql"] for query in captured) <= 4


def test_a_look_finds_claimable_jobs_in_its_queues_only() -> None:
    make_job(queue="a")
    make_job(queue="b", state=JobState.SCHEDULED)
    assert ledger.is_claimable(["b", "a"], ROOM) and not ledger.is_claimable(["b"], ROOM)


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.PROCESSING, JobState.FAILED])
def test_a_queue_with_work_to_come_is_not_empty(state: JobState) -> None:
    make_job(queue="a", state=state)
    found = [ledger.is_empty(queues, NOW) for queues in (["a"], [], ["b"])]
    assert found == [False, False, True]


@pytest.mark.parametrize(
    "state", [JobState.COMPLETED, JobState.DEAD, JobState.CANCELLED, JobState.SCHEDULED]
)
def test_a_queue_with_nothing_to_run_soon_is_empty(state: JobState) -> None:
    make_job(state=state)
    assert ledger.is_empty([], NOW)


@pytest.mark.parametrize(("in_seconds", "empty"), [(-1, False), (1, False), (30, True)])
def test_a_queue_is_not_empty_of_what_was_put_off_for_a_moment(
    in_seconds: int, empty: bool
) -> None:
    later = NOW + seconds(in_seconds)
    make_job(state=JobState.SCHEDULED, due_at=later, put_off_since=NOW)
    make_job(state=JobState.SCHEDULED, due_at=NOW + seconds(1))
    assert ledger.is_empty([], NOW) is empty
    assert ledger.is_empty([], NOW + seconds(60)), (
        "what cannot be started for a minute is not waited for"
    )


# Tasks


def with_room(worker: Worker, **room: Any) -> list[Work]:
    return ledger.claim(worker.id, ["default"], ledger.Room(**room), policy=POLICY, now=NOW)


def test_no_more_tasks_are_claimed_than_there_is_room_for() -> None:
    make_jobs(4, **TASK)
    assert len(with_room(make_worker(), free=4, tasks=2)) == 2
    assert len(with_room(make_worker(), free=4, tasks=4)) == 2


def test_no_task_is_claimed_where_none_has_room() -> None:
    make_job(**TASK)
    worker = make_worker()
    assert with_room(worker, free=9, ahead=9, tasks=0, tasks_ahead=0) == []
    assert not ledger.is_claimable(["default"], ledger.Room(free=9, tasks=0))
    assert not ledger.is_claimable(
        ["default"], ledger.Room(free=9, ahead=9, tasks=0, tasks_ahead=0)
    )
    assert ledger.is_claimable(["default"], ledger.Room(free=9, tasks=1))


def test_commands_behind_tasks_are_not_held_up_where_no_task_has_room() -> None:
    make_jobs(30, priority=9, **TASK)
    make_job(key="behind")
    assert ledger.is_claimable(["default"], ledger.Room(free=1, tasks=0))
    assert keys(with_room(make_worker(), free=2, tasks=0)) == ["behind"]


def test_a_task_for_which_there_is_no_room_takes_no_slot() -> None:
    for key, fields in (("t1", TASK), ("t2", TASK), ("c1", {}), ("c2", {})):
        make_job(key=key, **fields)
    found = with_room(make_worker(), free=4, tasks=1)
    assert keys(found) == ["t1", "c1", "c2"]


def test_ahead_only_one_kind_is_claimed() -> None:
    for key, fields in (("c1", {}), ("c2", {}), ("t1", TASK), ("c3", {})):
        make_job(key=key, **fields)
    commands, tasks = frozenset({"command"}), frozenset({"task"})
    assert with_room(make_worker(), free=0, ahead=9, held=tasks) == []
    assert with_room(make_worker(), free=0, ahead=9, held=commands | tasks) == []
    assert not ledger.is_claimable(["default"], ledger.Room(free=0, ahead=9, held=tasks))
    assert ledger.is_claimable(["default"], ledger.Room(free=1, held=tasks))
    assert keys(with_room(make_worker(), free=1, ahead=9)) == ["c1", "c2"]
    assert keys(with_room(make_worker(), free=1, ahead=9, held=commands)) == ["t1"]


def test_the_bounds_on_tasks_and_on_the_wary_hold_together() -> None:
    for key, fields in (
        ("wary task", TASK | {"losses": 2}),
        ("wary", {"losses": 2}),
        ("one more", {"losses": 2}),
        ("task", TASK),
        ("command", {}),
    ):
        make_job(key=key, **fields)
    found = with_room(make_worker(), free=5, wary=1, tasks=1)
    assert keys(found) == ["wary task", "wary", "command"]


def test_a_wary_task_needs_no_command_runner_without_one() -> None:
    make_job(key="task", losses=2, **TASK)
    make_job(key="command", losses=2)
    assert ledger.is_claimable(["default"], ledger.Room(free=1, wary=0))
    assert keys(with_room(make_worker(), free=4, wary=0)) == ["task"]


def test_a_task_without_a_process_waits_behind_a_short_one_or_is_left_to_others() -> None:
    for key, fields in (("t1", TASK), ("t2", TASK), ("c1", {}), ("t3", TASK), ("c2", {})):
        make_job(key=key, **fields)
    held = frozenset({"task"})
    found = with_room(make_worker(), free=2, ahead=9, tasks=0, tasks_ahead=1, held=held)
    assert [(work.key, work.ahead) for work in found] == [
        ("c1", False),
        ("c2", False),
        ("t1", True),
    ]


def test_commands_behind_many_tasks_are_found_for_slots_that_no_task_can_have() -> None:
    make_jobs(9, **TASK)
    make_job(key="command")
    room: dict[str, Any] = {"tasks": 0, "tasks_ahead": 1, "held": frozenset({"task", "command"})}
    assert ledger.is_claimable(["default"], ledger.Room(free=2, ahead=1, **room))
    assert keys(with_room(make_worker(), free=2, ahead=1, **room)) == ["command"]


def test_commands_taken_ahead_do_not_pass_a_task_that_needs_only_a_slot() -> None:
    make_job(key="task", **TASK)
    make_jobs(9)
    room: dict[str, Any] = {"tasks": 4, "tasks_ahead": 0, "held": frozenset({"command"})}
    assert not ledger.is_claimable(["default"], ledger.Room(free=0, ahead=5, **room))
    assert with_room(make_worker(), free=0, ahead=5, **room) == []
    assert keys(with_room(make_worker(), free=1, ahead=5, **room)) == ["task"]


def test_a_look_and_a_claim_agree_on_who_is_first_of_several_queues() -> None:
    make_queues("a", "b")
    make_job(queue="a", priority=9, **TASK)
    make_job(queue="b")
    room = ledger.Room(free=0, ahead=5, tasks=4, tasks_ahead=0, held=frozenset({"command"}))
    assert not ledger.is_claimable(["a", "b"], room)
    assert ledger.claim(make_worker().id, ["a", "b"], room, policy=POLICY, now=NOW) == []


def test_a_full_queue_of_commands_is_asked_once_however_few_tasks_there_is_room_for() -> None:
    make_jobs(9)
    with CaptureQueriesContext(connection) as queries:
        assert len(with_room(make_worker(), free=5, tasks=1)) == 5
        assert ledger.is_claimable(["default"], ledger.Room(free=5, tasks=0))
    assert sum("ORDER BY priority" in query["sql"] for query in queries) == 2


def test_no_task_passes_another_for_which_there_is_no_room() -> None:
    make_job(key="suspect", prefetchable=False, **TASK)
    make_job(key="later", **TASK)
    make_job(key="command")
    held = frozenset({"task"})
    assert keys(with_room(make_worker(), free=2, ahead=9, tasks=0, held=held)) == ["command"]


def test_a_task_is_told_what_its_result_tells() -> None:
    make_job(
        queue="default", priority=7, run_at=NOW - seconds(60), created_at=NOW - seconds(90), **TASK
    )
    work = claim_one(make_worker())
    assert (work.task, work.command) == (TASK["task"], None)
    assert json.loads(work.args or "") == TASK["args"]
    assert work.about is not None
    assert (work.about.queue, work.about.priority, work.about.past) == ("default", 7, ())
    assert work.about.run_at == (NOW - seconds(60)).timestamp()
    assert work.about.enqueued_at == (NOW - seconds(90)).timestamp()


def test_a_command_is_told_nothing_of_results() -> None:
    make_job()
    assert claim_one(make_worker()).about is None


def test_the_setting_for_commands_is_no_timeout_of_a_task() -> None:
    make_job(**TASK)
    make_job(key="own", timeout=7.0, **TASK)
    assert [work.timeout for work in claim(make_worker())] == [None, 7.0]


def past(work: Work) -> tuple[Run, ...]:
    assert work.about is not None
    return work.about.past


def test_a_retried_task_is_told_its_past() -> None:
    first, second = make_worker(name="first"), make_worker(name="second")
    job = make_job(**TASK)
    report(first, claim_one(first), Kind.FAILED, error="ValueError: x", traceback="Traceback x")
    Job.objects.filter(id=job.id).update(state="pending")
    report(second, claim_one(second), Kind.LOST, error="Lost with its worker")
    work = claim_one(make_worker())
    assert work.number == 3
    began = (NOW - seconds(2)).timestamp()
    assert past(work) == (
        Run(began, "failed", "ValueError: x", "Traceback x", "first"),
        Run(began, "lost", "Lost with its worker", "", "second"),
    )


def test_each_task_of_a_claim_is_told_its_own_past_and_a_new_one_none() -> None:
    worker = make_worker()
    make_jobs(2, **TASK)
    report(worker, claim(worker), Kind.INTERRUPTED, error="stop")
    make_job(key="new", **TASK)
    found = claim(worker)
    assert [len(past(work)) for work in found] == [1, 1, 0]


def test_a_task_with_a_long_past_is_told_all_of_it_and_the_end_in_full() -> None:
    job, before = make_job(runs=25, **TASK), make_worker(name="before")
    for number in range(1, 26):
        Attempt.objects.create(
            job=job,
            number=number,
            worker=before,
            started_at=NOW + seconds(number),
            outcome="failed",
            finished_at=NOW + seconds(number),
            error=f"ValueError: #{number} {'x' * 1000}",
            traceback=f"Traceback {number}",
        )
    found = past(claim_one(make_worker()))
    assert [run.started_at for run in found] == [NOW.timestamp() + n for n in range(1, 26)]
    assert {run.worker for run in found} == {"before"}
    assert [run.traceback for run in found] == [""] * 5 + [f"Traceback {n}" for n in range(6, 26)]
    assert [len(run.error) > 1000 for run in found] == [False] * 5 + [True] * 20
    assert found[0].error.startswith("ValueError: #1 ") and len(found[0].error) == 200


def test_a_task_with_a_very_long_past_is_told_of_the_end_of_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or a claim of it would keep its queue waiting."""
    job, read = make_job(runs=20_000, **TASK), list[float]()
    ended = {"outcome": "failed", "started_at": NOW, "finished_at": NOW}
    Attempt.objects.bulk_create(
        [Attempt(job=job, number=number, **ended) for number in range(1, 20_001)], batch_size=1000
    )

    def run(began: float, *more: Any) -> Run:
        read.append(began)
        return Run(began, *more)

    monkeypatch.setattr("jobs.ledger.claiming.Run", run)
    work = claim_one(make_worker())
    assert (work.number, len(past(work)), len(read)) == (20_001, 200, 200)


def test_a_task_that_was_put_off_knows_since_when() -> None:
    make_job(put_off_since=NOW - seconds(99), **TASK)
    assert claim_one(make_worker()).put_off_since == NOW - seconds(99)
