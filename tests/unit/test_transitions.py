"""The decision as a truth table, and what holds for every row of it."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import transitions
from jobs.outcome import Kind, Obstacle, Outcome
from jobs.states import FINAL, TIMED, JobState
from jobs.transitions import Limits
from jobs.work import Work
from tests.unit.builders import LIMITS, NOW, outcome, work

S, K = JobState, Kind
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
SHORT = outcome(K.NOT_STARTED, obstacle=Obstacle.SHORT, error="no processes left")
UNKNOWN = outcome(K.NOT_STARTED, obstacle=Obstacle.UNKNOWN_TASK, error="Cannot import the task a.b")
FRESH: dict[str, Any] = {"attempts": 0, "max_retries": 3}
LAST: dict[str, Any] = {"attempts": 3, "max_retries": 3}
NO_RETRIES: dict[str, Any] = {"attempts": 0, "max_retries": 0}
LOST_TWICE: dict[str, Any] = {"losses": 2}
INTERRUPTED_NINE_TIMES: dict[str, Any] = {"interruptions": 9}
INTERRUPTED_TEN_TIMES: dict[str, Any] = {"interruptions": 10}
CANCEL: dict[str, Any] = {"cancel_requested": True}

STATES = [
    (K.SUCCEEDED, FRESH, S.COMPLETED),
    (K.SUCCEEDED, LAST, S.COMPLETED),
    (K.SUCCEEDED, CANCEL, S.COMPLETED),
    (K.FAILED, FRESH, S.FAILED),
    (K.FAILED, {"attempts": 2, "max_retries": 3}, S.FAILED),
    (K.FAILED, LAST, S.DEAD),
    (K.FAILED, NO_RETRIES, S.DEAD),
    (K.FAILED, {"attempts": 9, "max_retries": 3}, S.DEAD),
    (K.FAILED, CANCEL, S.CANCELLED),
    (K.FAILED, LAST | CANCEL, S.DEAD),
    (K.TIMED_OUT, FRESH, S.FAILED),
    (K.TIMED_OUT, LAST, S.DEAD),
    (K.TIMED_OUT, CANCEL, S.CANCELLED),
    (K.NOT_STARTED, FRESH, S.FAILED),
    (K.NOT_STARTED, LAST, S.DEAD),
    (K.NOT_STARTED, CANCEL, S.CANCELLED),
    (K.CANCELLED, FRESH, S.CANCELLED),
    (K.CANCELLED, CANCEL, S.CANCELLED),
    (K.CANCELLED, LAST, S.CANCELLED),
    (K.INTERRUPTED, FRESH, S.PENDING),
    (K.INTERRUPTED, LAST, S.PENDING),
    (K.INTERRUPTED, INTERRUPTED_NINE_TIMES, S.PENDING),
    (K.INTERRUPTED, INTERRUPTED_TEN_TIMES, S.DEAD),
    (K.INTERRUPTED, LOST_TWICE, S.PENDING),
    (K.INTERRUPTED, CANCEL, S.CANCELLED),
    (K.LOST, FRESH, S.PENDING),
    (K.LOST, LAST, S.PENDING),
    (K.LOST, {"losses": 1}, S.PENDING),
    (K.LOST, LOST_TWICE, S.DEAD),
    (K.LOST, INTERRUPTED_TEN_TIMES, S.PENDING),
    (K.LOST, CANCEL, S.CANCELLED),
]


@pytest.mark.parametrize(("kind", "fields", "state"), STATES)
def test_the_outcome_and_what_is_left_decide_the_state(
    kind: Kind, fields: dict[str, Any], state: JobState
) -> None:
    assert transitions.after(work(**fields), outcome(kind), NOW, LIMITS).state is state


@pytest.mark.parametrize(
    ("kind", "attempts", "losses", "interruptions"),
    [
        (K.SUCCEEDED, 1, 1, 1),
        (K.FAILED, 2, 1, 1),
        (K.TIMED_OUT, 2, 1, 1),
        (K.NOT_STARTED, 2, 1, 1),
        (K.CANCELLED, 1, 1, 1),
        (K.INTERRUPTED, 1, 1, 2),
        (K.LOST, 1, 2, 1),
    ],
)
def test_each_outcome_costs_what_it_should_and_nothing_else(
    kind: Kind, attempts: int, losses: int, interruptions: int
) -> None:
    given_work = work(attempts=1, losses=1, interruptions=1)
    found = transitions.after(given_work, outcome(kind), NOW, LIMITS)
    assert (found.attempts, found.losses, found.interruptions) == (attempts, losses, interruptions)


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 2), (1, 4), (2, 8)])
def test_a_retry_waits_for_its_backoff(attempts: int, seconds: int) -> None:
    found = transitions.after(work(attempts=attempts), outcome(K.FAILED), NOW, LIMITS)
    assert found.due_at == NOW + timedelta(seconds=seconds)


def test_with_jitter_jobs_that_failed_together_come_back_apart() -> None:
    together = [work(lease=f"{'a' * 32}-{n}", attempts=2, backoff_jitter=0.5) for n in range(50)]
    found = [transitions.after(w, outcome(K.FAILED), NOW, LIMITS).due_at for w in together]
    assert len(set(found)) == 50
    assert all(timedelta(seconds=8) <= due - NOW <= timedelta(seconds=12) for due in found if due)
    assert max(found) - min(found) > timedelta(seconds=3)  # type: ignore[type-var, operator]


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_a_job_that_always_fails_runs_once_more_than_its_retries(max_retries: int) -> None:
    current, runs = work(max_retries=max_retries), 0
    while True:
        runs += 1
        found = transitions.after(current, outcome(K.FAILED), NOW, LIMITS)
        if found.state is S.DEAD:
            break
        current = current._replace(attempts=found.attempts)
    assert runs == max_retries + 1


def test_a_short_machine_costs_no_retry_and_no_attempt() -> None:
    refusal = outcome(K.NOT_STARTED, obstacle=Obstacle.SHORT, error="no processes left")
    found = transitions.after(work(**LAST), refusal, NOW, LIMITS)
    assert (found.state, found.attempts, found.ran) == (S.SCHEDULED, 3, False)


def test_a_short_machine_gets_a_moment_to_recover() -> None:
    refusal = outcome(K.NOT_STARTED, obstacle=Obstacle.SHORT)
    found = transitions.after(work(), refusal, NOW, LIMITS)
    assert found.due_at == NOW + timedelta(seconds=1)


@pytest.mark.parametrize("since", [None, NOW - SECOND, NOW - DAY, NOW - 400 * DAY])
def test_a_short_machine_never_ends_a_job(since: datetime | None) -> None:
    found = transitions.after(work(put_off_since=since, **LAST), SHORT, NOW, LIMITS)
    assert (found.state, found.due_at) == (S.SCHEDULED, NOW + SECOND)


def test_an_unknown_task_waits_half_a_minute_and_costs_nothing() -> None:
    given_work = work(attempts=3, losses=1, interruptions=1)
    found = transitions.after(given_work, UNKNOWN, NOW, LIMITS)
    assert (found.state, found.due_at) == (S.SCHEDULED, NOW + timedelta(seconds=30))
    assert (found.attempts, found.losses, found.interruptions, found.ran) == (3, 1, 1, False)


def test_a_job_that_waits_says_why() -> None:
    found = transitions.after(work(), UNKNOWN, NOW, LIMITS)
    assert (found.last_error, found.reason) == (UNKNOWN.error, "unknown_task")


@pytest.mark.parametrize("refusal", [SHORT, UNKNOWN], ids=["short", "unknown"])
def test_a_job_put_off_knows_since_when(refusal: Outcome) -> None:
    assert transitions.after(work(), refusal, NOW, LIMITS).put_off_since == NOW
    earlier = NOW - timedelta(hours=5)
    again = transitions.after(work(put_off_since=earlier), refusal, NOW, LIMITS)
    assert again.put_off_since == earlier


@pytest.mark.parametrize(
    ("waited", "state"),
    [(DAY - SECOND, S.SCHEDULED), (DAY, S.DEAD), (DAY + SECOND, S.DEAD), (30 * DAY, S.DEAD)],
)
def test_a_task_that_no_worker_has_known_for_a_day_is_dead(
    waited: timedelta, state: JobState
) -> None:
    found = transitions.after(work(put_off_since=NOW - waited), UNKNOWN, NOW, LIMITS)
    assert found.state is state


def test_a_dead_unknown_task_says_why_and_has_used_no_retry() -> None:
    found = transitions.after(work(put_off_since=NOW - DAY), UNKNOWN, NOW, LIMITS)
    assert (found.last_error, found.finished_at) == (UNKNOWN.error, NOW)
    assert (found.attempts, found.ran, found.put_off_since) == (0, False, None)


def test_a_task_known_for_a_moment_has_a_whole_day_again() -> None:
    found = transitions.after(work(put_off_since=NOW - DAY), outcome(K.FAILED), NOW, LIMITS)
    assert found.put_off_since is None


@pytest.mark.parametrize("refusal", [SHORT, UNKNOWN], ids=["short", "unknown"])
def test_a_job_to_be_cancelled_is_not_put_off(refusal: Outcome) -> None:
    found = transitions.after(work(**CANCEL), refusal, NOW, LIMITS)
    assert (found.state, found.ran, found.due_at) == (S.CANCELLED, False, None)


@pytest.mark.parametrize("in_doubt", [False, True])
def test_a_release_does_not_make_the_day_of_an_unknown_task_longer(in_doubt: bool) -> None:
    given_work = work(put_off_since=NOW - timedelta(hours=23))
    found = transitions.released(given_work, NOW, in_doubt=in_doubt)
    assert found.put_off_since == given_work.put_off_since


def test_a_short_machine_ends_a_job_to_be_cancelled_without_an_attempt() -> None:
    refusal = outcome(K.NOT_STARTED, obstacle=Obstacle.SHORT)
    found = transitions.after(work(**CANCEL), refusal, NOW, LIMITS)
    assert (found.state, found.ran, found.due_at) == (S.CANCELLED, False, None)


def test_a_failure_of_a_job_to_be_cancelled_counts_as_one() -> None:
    found = transitions.after(work(attempts=1, **CANCEL), outcome(K.FAILED), NOW, LIMITS)
    assert (found.state, found.attempts, found.ran) == (S.CANCELLED, 2, True)


@pytest.mark.parametrize(("max_lost", "wary"), [(1, 1), (2, 1), (3, 2), (9, 8)])
def test_a_job_is_wary_when_it_was_lost_before_and_one_more_loss_is_its_last(
    max_lost: int, wary: int
) -> None:
    assert Limits(max_lost=max_lost, max_interrupts=1).wary_losses == wary


def test_the_last_error_of_a_failure_is_kept() -> None:
    found = transitions.after(work(), outcome(K.FAILED, error="exit code 3"), NOW, LIMITS)
    assert found.last_error == "exit code 3"


def test_a_success_clears_the_last_error() -> None:
    assert transitions.after(work(), outcome(), NOW, LIMITS).last_error == ""


@pytest.mark.parametrize(
    ("kind", "fields", "word"),
    [(K.LOST, LOST_TWICE, "3 times"), (K.INTERRUPTED, INTERRUPTED_TEN_TIMES, "11 times")],
)
def test_a_job_that_dies_of_its_worker_says_how_often(
    kind: Kind, fields: dict[str, Any], word: str
) -> None:
    found = transitions.after(work(**fields), outcome(kind, error="gone"), NOW, LIMITS)
    assert word in found.last_error


def test_a_release_changes_nothing_but_the_state() -> None:
    given_work = work(attempts=1, losses=1, interruptions=1)
    found = transitions.released(given_work, NOW)
    assert (found.state, found.ran) == (S.PENDING, False)
    assert (found.attempts, found.losses, found.interruptions) == (1, 1, 1)


def test_a_release_in_doubt_uses_up_the_number_and_nothing_else() -> None:
    known, doubtful = (transitions.released(work(), NOW, in_doubt=x) for x in (False, True))
    assert (known.number_used, doubtful.number_used) == (False, True)
    assert doubtful._replace(number_used=False) == known


def test_a_release_keeps_the_place_in_line() -> None:
    assert transitions.released(work(), NOW).due_at is None


def test_a_release_of_a_job_to_be_cancelled_ends_it_without_an_attempt() -> None:
    found = transitions.released(work(cancel_requested=True), NOW)
    assert (found.state, found.finished_at, found.ran) == (S.CANCELLED, NOW, False)


def test_a_claim_that_must_not_run_ends_without_an_attempt() -> None:
    found = transitions.cancelled(work(cancel_requested=True), NOW)
    assert (found.state, found.finished_at, found.ran) == (S.CANCELLED, NOW, False)


COUNTS = st.integers(min_value=0, max_value=200)


@st.composite
def decisions(draw: st.DrawFn) -> tuple[Work, Outcome, Limits]:
    max_retries = draw(st.integers(min_value=0, max_value=100))
    given_work = work(
        attempts=draw(st.integers(min_value=0, max_value=max_retries)),
        max_retries=max_retries,
        backoff_base=draw(st.floats(min_value=1, max_value=100)),
        losses=draw(COUNTS),
        interruptions=draw(COUNTS),
        cancel_requested=draw(st.booleans()),
        put_off_since=draw(
            st.sampled_from([None, NOW, NOW - DAY + SECOND, NOW - DAY, NOW - 9 * DAY])
        ),
    )
    given_outcome = outcome(
        draw(st.sampled_from(Kind)), error=draw(st.text(max_size=5)),
        obstacle=draw(st.sampled_from([None, *Obstacle])),
    )  # fmt: skip
    limits = Limits(max_lost=draw(COUNTS), max_interrupts=draw(COUNTS))
    return given_work, given_outcome, limits


@given(decisions())
def test_finished_at_is_set_exactly_for_final_states(case: tuple[Work, Outcome, Limits]) -> None:
    found = transitions.after(case[0], case[1], NOW, case[2])
    assert (found.finished_at is not None) == (found.state in FINAL)


@given(decisions())
def test_due_at_lies_ahead_exactly_for_timed_states(case: tuple[Work, Outcome, Limits]) -> None:
    found = transitions.after(case[0], case[1], NOW, case[2])
    assert (found.due_at is not None) == (found.state in TIMED)
    assert found.due_at is None or found.due_at > NOW


@given(decisions())
def test_attempts_never_exceed_the_retries_and_one(case: tuple[Work, Outcome, Limits]) -> None:
    found = transitions.after(case[0], case[1], NOW, case[2])
    assert found.attempts <= case[0].max_retries + 1


@given(decisions())
def test_no_count_ever_goes_down_or_up_by_more_than_one(
    case: tuple[Work, Outcome, Limits],
) -> None:
    before, found = case[0], transitions.after(case[0], case[1], NOW, case[2])
    steps = (
        found.attempts - before.attempts,
        found.losses - before.losses,
        found.interruptions - before.interruptions,
    )
    assert all(step in (0, 1) for step in steps) and sum(steps) <= 1


@given(decisions())
def test_a_job_to_be_cancelled_never_goes_on(case: tuple[Work, Outcome, Limits]) -> None:
    found = transitions.after(case[0]._replace(cancel_requested=True), case[1], NOW, case[2])
    assert found.state in FINAL


@given(decisions())
def test_a_decision_never_leaves_a_job_processing_or_blocked(
    case: tuple[Work, Outcome, Limits],
) -> None:
    found = transitions.after(case[0], case[1], NOW, case[2])
    assert found.state not in (S.PROCESSING, S.BLOCKED)
