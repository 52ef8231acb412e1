"""Members of a worker that give no sign of life are killed; who only stood still with us is not."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import clock, conf
from jobs.worker.hung import Hung
from jobs.worker.page import sign_seconds
from jobs.worker.silence import LONGEST_ROUND, Silence
from tests.support import wait_until
from tests.unit.crews import how_it_ended, how_it_is, idle_crew

LEASE = conf.Settings().LEASE_SECONDS


class Passing:
    """A clock that goes on when we say so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = clock.monotonic()
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)

    def rounds(self, hung: Hung, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1
            hung.heard("ledger")
            hung.end(late=False)


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Passing:
    return Passing(monkeypatch)


@pytest.fixture
def hung(passing: Passing) -> Iterator[Hung]:
    with idle_crew() as (crew, page):
        hung = Hung(crew, page)
        for who in ("ledger", ("command runner", 0), ("task runner", 0)):
            hung.heard(who)  # type: ignore[arg-type]
        yield hung


def states(hung: Hung) -> list[str]:
    """Of all members; one that is just running is no other than one that sleeps."""
    crew = hung.crew
    pids = (*crew.runners, *crew.task_runners.values(), crew.ledger)
    return [how_it_is(pid).replace("R", "S") for pid in pids]


def test_who_has_given_no_sign_since_his_start_is_killed_after_a_lease_and_no_sooner(
    hung: Hung, passing: Passing
) -> None:
    passing.rounds(hung, LEASE + sign_seconds(LEASE))
    assert states(hung) == ["S", "S", "S"]
    passing.rounds(hung, 1)
    assert how_it_ended(hung.crew.runners[0]) == -signal.SIGKILL
    assert how_it_ended(hung.crew.task_runners[0]) == -signal.SIGKILL
    assert how_it_is(hung.crew.ledger) in ("S", "R")


def test_who_gives_signs_lives(hung: Hung, passing: Passing) -> None:
    for _ in range(3):
        passing.rounds(hung, LEASE)
        hung.page.sign(0).give(passing.now)
        hung.page.cells(0).sign.give(passing.now)
    assert states(hung) == ["S", "S", "S"]


def test_inside_a_task_no_sign_is_asked_for(hung: Hung, passing: Passing) -> None:
    hung.page.cells(0).begin(1, passing.now, None)
    hung.page.sign(0).give(passing.now)
    passing.rounds(hung, LEASE)
    hung.page.sign(0).give(passing.now)
    passing.rounds(hung, LEASE)
    assert states(hung) == ["S", "S", "S"]


def test_who_comes_back_at_the_last_moment_is_spared(
    hung: Hung, passing: Passing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(seconds: float, **_: Any) -> None:
        hung.page.sign(0).give(passing.now)
        hung.page.cells(0).sign.give(passing.now)

    monkeypatch.setattr("jobs.worker.crew.clock.pause", pause)
    passing.rounds(hung, LEASE + sign_seconds(LEASE) + 1)
    wait_until(lambda: states(hung) == ["S", "S", "S"], message="somebody was killed, or stays so")


def test_a_supervisor_that_stood_still_itself_kills_nobody(hung: Hung, passing: Passing) -> None:
    for _ in range(10):
        passing.now += 10 * LEASE
        hung.end(late=False)
    assert states(hung) == ["S", "S", "S"]


def test_a_ledger_that_does_not_answer_is_killed_and_told_of_once(
    hung: Hung, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        hung.end(late=True)
    assert [record.getMessage() for record in caplog.records] == [
        "the ledger process does not answer and is killed"
    ]
    assert how_it_ended(hung.crew.ledger) == -signal.SIGKILL


def test_a_ledger_that_hangs_from_its_start_is_killed_before_its_lease_could_run_out(
    hung: Hung, passing: Passing
) -> None:
    patience = LEASE - conf.Settings().FENCE_MARGIN_SECONDS
    for _ in range(int(patience)):
        passing.now += 1
        hung.end(late=False)
    assert how_it_is(hung.crew.ledger) in ("S", "R")
    passing.now += 1
    hung.end(late=False)
    assert how_it_ended(hung.crew.ledger) == -signal.SIGKILL


@given(rounds=st.lists(st.floats(0, 1000), max_size=50))
def test_silence_never_counts_for_more_than_the_time_we_saw_pass(rounds: list[float]) -> None:
    silence, now = Silence(0.0), 0.0
    silence.heard("a")
    for took in rounds:
        now += took
        silence.passes(now)
    seen = sum(took if took <= LONGEST_ROUND else 1.0 for took in rounds)
    assert silence.of("a") == pytest.approx(seen)
    silence.heard("a")
    assert silence.of("a") == 0
