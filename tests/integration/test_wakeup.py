"""Hints of a commit on SQLite: the file is touched before the commit can be seen."""

from pathlib import Path
from selectors import DefaultSelector

import pytest

from jobs import clock, dialect
from jobs.worker import wakeup
from jobs.worker.wakeup import POLL_SECONDS, RELOOKS, FileEvents, VersionPolls

pytestmark = pytest.mark.django_db


class Time:
    """A clock that stands until it is moved, and a database whose version is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.version = 100.0, 1
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)
        monkeypatch.setattr(dialect, "data_version", lambda: self.version)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def heard_after(events: FileEvents, time: Time, visible_at: float) -> float | None:
    """When a commit that becomes visible then is heard of, by the looks alone; None for never."""
    while (patience := events.patience()) is not None:
        time.now += max(patience, 1e-6)
        if time.now >= visible_at:
            time.version = 3
        if events.hear():
            return time.now
    return None


@pytest.mark.parametrize("took", [0.0, 0.0005, 0.004, 0.02, 0.09, 0.25])
def test_a_commit_is_heard_of_soon_however_long_it_took(
    tmp_path: Path, time: Time, took: float
) -> None:
    events = FileEvents(str(tmp_path), "queue.sqlite3")
    try:
        (tmp_path / "queue.sqlite3-wal").write_text("frames")
        assert not events.hear()
        heard = heard_after(events, time, 100.0 + took)
    finally:
        events.close()
    assert heard is not None
    assert heard - (100.0 + took) <= max(0.001, 3 * took)


def test_after_the_last_look_an_idle_worker_rests(tmp_path: Path, time: Time) -> None:
    events = FileEvents(str(tmp_path), "queue.sqlite3")
    try:
        (tmp_path / "queue.sqlite3-wal").write_text("frames")
        events.hear()
        assert heard_after(events, time, 200.0) is None
        assert time.now <= 100.0 + max(RELOOKS) + 0.01
        assert events.patience() is None
    finally:
        events.close()


def test_another_file_of_the_directory_is_no_hint(tmp_path: Path, time: Time) -> None:
    events = FileEvents(str(tmp_path), "queue.sqlite3")
    try:
        (tmp_path / "other.txt").write_text("nothing of ours")
        assert not events.hear()
        assert events.patience() is None
    finally:
        events.close()


def test_a_commit_that_is_seen_ends_the_looking(tmp_path: Path, time: Time) -> None:
    events = FileEvents(str(tmp_path), "queue.sqlite3")
    try:
        (tmp_path / "queue.sqlite3").write_text("pages")
        assert not events.hear()
        time.version = 2
        assert events.hear()
        assert events.patience() is None
    finally:
        events.close()


def test_a_commit_whose_frames_were_written_when_the_one_before_was_seen_is_heard_of_too(
    tmp_path: Path, time: Time
) -> None:
    events = FileEvents(str(tmp_path), "queue.sqlite3")
    try:
        (tmp_path / "queue.sqlite3-wal").write_text("frames of both")
        time.version = 2
        assert events.hear()
        heard = heard_after(events, time, 100.002)
    finally:
        events.close()
    assert heard is not None
    assert heard <= 100.004


def test_the_looks_are_in_order() -> None:
    assert list(wakeup.RELOOKS) == sorted(set(wakeup.RELOOKS))


def test_where_no_file_can_be_watched_a_commit_is_heard_of_by_polling(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "_best", VersionPolls)
    with DefaultSelector() as selector:
        hints = wakeup.Hints(selector)
        assert hints.open()
        assert hints.patience() == POLL_SECONDS
        assert not hints.hear(readable=False)
        time.version = 2
        assert hints.hear(readable=False)
        assert not hints.hear(readable=False)
