from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.backoff import CAP_SECONDS, delay

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
