from hypothesis import given
from hypothesis import strategies as st

from jobs.worker.supervisor import _share


@given(slots=st.integers(1, 4096), runners=st.integers(1, 64))
def test_slots_are_shared_out_evenly_and_completely(slots: int, runners: int) -> None:
    shares = _share(slots, runners)
    assert sum(shares) == slots
    assert max(shares) - min(shares) <= 1


@given(slots=st.integers(1, 4096), runners=st.integers(1, 64))
def test_no_runner_is_without_a_slot(slots: int, runners: int) -> None:
    shares = _share(slots, runners)
    assert len(shares) == min(slots, runners) and min(shares) >= 1
