import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import dialect
from jobs.exceptions import WorkerRefused
from jobs.worker import supervisor as rooms
from jobs.worker.supervisor import Plan, _share


@given(slots=st.integers(1, 4096), runners=st.integers(1, 64))
def test_slots_are_shared_out_evenly_and_completely(slots: int, runners: int) -> None:
    shares = _share(slots, runners)
    assert sum(shares) == slots
    assert max(shares) - min(shares) <= 1


@given(slots=st.integers(1, 4096), runners=st.integers(1, 64))
def test_no_runner_is_without_a_slot(slots: int, runners: int) -> None:
    shares = _share(slots, runners)
    assert len(shares) == min(slots, runners) and min(shares) >= 1


def test_a_sqlite_without_returning_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "is_in_memory", lambda: False)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(WorkerRefused, match=r"SQLite 3\.34\.1 is too old"):
        rooms.run(Plan(slots=1), lambda name: None)
