from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from jobs import wording
from jobs.states import JobState
from tests.unit.builders import NOW


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (60, "1m"),
        (119, "1m"),
        (3599, "59m"),
        (3600, "1h"),
        (7800, "2h10m"),
        (86_399, "23h59m"),
        (86_400, "1d"),
        (277_200, "3d5h"),
        (10**9, "11574d1h"),
    ],
)
def test_an_age_has_two_units_at_most(seconds: float, text: str) -> None:
    assert wording.age(timedelta(seconds=seconds)) == text


def test_no_age_is_a_dash() -> None:
    assert wording.age(None) == "-"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (12_345, "12,345 jobs")]
)
def test_a_count_has_its_plural(number: int, text: str) -> None:
    assert wording.count(number, "job") == text


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (JobState.SCHEDULED, "in 1m"),
        (JobState.FAILED, "retry 2 of 3 in 1m"),
        (JobState.PROCESSING, "running 5m"),
        (JobState.COMPLETED, "10s ago"),
        (JobState.DEAD, "10s ago"),
        (JobState.CANCELLED, "10s ago"),
    ],
)
def test_each_state_has_the_fact_that_matters(state: JobState, text: str) -> None:
    job = SimpleNamespace(
        state=state,
        due_at=NOW + timedelta(seconds=60),
        started_at=NOW - timedelta(minutes=5),
        finished_at=NOW - timedelta(seconds=10),
        cancel_requested_at=None,
        attempts=2,
        max_retries=3,
    )
    assert wording.when(job, NOW) == text


@pytest.mark.parametrize(
    ("state", "fields", "text"),
    [
        (JobState.FAILED, {"due_at": NOW}, "retry 2 of 3 due now"),
        (JobState.PENDING, {"due_at": NOW - timedelta(minutes=7)}, "waiting 7m"),
        (JobState.PROCESSING, {"started_at": None}, "claimed, not started"),
        (JobState.PROCESSING, {"cancel_requested_at": NOW}, "asked to stop"),
    ],
)
def test_what_is_unusual_in_a_state_is_said(
    state: JobState, fields: dict[str, Any], text: str
) -> None:
    usual = {"due_at": NOW, "started_at": NOW, "cancel_requested_at": None}
    job = SimpleNamespace(**(usual | fields), state=state, attempts=2, max_retries=3)
    assert wording.when(job, NOW) == text


def test_every_state_has_an_icon_of_its_own() -> None:
    assert len({wording.ICONS[state] for state in JobState}) == len(JobState)
