"""When a worker may take another's silence for its death."""

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError
from django.test import override_settings

from jobs import conf
from jobs.worker import maintenance
from jobs.worker.maintenance import Maintenance


class Clocks:
    """Ours and the database's, and what was asked of a rescue."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ours, self.ahead, self.asked = 1000.0, 1_800_000_000.0, list[bool]()
        self.is_cut_short = False
        monkeypatch.setattr(maintenance.clock, "monotonic", lambda: self.ours)
        monkeypatch.setattr(maintenance, "rescue_all", self._rescue_all)
        monkeypatch.setattr(maintenance, "open_queues", lambda: 0)
        self.maintenance = Maintenance(1)
        self.policy = conf.policy({})

    def get_to_know(self) -> None:
        """The lease in which all that live have been heard."""
        for _ in range(6):
            self.round_after(10)
        self.asked.clear()

    def _rescue_all(
        self, me: int, *, believes: maintenance.Believes, heartbeats: maintenance.Heartbeats
    ) -> tuple[int, bool]:
        now = datetime.fromtimestamp(self.ours + self.ahead, UTC)
        self.asked.append(believes(now, self.ours))
        return 0, self.is_cut_short

    def round_after(self, seconds: float) -> None:
        self.ours += seconds
        self.maintenance.run(self.policy)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def test_silence_is_believed_while_both_clocks_go_on_alike(clocks: Clocks) -> None:
    clocks.get_to_know()
    for _ in range(3):
        clocks.round_after(10)
    assert clocks.asked == [True, True, True]


def test_a_worker_that_has_just_started_believes_no_silence_for_a_lease(
    clocks: Clocks,
) -> None:
    for _ in range(7):
        clocks.round_after(10)
    assert clocks.asked == [*[False] * 5, True, True]


@pytest.mark.parametrize("set_by", [3600, -3600, 10])
def test_silence_is_not_believed_for_a_lease_after_the_databases_clock_was_set(
    clocks: Clocks, set_by: float
) -> None:
    clocks.get_to_know()
    clocks.ahead += set_by
    for _ in range(7):
        clocks.round_after(10)
    assert clocks.asked == [*[False] * 6, True]


def test_a_clock_that_is_led_back_to_the_right_time_slowly_is_believed(clocks: Clocks) -> None:
    clocks.get_to_know()
    for _ in range(5):
        clocks.round_after(10)
        clocks.ahead += 0.1
    assert clocks.asked == [True] * 5


def test_a_free_lock_file_is_left_to_sites_whose_lease_is_longer_than_ours(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience: list[float] = []
    monkeypatch.setattr(
        maintenance.lockfile.Sweeper, "sweep", lambda self, now, seconds: patience.append(seconds)
    )
    for lease in (60, 7200):
        with override_settings(QUEUECTL={"LEASE_SECONDS": lease}):
            clocks.round_after(10)
    assert patience == [3600, 7200]


def test_a_pruning_that_fails_is_not_tried_again_at_once(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold up all that a worker does, each time."""
    tried: list[float] = []

    def turn() -> object:
        tried.append(clocks.ours)
        raise IntegrityError

    monkeypatch.setattr(maintenance.dialect, "turn", turn)
    clocks.policy = conf.policy({"prune-completed-after": 60})
    with pytest.raises(IntegrityError):
        clocks.round_after(maintenance.PRUNE_SECONDS)
    clocks.round_after(maintenance.PRUNE_SECONDS - 1)
    assert len(tried) == 1
    with pytest.raises(IntegrityError):
        clocks.round_after(1)


@pytest.mark.parametrize(("is_cut_short", "within"), [(False, (7, 10)), (True, (0, 0.2))])
def test_rescuing_is_soon_gone_on_with_after_a_round_that_was_cut_short(
    clocks: Clocks, is_cut_short: bool, within: tuple[float, float]
) -> None:
    clocks.is_cut_short = is_cut_short
    with override_settings(QUEUECTL={"RESCUE_SECONDS": 10.0}):
        clocks.round_after(10)
    assert within[0] <= clocks.maintenance._rescue_at - clocks.ours <= within[1]
