from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.backoff import CAP_SECONDS, delay, drawn

BASES = st.floats(min_value=1, max_value=1e300)
FAILURES = st.integers(min_value=1, max_value=10**6)


@pytest.mark.parametrize(
    ("failures", "base", "seconds"),
    [
        (1, 2, 2),
        (2, 2, 4),
        (3, 2, 8),
        (1, 1, 1),
        (50, 1, 1),
        (2, 1.5, 2.25),
        (16, 2, 65_536),
        (17, 2, 86_400),
        (3, 100, 86_400),
        (5_000, 2, 86_400),
        (10**9, 100, 86_400),
    ],
)
def test_the_wait_is_base_to_the_power_of_failures_up_to_a_day(
    failures: int, base: float, seconds: float
) -> None:
    assert delay(failures, base=base) == timedelta(seconds=seconds)


def test_a_smaller_cap_is_kept() -> None:
    assert delay(10, base=2, cap=60) == timedelta(seconds=60)


@given(failures=FAILURES, base=BASES)
def test_no_wait_is_longer_than_the_cap_or_overflows(failures: int, base: float) -> None:
    assert timedelta(seconds=1) <= delay(failures, base=base) <= timedelta(seconds=CAP_SECONDS)


@given(failures=FAILURES, base=BASES)
def test_a_further_failure_never_shortens_the_wait(failures: int, base: float) -> None:
    assert delay(failures, base=base) <= delay(failures + 1, base=base)


@given(failures=FAILURES, base=BASES, jitter=st.floats(0, 1))
def test_jitter_makes_a_wait_longer_and_never_longer_than_the_cap(
    failures: int, base: float, jitter: float
) -> None:
    plain = delay(failures, base=base)
    assert plain <= delay(failures, base=base, jitter=jitter) <= timedelta(seconds=CAP_SECONDS)


def test_lots_are_drawn_over_the_whole_range() -> None:
    found = sorted(drawn(f"9f0c{number:028x}-7") for number in range(1000))
    assert all(0 <= lot < 1 for lot in found)
    assert all(abs(lot - number / 1000) < 0.06 for number, lot in enumerate(found))
