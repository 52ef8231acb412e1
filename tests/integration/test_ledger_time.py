"""Promotion, heartbeats and the rescue of what a dead worker held."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any

import pytest

from jobs import dialect, ledger, lockfile
from jobs.models import Attempt, Job, Worker
from jobs.states import JobState
from jobs.worker import maintenance
from tests.integration.builders import (
    NOW,
    POLICY,
    claim,
    claim_one,
    make_job,
    make_jobs,
    make_worker,
    seconds,
)

pytestmark = pytest.mark.django_db

TIMED = pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.FAILED])
LEASE = seconds(60)


@TIMED
def test_promote_makes_due_jobs_pending(state: JobState) -> None:
    job = make_job(state=state, due_at=NOW)
    assert ledger.promote(NOW) == 1
    job.refresh_from_db()
    assert (job.state, job.due_at) == (JobState.PENDING, NOW)


@TIMED
def test_promote_leaves_what_is_not_due(state: JobState) -> None:
    make_job(state=state, due_at=NOW + timedelta(microseconds=1))
    assert ledger.promote(NOW) == 0
    assert Job.objects.get().state == state


@pytest.mark.parametrize(
    "state", [JobState.BLOCKED, JobState.COMPLETED, JobState.DEAD, JobState.CANCELLED]
)
def test_promote_touches_no_other_state(state: JobState) -> None:
    make_job(state=state, due_at=NOW - seconds(5))
    assert ledger.promote(NOW) == 0
    assert Job.objects.get().state == state


def test_promote_takes_a_bounded_bite_of_each_state_longest_due_first() -> None:
    for age in range(5):
        for state in (JobState.SCHEDULED, JobState.FAILED):
            make_job(key=f"{state}{age}", state=state, due_at=NOW - seconds(age))
    assert ledger.promote(NOW, limit=2) == 4
    promoted = set(Job.objects.pending().values_list("key", flat=True))
    assert promoted == {"scheduled4", "scheduled3", "failed4", "failed3"}


def test_bites_promote_everything_in_the_end() -> None:
    make_jobs(5, state=JobState.SCHEDULED)
    assert [ledger.promote(NOW, limit=2) for _ in range(4)] == [2, 2, 1, 0]


@TIMED
def test_a_look_sees_that_something_is_due(state: JobState) -> None:
    make_job(state=state, due_at=NOW)
    assert ledger.survey((), NOW).due and not ledger.survey((), NOW - seconds(1)).due


def test_nothing_is_due_where_nothing_waits() -> None:
    make_job()
    assert not ledger.survey((), NOW).due and ledger.next_due() is None


def test_the_next_due_time_is_the_earliest_of_both_states() -> None:
    make_job(state=JobState.SCHEDULED, due_at=NOW + seconds(9))
    make_job(state=JobState.FAILED, due_at=NOW + seconds(4))
    make_job(due_at=NOW - seconds(9))
    assert ledger.next_due() == NOW + seconds(4)


# Heartbeat


def test_a_heartbeat_renews_the_lease() -> None:
    worker = make_worker(heartbeat_at=NOW - seconds(30))
    assert ledger.heartbeat(worker.id, worker.lock, draining=True, now=NOW)
    worker.refresh_from_db()
    assert (worker.heartbeat_at, worker.draining) == (NOW, True)


def test_the_heartbeat_of_a_stopped_worker_is_refused() -> None:
    worker = make_worker(heartbeat_at=NOW - seconds(99), stopped_at=NOW)
    assert not ledger.heartbeat(worker.id, worker.lock, draining=False, now=NOW)
    worker.refresh_from_db()
    assert worker.heartbeat_at == NOW - seconds(99)


def test_the_heartbeat_of_a_worker_whose_number_is_another_s_is_refused() -> None:
    other = make_worker(heartbeat_at=NOW - seconds(9))
    assert not ledger.heartbeat(other.id, "another's.lock", draining=True, now=NOW)
    ledger.close(other.id, "another's.lock", end="stopped", now=NOW)
    other.refresh_from_db()
    assert (other.heartbeat_at, other.draining, other.stopped_at) == (NOW - seconds(9), False, None)


def test_a_worker_is_silent_once_its_lease_has_run_out() -> None:
    silent = make_worker(heartbeat_at=NOW - LEASE - seconds(1))
    make_worker(heartbeat_at=NOW - LEASE)
    make_worker(heartbeat_at=NOW - seconds(999), stopped_at=NOW)
    assert list(Worker.objects.silent(NOW, LEASE)) == [silent]
    assert [w for w in Worker.objects.live() if w.is_silent(NOW, LEASE)] == [silent]


def test_a_worker_is_silent_whose_heartbeat_is_of_a_clock_that_was_set_back() -> None:
    make_worker(heartbeat_at=NOW + LEASE)
    silent = make_worker(heartbeat_at=NOW + LEASE + seconds(1))
    assert list(Worker.objects.silent(NOW, LEASE)) == [silent]
    assert [w for w in Worker.objects.live() if w.is_silent(NOW, LEASE)] == [silent]


def test_a_worker_that_ends_by_itself_closes_its_row() -> None:
    worker = make_worker()
    ledger.close(worker.id, worker.lock, end="stopped", now=NOW)
    worker.refresh_from_db()
    assert (worker.stopped_at, worker.end) == (NOW, "stopped")


# Rescue


def rescue(worker: Worker, silent: bool = False) -> int:
    heard = worker.heartbeat_at if silent else None
    return ledger.rescue(worker.id, last_heard=heard, now=NOW, why="its heartbeat stopped")


def test_a_job_that_had_started_is_lost() -> None:
    worker, job = make_worker(), make_job(due_at=NOW - seconds(9))
    claim_one(worker)
    assert rescue(worker) == 1
    job.refresh_from_db()
    assert (job.state, job.losses, job.attempts) == (JobState.PENDING, 1, 0)
    assert (job.lease, job.due_at) == (None, NOW - seconds(9))


def test_a_lost_attempt_is_recorded_with_the_worker_that_lost_it() -> None:
    worker = make_worker(name="web-1")
    make_job()
    claim_one(worker)
    rescue(worker)
    attempt = Attempt.objects.get()
    assert (attempt.outcome, attempt.worker_id, attempt.number) == ("lost", worker.id, 1)
    assert "web-1" in attempt.error


def test_a_job_that_had_not_started_goes_back_at_no_cost() -> None:
    worker, job = make_worker(), make_job()
    claim(worker, free=0, ahead=1)
    assert rescue(worker) == 1
    job.refresh_from_db()
    assert (job.state, job.losses) == (JobState.PENDING, 0)
    assert not Attempt.objects.exists()


def test_a_job_that_may_have_started_a_moment_before_gets_a_new_number() -> None:
    worker, job = make_worker(), make_job()
    [first] = claim(worker, free=0, ahead=1)
    rescue(worker)
    [second] = claim(make_worker())
    assert (first.number, second.number) == (1, 2)
    job.refresh_from_db()
    assert job.runs == 1


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_rescued_job_is_never_prefetched_again(ahead: int) -> None:
    worker, job = make_worker(), make_job()
    claim(worker, free=1 - ahead, ahead=ahead)
    rescue(worker)
    job.refresh_from_db()
    assert not job.prefetchable


def test_the_third_loss_of_a_series_is_death() -> None:
    job = make_job()
    for _ in range(3):
        worker = make_worker()
        claim_one(worker)
        rescue(worker)
    job.refresh_from_db()
    assert (job.state, job.losses, Attempt.objects.count()) == (JobState.DEAD, 3, 3)


def test_a_claim_of_a_worker_that_was_declared_dead_meanwhile_is_taken_after_a_lease() -> None:
    worker, started, waiting = make_worker(), make_job(priority=9), make_job()
    ledger.close(worker.id, worker.lock, end="its heartbeat stopped", now=NOW)
    claim(worker, free=1, ahead=1)
    assert rescue(worker) == ledger.rescue_strays(NOW + LEASE) == 0
    assert ledger.rescue_strays(NOW + LEASE + seconds(1)) == 2
    started.refresh_from_db()
    waiting.refresh_from_db()
    assert (started.state, started.losses) == (JobState.PENDING, 1)
    assert (waiting.state, waiting.losses) == (JobState.PENDING, 0)
    assert Attempt.objects.get().worker_id == worker.id


def test_a_claim_that_is_dated_by_a_clock_that_was_set_back_is_taken_as_well() -> None:
    worker = make_worker()
    make_job()
    ledger.close(worker.id, worker.lock, end="its heartbeat stopped", now=NOW)
    claim_one(worker)
    assert ledger.rescue_strays(NOW - LEASE) == 0
    assert ledger.rescue_strays(NOW - LEASE - seconds(1)) == 1


def test_a_job_in_the_hands_of_a_live_worker_is_no_stray() -> None:
    make_job()
    claim_one(make_worker())
    assert ledger.rescue_strays(NOW + seconds(9999)) == 0


def test_a_rescued_job_whose_cancellation_was_asked_for_ends() -> None:
    worker, job = make_worker(), make_job()
    claim_one(worker)
    Job.objects.update(cancel_requested_at=NOW)
    rescue(worker)
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED


def test_an_unstarted_rescued_job_whose_cancellation_was_asked_for_ends() -> None:
    worker, job = make_worker(), make_job()
    claim(worker, free=0, ahead=1)
    Job.objects.update(cancel_requested_at=NOW)
    rescue(worker)
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED


def test_a_heartbeat_that_came_back_keeps_its_jobs() -> None:
    worker = make_worker(heartbeat_at=NOW - LEASE - seconds(1))
    make_job()
    claim_one(worker)
    ledger.heartbeat(worker.id, worker.lock, draining=False, now=NOW)
    assert rescue(worker, silent=True) == 0
    worker.refresh_from_db()
    assert worker.stopped_at is None and Job.objects.processing().exists()


def test_a_silent_worker_loses_its_jobs() -> None:
    worker = make_worker(heartbeat_at=NOW - LEASE - seconds(1))
    make_job()
    claim_one(worker)
    assert rescue(worker, silent=True) == 1


def test_the_row_of_a_dead_worker_is_closed_once_nothing_is_left() -> None:
    worker = make_worker()
    make_job()
    claim_one(worker)
    rescue(worker)
    worker.refresh_from_db()
    assert worker.stopped_at is None
    assert rescue(worker) == 0
    worker.refresh_from_db()
    assert (worker.stopped_at, worker.end) == (NOW, "its heartbeat stopped")


def test_a_rescue_takes_a_bounded_bite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger.living, "RESCUE_BITE", 2)
    worker = make_worker()
    make_jobs(5)
    claim(worker)
    assert [rescue(worker) for _ in range(4)] == [2, 2, 1, 0]


def test_a_rescue_leaves_the_jobs_of_others() -> None:
    worker, other = make_worker(), make_worker()
    make_jobs(2)
    claim_one(worker)
    kept = claim_one(other)
    rescue(worker)
    assert [job.key for job in Job.objects.processing()] == [kept.key]


def test_a_stopped_worker_is_not_rescued_again() -> None:
    assert rescue(make_worker(stopped_at=NOW)) == 0


def test_the_report_of_a_rescued_worker_is_late() -> None:
    from tests.integration.builders import report

    worker, job = make_worker(), make_job()
    work = claim_one(worker)
    rescue(worker)
    assert report(worker, work) == set()
    job.refresh_from_db()
    assert job.state == JobState.PENDING


def test_by_a_clock_that_is_not_believed_nobody_is_dead_and_nothing_stray(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("look", "turn"):
        monkeypatch.setattr(dialect, name, lambda: nullcontext(NOW + LEASE * 2))
    make_jobs(2)
    silent, closed = make_worker(boot=lockfile.boot()), make_worker()
    claim_one(silent)
    claim_one(closed)
    ledger.close(closed.id, closed.lock, end="", now=NOW)
    assert maintenance.rescue_all(0, believes=lambda now, began: False)[0] == 0
    assert maintenance.rescue_all(0)[0] == 2


def test_a_round_of_rescues_stops_in_time_and_the_next_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("look", "turn"):
        monkeypatch.setattr(dialect, name, lambda: nullcontext(NOW + LEASE * 2))
    make_jobs(3)
    for _ in range(3):
        claim_one(make_worker(boot=lockfile.boot()))
    inner, moment = ledger.rescue, [1000.0]

    def slow(*args: Any, **options: Any) -> int:
        moment[0] += maintenance.ROUND_SECONDS
        return inner(*args, **options)

    monkeypatch.setattr(maintenance.clock, "monotonic", lambda: moment[0])
    monkeypatch.setattr(maintenance.ledger, "rescue", slow)
    *rounds, last = (maintenance.rescue_all(0) for _ in range(7))
    assert sum(rescued for rescued, _ in rounds) == 3
    assert all(cut_short for _, cut_short in rounds)
    assert last == (0, False)
    assert not Worker.objects.live().exists()


def test_the_jobs_of_a_worker_that_died_before_the_clock_was_set_back_are_rescued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("look", "turn"):
        monkeypatch.setattr(dialect, name, lambda: nullcontext(NOW - seconds(3600)))
    make_job()
    claim_one(make_worker(boot=lockfile.boot()))
    assert maintenance.rescue_all(0)[0] == 1


@pytest.mark.parametrize("dated", [3600, -3600])
def test_whoever_has_shown_a_new_heartbeat_lives_however_the_clock_was_set_between_two_looks(
    monkeypatch: pytest.MonkeyPatch, dated: int
) -> None:
    """Set, and set back: both clocks go on alike from look to look, what was beaten between is far off."""
    for name in ("look", "turn"):
        monkeypatch.setattr(dialect, name, lambda: nullcontext(NOW))
    worker, heartbeats = make_worker(boot=lockfile.boot()), maintenance.Heartbeats()
    make_job()
    claim_one(worker)
    Job.objects.update(started_at=NOW)

    def rescued_at(moment: float) -> int:
        monkeypatch.setattr(maintenance.clock, "monotonic", lambda: moment)
        return maintenance.rescue_all(0, heartbeats=heartbeats)[0]

    assert rescued_at(1000) == 0
    Worker.objects.update(heartbeat_at=NOW + seconds(dated))
    assert [rescued_at(1010), rescued_at(1059)] == [0, 0]
    assert rescued_at(1060) == 1, "a lease less a round after it was seen"


class Rescuer:
    """A worker's chores from its start on, second by second, by clocks of ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, began: datetime) -> None:
        self.began, self.lived = began, 0
        monkeypatch.setattr(maintenance.clock, "monotonic", lambda: 1000.0 + self.lived)
        for name in ("look", "turn"):
            monkeypatch.setattr(dialect, name, lambda: nullcontext(self.now))
        self.chores = maintenance.Maintenance(0)

    @property
    def now(self) -> datetime:
        return self.began + seconds(self.lived)

    def seconds_until_it_rescues(self) -> int:
        for second in range(200):
            if self.chores.run(POLICY):
                return second
            self.lived += 1
        raise AssertionError("never")


@pytest.mark.parametrize("ago", [0, 30, 3600])
def test_a_worker_that_starts_after_a_death_elsewhere_rescues_within_75_s_of_its_start(
    monkeypatch: pytest.MonkeyPatch, ago: int
) -> None:
    """However long ago that was: the clock may have been set just before it started."""
    make_job()
    claim_one(make_worker(boot=lockfile.boot(), heartbeat_at=NOW))
    rescuer = Rescuer(monkeypatch, NOW + seconds(ago))
    assert 60 <= rescuer.seconds_until_it_rescues() <= 75


def test_a_worker_that_lives_when_another_dies_elsewhere_rescues_within_75_s_of_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_job()
    claim_one(make_worker(boot=lockfile.boot(), heartbeat_at=NOW))
    rescuer = Rescuer(monkeypatch, NOW)
    for _ in range(20):
        Worker.objects.update(heartbeat_at=rescuer.now)
        for _ in range(15):
            assert not rescuer.chores.run(POLICY)
            rescuer.lived += 1
    Worker.objects.update(heartbeat_at=rescuer.now)
    assert 60 <= rescuer.seconds_until_it_rescues() <= 75


def test_the_reading_of_the_clock_that_is_judged_is_the_one_by_which_others_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be set at any moment, between two readings too."""
    worker, judged = make_worker(boot=lockfile.boot()), list[datetime]()

    @contextmanager
    def look() -> Iterator[datetime]:
        yield NOW + LEASE * len(judged)

    def believes(now: datetime, began: float) -> bool:
        judged.append(now)
        return True

    make_job()
    claim_one(worker)
    monkeypatch.setattr(dialect, "look", look)
    assert maintenance.rescue_all(0, believes=believes)[0] == 0
    assert judged == [NOW]
