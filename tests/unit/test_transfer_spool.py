"""The spool finds what comes twice, forgets what is left out, and says when it has no room."""

from collections.abc import Iterator
from typing import Any

import pytest

from jobs.transfer.spool import ATTEMPT, JOB, NoRoom, Spool, spooled


@pytest.fixture
def spool() -> Iterator[Spool]:
    with spooled() as made:
        yield made


def values(key: str, **fields: Any) -> dict[str, Any]:
    return dict.fromkeys(JOB) | {"key": key, "queue": "default", **fields}


def add(spool: Spool, *keys: str) -> None:
    for key in keys:
        assert spool.add_job(f"line {key}", values(key), active=True)


def test_jobs_come_back_in_their_order(spool: Spool) -> None:
    add(spool, "b", "a", "c")
    [page] = spool.pages()
    assert [(number, place, found["key"]) for number, place, found in page] == [
        (1, "line b", "b"), (2, "line a", "a"), (3, "line c", "c"),
    ]  # fmt: skip
    assert [row[:2] for row in spool.kept(1, 10)] == [(2, "a"), (3, "c")]


def test_an_id_that_came_before_is_refused_and_leaves_no_gap(spool: Spool) -> None:
    add(spool, "a")
    assert spool.add_job("line 9", values("a"), active=True) is False
    assert spool.place_of("a") == "line a"
    assert spool.place_of("b") is None
    add(spool, "b")
    assert [row[0] for row in spool.kept(0, 10)] == [1, 2]


def test_a_unique_key_is_of_one_active_job(spool: Spool) -> None:
    assert spool.add_job("", values("a", unique_key="k"), active=True)
    assert not spool.add_job("", values("b", unique_key="k"), active=True)
    assert spool.add_job("", values("c", unique_key="k"), active=False)


def test_what_is_left_out_is_not_kept(spool: Spool) -> None:
    add(spool, "a", "b")
    attempt = dict.fromkeys(ATTEMPT) | {"number": 1}
    assert spool.add_attempt(attempt)
    assert not spool.add_attempt(attempt)
    assert (spool.count(), spool.count_attempts(), spool.queues()) == (2, 1, ["default"])
    spool.leave_out(2)
    assert (spool.count(), spool.count_attempts()) == (1, 0)
    spool.keep_all()
    assert spool.count() == 2


def test_a_full_disk_is_told_in_a_sentence(spool: Spool) -> None:
    spool.file.execute("PRAGMA max_page_count = 20")
    with pytest.raises(NoRoom, match=r"temporary directory cannot hold .* full"):
        for number in range(10_000):
            spool.add_job("", values(f"job{number}", command="x" * 1000), active=True)


def test_a_missing_temporary_directory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/no/such/directory")
    with pytest.raises(NoRoom, match="No such file or directory"), spooled():
        pass
