"""What a ledger process holds, with sockets to runners that are not there."""

import os
import selectors
from collections.abc import Iterator
from typing import Any

import pytest

from jobs import clock
from jobs.outcome import Captured, Kind, Outcome
from jobs.work import Work
from jobs.worker import wire
from jobs.worker.hands import LATE_SECONDS, LOBBY_SECONDS, SLOW_SECONDS, Hands
from jobs.worker.held import Held
from jobs.worker.holding import FRAME_BYTES, _parts
from jobs.worker.pace import AHEAD_BYTES, AHEAD_SECONDS, COMPANY, GATHER_SECONDS, LONG_SECONDS
from jobs.worker.page import Cells, Page
from jobs.worker.wire import Channel
from tests.unit.builders import work

READ = selectors.EVENT_READ


def room(bench: "Bench") -> int:
    """How many jobs would be claimed, to start now and ahead."""
    found = bench.hands.room()
    assert found.free == bench.hands.free()
    return found.free + found.ahead


class Bench:
    """Hands with two runners, of which the tests play the other ends."""

    def __init__(self, slots: tuple[int, ...]) -> None:
        pairs = [wire.pair() for _ in slots]
        self.selector = selectors.DefaultSelector()
        self.hands = Hands([Channel(near) for near, _ in pairs], slots, self.selector)
        self.runners = [Channel(far) for _, far in pairs]

    def say(self, index: int, tag: str, *values: Any) -> bool:
        self.runners[index].send(tag, *values)
        return self.hands.hear(index, READ)

    def end(self, index: int, works: list[Work], **fields: Any) -> None:
        fields = {"kind": Kind.SUCCEEDED} | fields
        pairs = [(w.lease, wire.from_outcome(Outcome(**fields))) for w in works]
        self.say(index, wire.ENDED, pairs)

    def heard(self, index: int) -> list[tuple[Any, ...]]:
        return self.runners[index].receive()

    def given(self, index: int) -> set[str]:
        frames = self.heard(index)
        return {wire.to_work(w).lease for tag, *v in frames if tag == wire.RUN for w in v[0]}

    def close(self) -> None:
        for runner in self.runners:
            runner.close()
        for held in self.hands.runners:
            if held.channel:
                held.channel.close()
        self.selector.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench((2, 2))
    yield bench
    bench.close()


@pytest.fixture
def two() -> Iterator[Bench]:
    """Of one slot each."""
    bench = Bench((1, 1))
    yield bench
    bench.close()


def works(number: int, **fields: Any) -> list[Work]:
    return [work(key=f"job{index}", **fields) for index in range(number)]


def test_what_a_runner_said_before_it_died_is_heard_though_more_was_on_its_way_to_it(
    bench: Bench,
) -> None:
    bench.hands.hand_out([(done := work())], 0.0)
    index = bench.hands.held[done.lease].runner
    channel = bench.hands.runners[index].channel
    assert channel is not None
    while not channel.wants_write:
        bench.hands.send(index, wire.CANCEL, "x" * 60_000)
    bench.runners[index].send(
        wire.ENDED, [(done.lease, wire.from_outcome(Outcome(kind=Kind.SUCCEEDED)))]
    )
    bench.runners[index].close()
    both = READ | selectors.EVENT_WRITE
    assert bench.hands.hear(index, both)
    assert [outcome.kind for _, outcome in bench.hands.ended] == [Kind.SUCCEEDED]
    assert not bench.hands.hear(index, both)


def test_of_what_is_too_much_for_the_database_only_the_size_of_its_output_is_kept(
    bench: Bench,
) -> None:
    bench.hands.lighten()  # of nothing
    small, large = works(2)
    bench.hands.hand_out([small, large], clock.monotonic())
    given = [index for index in range(len(bench.runners)) if large.lease in bench.given(index)]
    bench.end(0, [small], result="x" * 1_000)
    bench.end(0, [large], stdout=Captured(b"x" * 99_999, b"", 200_000))
    bench.hands.lighten()
    assert [held.work.lease for held, _ in bench.hands.ended] == [large.lease, small.lease]
    bench.hands.lighten()
    [(_, lighter), (_, same)] = bench.hands.ended
    assert (lighter.stdout, same.result) == (Captured(total=200_000), "x" * 1_000)
    assert [bench.heard(index) for index in given] == [[(wire.TAKEN, 99_999)]]


def test_at_first_there_is_room_for_the_slots_and_none_ahead(bench: Bench) -> None:
    assert (bench.hands.free(), room(bench)) == (4, 4)


def test_a_held_job_takes_a_slot(bench: Bench) -> None:
    bench.hands.hand_out(works(3), 0.0)
    assert (bench.hands.free(), room(bench)) == (1, 1)


def test_more_than_the_slots_is_never_less_than_no_room(bench: Bench) -> None:
    bench.hands.hand_out(works(9, ahead=True), 0.0)
    assert (bench.hands.free(), room(bench)) == (0, 0)


def test_short_jobs_are_claimed_ahead(bench: Bench) -> None:
    given = works(4)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given[:1], started=1.0, ended=1.001)
    assert room(bench) > bench.hands.free()


def test_long_jobs_are_not_claimed_ahead(bench: Bench) -> None:
    given = works(4)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given[:1], started=1.0, ended=2.0)
    assert room(bench) == bench.hands.free() == 1


def test_reports_wait_for_company_while_the_runners_have_work(bench: Bench) -> None:
    given = works(4)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given[:1], started=1.0, ended=1.001)
    assert bench.hands.gather(0.0) == 0, "a slot is free"
    bench.hands.hand_out(works(1), 0.0)
    assert bench.hands.gather(0.0) == 0, "what waits is nothing"
    few, many = works(8, ahead=True), works(800, ahead=True)
    bench.hands.hand_out(few, 0.0)
    assert bench.hands.gather(0.0) == pytest.approx(8 * 0.001 / 4)
    assert bench.hands.gather(0.0005) == pytest.approx(8 * 0.001 / 4 - 0.001)
    assert bench.hands.gather(0.005) == 0, "a turn takes longer than they have work"
    bench.hands.hand_out(many, 0.0)
    assert bench.hands.gather(0.0) == pytest.approx(COMPANY * 0.001 / 4)
    bench.hands.pace.took(0.5)
    assert bench.hands.gather(0.0) == GATHER_SECONDS


def test_reports_of_quick_jobs_do_not_wait_for_company_that_is_there(bench: Bench) -> None:
    """A hundred end in a moment: who waited for more would do nothing meanwhile."""
    given = works(4)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given[:1], started=1.0, ended=1.0001)
    bench.hands.hand_out([*works(1), *works(900, ahead=True)], 0.0)
    apart = 0.0001 / 4
    assert bench.hands.gather(0.0) == pytest.approx(COMPANY * apart)
    assert bench.hands.gather(0.002) == pytest.approx(COMPANY * apart - 0.002)
    assert bench.hands.gather(0.004) == 0, "they have ended while the last turn was taken"


def test_the_pace_of_the_shortest_jobs_is_believed(bench: Bench) -> None:
    given = works(4)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given[:1], started=1.0, ended=1.00004)
    bench.hands.hand_out([*works(1), *works(40, ahead=True)], 0.0)
    assert bench.hands.gather(0.0) == pytest.approx(40 * 0.00004 / 4)


def test_large_jobs_are_claimed_ahead_by_their_size(bench: Bench) -> None:
    given = [work(command="x" * (AHEAD_BYTES // 4)) for _ in range(4)]
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given[:1], started=1.0, ended=1.001)
    assert room(bench) - bench.hands.free() == 3, "a few bytes less than four"
    bench.hands.hand_out([work(ahead=True) for _ in range(3)], 0.0)
    bench.hands.pace.size = 500.0
    assert room(bench) > 3


def test_reports_do_not_wait_where_a_slot_is_free(two: Bench) -> None:
    """However much waits behind the job in another."""
    two.hands.hand_out(given := works(2), 0.0)
    [first] = [work for work in given if work.lease in two.hands.runners[0].held]
    two.end(0, [first], started=1.0, ended=1.001)
    for each in works(8, ahead=True):
        two.hands._hold(Held(each, 1, 0.0, None, recorded=False))
    assert two.hands.gather(0.0) == 0


def test_what_is_done_around_a_job_bounds_what_is_claimed_ahead(bench: Bench) -> None:
    bench.hands.hand_out(given := works(4), 0.0)
    first, second = [work for work in given if work.lease in bench.hands.runners[0].held]
    slots, over = bench.hands.runners[0].slots, clock.monotonic() + 1
    bench.end(0, [first], started=over - 0.001, ended=over)
    bench.end(0, [second], started=over + 0.0105, ended=over + 0.0115)
    assert bench.hands.pace.seconds == pytest.approx(0.001)
    assert bench.hands.pace.turnover == pytest.approx(0.0115 * slots)
    # Not at a whole number: the clock's own value rounds what is taken off it.
    assert bench.hands.pace.ahead(4) == int(4 * AHEAD_SECONDS / (0.0115 * slots))


@pytest.mark.parametrize("long", [0.5, 5.0, 600.0])
def test_a_long_job_among_short_ones_does_not_end_claiming_ahead(two: Bench, long: float) -> None:
    """What followed it in its slot, and how long it ran itself, says little of the next."""
    bench, at = two, clock.monotonic() + 1
    for _ in range(50):
        at = run_in_turn(bench, at, 0.001, 0.001)
    before = bench.hands.pace.ahead(2)
    at = run_in_turn(bench, at, 0.001, long)
    assert bench.hands.pace.is_short and bench.hands.pace.ahead(2) >= 1
    for _ in range(20):
        at = run_in_turn(bench, at, 0.001, 0.001)
    assert bench.hands.pace.ahead(2) > 0.9 * before > 1


def run_in_turn(bench: Bench, at: float, *seconds: float) -> float:
    """One after the other in the slot of one runner, all but the first claimed ahead; when that is over."""
    bench.hands.hand_out([work()], at)
    [index] = [index for index, runner in enumerate(bench.hands.runners) if runner.held]
    given = works(len(seconds) - 1, ahead=True)
    for each in given:
        bench.hands._hold(Held(each, index, at, None, recorded=False))
    bench.hands._give(index, given)
    for lease, long in zip([*bench.hands.held], seconds, strict=True):
        bench.end(index, [bench.hands.held[lease].work], started=at, ended=at + long)
        at += long + 0.0001
    return at


def test_with_many_slots_what_follows_takes_as_long_as_it_does(bench: Bench) -> None:
    pace = bench.hands.pace
    pace.stride = 1000
    for _ in range(50):
        pace.took(0.001)
        pace.followed(0.002, 200)
    assert pace.ahead(200) in (49, 50)


def test_long_jobs_one_after_the_other_end_claiming_ahead(bench: Bench) -> None:
    for long in [0.001] * 50 + [5.0] * 5:
        bench.hands.hand_out(given := works(1), 0.0)
        bench.end(0, given, started=1.0, ended=1.0 + long)
    assert bench.hands.pace.ahead(4) == 0


def test_what_a_slot_waited_for_the_ledger_does_not_bound_what_is_claimed_ahead(
    bench: Bench,
) -> None:
    bench.hands.hand_out(first := works(1), 0.0)
    bench.end(0, first, started=1.0, ended=1.001)
    bench.hands.hand_out(second := works(1), 0.0)
    bench.end(0, second, started=1.5, ended=1.501)
    assert bench.hands.pace.turnover is None


def test_the_report_of_a_long_job_waits_for_nobody(bench: Bench) -> None:
    given = works(4)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given[:1], started=1.0, ended=1.0 + AHEAD_SECONDS * 2)
    bench.hands.hand_out(works(9, ahead=True), 0.0)
    assert bench.hands.gather(0.0) == 0


def test_no_job_is_too_short_for_a_bound(bench: Bench) -> None:
    given = works(1)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given, started=1.0, ended=1.0)
    assert room(bench) <= 504


def test_each_work_goes_to_the_runner_with_the_most_room(bench: Bench) -> None:
    given = works(4)
    bench.hands.hand_out(given, 0.0)
    first, second = bench.given(0), bench.given(1)
    assert (len(first), len(second)) == (2, 2)
    assert first | second == {w.lease for w in given}


def test_works_that_one_more_loss_would_end_share_no_runner(bench: Bench) -> None:
    assert bench.hands.wary() == 2
    first, second = works(1, wary=True), works(1, wary=True)
    bench.hands.hand_out(first, 0.0)
    bench.hands.hand_out(works(1), 0.0)
    assert bench.hands.wary() == 1
    bench.hands.hand_out(second, 0.0)
    assert bench.hands.wary() == 0
    assert not (bench.given(0) >= {w.lease for w in (*first, *second)})
    assert bench.hands.held[first[0].lease].runner != bench.hands.held[second[0].lease].runner


def test_where_no_slot_is_free_a_runner_without_one_waits_for_a_work_that_one_loss_would_end(
    bench: Bench,
) -> None:
    bench.hands.hand_out(works(1, wary=True), 0.0)
    bench.hands.hand_out(works(9), 0.0)
    assert (bench.hands.free(), bench.hands.wary()) == (0, 1)


def test_a_dead_runner_takes_no_wary_work(bench: Bench) -> None:
    bench.runners[0].close()
    bench.hands.hear(0, READ)
    assert bench.hands.wary() == 1
    given = works(1, wary=True)
    bench.hands.hand_out(given, 0.0)
    assert bench.given(1) == {given[0].lease}


def test_a_dead_runner_is_given_nothing(bench: Bench) -> None:
    bench.runners[0].close()
    assert not bench.hands.hear(0, READ)
    given = works(2)
    bench.hands.hand_out(given, 0.0)
    assert bench.given(1) == {w.lease for w in given}


def test_the_slots_of_a_dead_runner_are_not_free(bench: Bench) -> None:
    bench.runners[0].close()
    bench.hands.hear(0, READ)
    assert (bench.hands.free(), room(bench)) == (2, 2)


def test_what_has_ended_waits_to_be_written(bench: Bench) -> None:
    given = works(1)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given, exit_code=0)
    assert [(held.work, found.exit_code) for held, found in bench.hands.ended] == [(given[0], 0)]
    assert bench.hands.unwritten and bench.hands.free() == 4


def test_what_is_not_written_yet_is_still_in_our_hands(bench: Bench) -> None:
    running, ended, returned = works(3)
    bench.hands.hand_out([running, ended, returned], 0.0)
    bench.end(0, [ended])
    bench.say(0, wire.RETURNED, [returned.lease])
    assert bench.hands.leases() == {running.lease, ended.lease, returned.lease}


def test_written_outcomes_are_forgotten_and_those_come_since_are_kept(bench: Bench) -> None:
    first, second = works(2)
    bench.hands.hand_out([first, second], 0.0)
    bench.end(0, [first])
    writing = list(bench.hands.ended)
    bench.end(0, [second])
    bench.hands.written(writing, [])
    assert [held.work for held, _ in bench.hands.ended] == [second]


def test_a_runner_gets_credit_for_the_output_that_was_written(bench: Bench) -> None:
    given = works(1)
    bench.hands.hand_out(given, 0.0)
    bench.heard(0)
    bench.end(0, given, stdout=Captured(b"abc", b"de", 99), stderr=Captured(b"x", b"", 1))
    bench.hands.written(list(bench.hands.ended), [])
    assert bench.heard(0) == [(wire.TAKEN, 6)]


def test_an_outcome_of_a_lease_never_given_is_ignored(bench: Bench) -> None:
    bench.end(0, works(1))
    assert not bench.hands


def test_an_outcome_said_twice_counts_once(bench: Bench) -> None:
    given = works(1)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given)
    bench.end(0, given)
    assert len(bench.hands.ended) == 1


def test_a_returned_work_waits_to_be_released(bench: Bench) -> None:
    given = works(1, ahead=True)
    bench.hands.hand_out(given, 0.0)
    bench.say(0, wire.RETURNED, [given[0].lease])
    assert [held.work for held in bench.hands.returned] == given
    assert bench.hands.free() == 4


def test_what_started_ahead_is_to_be_recorded_while_it_runs(bench: Bench) -> None:
    given = works(2, ahead=True)
    bench.hands.hand_out(given, 0.0)
    bench.say(0, wire.STARTED, [(w.lease, 1.5) for w in given])
    bench.end(0, given[:1])
    assert [(held.work, held.started) for held in bench.hands.unrecorded()] == [(given[1], 1.5)]


def test_of_what_started_ahead_a_turn_records_only_what_runs_long(bench: Bench) -> None:
    given = works(2, ahead=True)
    bench.hands.hand_out(given, 0.0)
    bench.say(0, wire.STARTED, [(given[0].lease, 1.0), (given[1].lease, 1.24)])
    bench.hands.recall_late(1.25)
    assert [held.work for held in bench.hands.to_record()] == given[:1]
    bench.hands.recall_late(1.5)
    assert [held.work for held in bench.hands.to_record()] == given


def test_what_has_not_started_in_time_is_called_back_once(bench: Bench) -> None:
    bench.hands.hand_out(works(2, ahead=True), 0.0)
    bench.heard(0)
    bench.heard(1)
    bench.hands.recall_late(0.0)
    assert bench.heard(0) == []
    bench.hands.recall_late(1.0)
    bench.hands.recall_late(1.1)
    assert bench.heard(0) == [(wire.RECALL,)]


def test_whoever_waits_is_told_when_the_first_is_late_however_often_he_asks(bench: Bench) -> None:
    bench.hands.hand_out(works(2), 10.0)
    bench.hands.hand_out(works(2, ahead=True), 10.0)
    for now in (10.05, 10.1, 10.14):
        bench.hands.recall_late(now)
        assert bench.hands.late_at == pytest.approx(10.0 + LATE_SECONDS)
    bench.hands.recall_late(10.2)
    bench.hands.recall_late(10.4)
    assert bench.hands.late_at > 10.4, "what has been called back is waited for, not asked about"


def test_what_a_machine_without_time_has_not_begun_stays_with_its_runner(bench: Bench) -> None:
    """Else two workers give everything back and take it again, and no job ever starts."""
    bench.hands.hand_out(works(40, ahead=True), 10.0)
    for now in (10.2, 10.5, 10.9):
        bench.hands.recall_late(now)
        assert bench.hands.late_at <= now + LATE_SECONDS
    assert not any(runner.recalled for runner in bench.hands.runners)
    bench.hands.recall_late(10.0 + SLOW_SECONDS + 0.01)
    assert all(runner.recalled for runner in bench.hands.runners[:2]), "there is an end to it"


def test_what_a_runner_has_not_begun_soon_after_others_is_late(bench: Bench) -> None:
    first, *rest = works(5, ahead=True)
    bench.hands.hand_out([first, *rest], 10.0)
    bench.end(bench.hands.held[first.lease].runner, [first], started=10.01, ended=10.02)
    bench.hands.recall_late(10.2)
    assert [runner.recalled for runner in bench.hands.runners[:2]].count(True) == 1


def test_a_slow_turn_makes_nothing_late(bench: Bench) -> None:
    [first, second] = works(2)
    bench.hands.hand_out([first, second], 10.5, began=10.0)
    bench.hands.hand_out(works(2, ahead=True), 10.5, began=10.0)
    assert bench.hands.held[first.lease].started == 10.0, "as its row says"
    bench.hands.recall_late(10.5 + LATE_SECONDS - 0.01)
    assert not any(runner.recalled for runner in bench.hands.runners)
    bench.hands.recall_late(10.5 + LATE_SECONDS + 0.01)
    assert any(runner.recalled for runner in bench.hands.runners)


def test_after_too_much_was_claimed_ahead_less_is(bench: Bench) -> None:
    pace = bench.hands.pace
    for _ in range(4):
        pace.ran_dry()
    before = pace.stride
    for _ in range(3):
        pace.came_late()
        pace.ran_dry()  # since what was late has been taken back
    assert pace.stride == before / 8
    pace.ran_dry()
    assert pace.stride == before / 4


def test_what_waits_behind_long_jobs_is_called_back_at_once_for_a_runner_that_idles() -> None:
    bench = Bench((1, 1))
    try:
        bench.hands.pace.took(0.002)
        bench.hands.hand_out(works(2), 10.0)
        bench.hands.hand_out(works(4, ahead=True), 10.0)
        behind, other = ([w for w in bench.hands.held.values() if w.runner == i] for i in (0, 1))
        for now in (10.01, 10.04):
            bench.hands.recall_late(now)
        assert not bench.hands.runners[0].recalled, "both have work"
        bench.end(1, [held.work for held in other], started=10.0, ended=10.002)
        bench.hands.recall_late(10.02)
        assert not bench.hands.runners[0].recalled, "what runs there may be over in a moment"
        assert bench.hands.late_at == pytest.approx(10.0 + LONG_SECONDS)
        stride = bench.hands.pace.stride
        bench.hands.recall_late(10.04)
        assert bench.hands.runners[0].recalled
        assert bench.hands.pace.stride == stride, "it was not too much that was claimed"
        assert bench.heard(0)[-1] == (wire.RECALL,)
        bench.say(0, wire.RETURNED, [held.work.lease for held in behind if held.started is None])
        assert len(bench.hands.returned) == 2
        assert bench.hands.free() == 1
    finally:
        bench.close()


def test_a_free_slot_of_the_same_runner_will_take_what_waits(bench: Bench) -> None:
    bench.hands.hand_out(works(2), 10.0)
    bench.hands.hand_out(works(2, ahead=True), 10.0)
    bench.end(1, [held.work for held in bench.hands.held.values() if held.runner == 1])
    assert bench.hands.waits()
    bench.hands.recall_late(10.1)
    assert not bench.hands.runners[0].recalled


def test_a_cancel_is_passed_on_once(bench: Bench) -> None:
    given = works(1)
    bench.hands.hand_out(given, 0.0)
    bench.heard(0)
    bench.hands.cancel([given[0].lease, "unknown"])
    bench.hands.cancel([given[0].lease])
    assert bench.heard(0) == [(wire.CANCEL, given[0].lease)]


def test_a_cancel_marks_the_outcome_to_come(bench: Bench) -> None:
    given = works(1)
    bench.hands.hand_out(given, 0.0)
    bench.hands.cancel([given[0].lease])
    bench.end(0, given)
    assert bench.hands.ended[0][0].work.cancel_requested


def test_a_dead_runner_loses_what_had_started(bench: Bench) -> None:
    given = works(1)
    bench.hands.hand_out(given, 0.0)
    bench.hands.lose(0)
    ((held, found),) = bench.hands.ended
    assert (held.work, found.kind, held.suspect) == (given[0], Kind.LOST, True)
    assert found.error == "Lost: its command runner died"


def test_a_dead_runner_returns_what_had_not_started(bench: Bench) -> None:
    given = works(1, ahead=True)
    bench.hands.hand_out(given, 0.0)
    bench.hands.lose(0)
    assert [(held.work, held.suspect) for held in bench.hands.returned] == [(given[0], True)]


def test_a_dead_runner_takes_nothing_of_another_with_it(bench: Bench) -> None:
    bench.hands.hand_out(works(2), 0.0)
    bench.hands.lose(0)
    assert len(bench.hands.ended) == 1 and len(bench.hands.held) == 1


def replace(bench: Bench, index: int) -> None:
    near, far = wire.pair()
    bench.runners[index].close()
    bench.runners[index] = Channel(far)
    bench.hands.bury(index)
    bench.hands.replace(index, os.dup(near.fileno()))
    near.close()


def test_what_a_runner_said_before_it_died_still_counts(bench: Bench) -> None:
    given = works(1)
    bench.hands.hand_out(given, 0.0)
    said = wire.from_outcome(Outcome(kind=Kind.SUCCEEDED))
    bench.runners[0].send(wire.ENDED, [(given[0].lease, said)])
    replace(bench, 0)
    assert [found.kind for _, found in bench.hands.ended] == [Kind.SUCCEEDED]


def test_what_a_buried_runner_held_is_lost_though_nobody_takes_its_place(bench: Bench) -> None:
    given = works(2)
    bench.hands.hand_out(given, 0.0)
    bench.hands.bury(0)
    bench.hands.bury(0)  # again with each try to replace it
    assert [found.kind for _, found in bench.hands.ended] == [Kind.LOST]
    assert bench.hands.free() == 1
    fresh = works(1)
    bench.hands.hand_out(fresh, 0.0)
    assert bench.given(1) == {given[1].lease, fresh[0].lease}


def test_a_replaced_runner_is_given_works_again(bench: Bench) -> None:
    bench.hands.hand_out(works(2), 0.0)
    replace(bench, 0)
    fresh = works(1)
    bench.hands.hand_out(fresh, 0.0)
    assert bench.given(0) == {fresh[0].lease}


def test_a_runner_replaced_before_its_death_was_heard_loses_what_it_held(bench: Bench) -> None:
    bench.hands.hand_out(works(1), 0.0)
    replace(bench, 0)
    assert [found.kind for _, found in bench.hands.ended] == [Kind.LOST]
    assert bench.hands.free() == 4


def test_telling_all_reaches_every_runner_that_lives(bench: Bench) -> None:
    bench.runners[0].close()
    bench.hands.hear(0, READ)
    bench.hands.tell_all(wire.DRAIN, 3.0)
    assert bench.heard(1) == [(wire.DRAIN, 3.0)]


def test_hands_that_hold_nothing_are_empty(bench: Bench) -> None:
    given = works(1)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given)
    bench.hands.written(list(bench.hands.ended), [])
    assert not bench.hands


def test_nothing_is_claimed_ahead_while_every_slot_runs_a_long_job(bench: Bench) -> None:
    given = works(4)
    bench.hands.hand_out(given[:1], 0.0)
    bench.end(0, given[:1], started=1.0, ended=1.001)
    assert room(bench) > 4
    bench.hands.hand_out(works(4, command="sleep 300"), clock.monotonic() - 10)
    bench.hands.recall_late(clock.monotonic())
    assert room(bench) == 0


def test_what_may_have_ended_during_a_slow_turn_does_not_run_long(bench: Bench) -> None:
    now = clock.monotonic()
    bench.hands.hand_out(given := works(4), now)
    bench.end(0, given[:1], started=now, ended=now + 0.001)
    bench.hands.hand_out(works(1), now)
    bench.hands.recall_late(now)
    clock.pause(2 * LONG_SECONDS)  # the turn, in which nobody hears the runners
    assert room(bench) > 0
    bench.hands.recall_late(clock.monotonic())
    assert room(bench) == 0, "they were heard, and none had ended"


def test_works_claimed_ahead_go_where_slots_turn_over() -> None:
    bench = Bench((1, 1))
    try:
        slow, fast = works(2)
        bench.hands.hand_out([slow, fast], clock.monotonic() - 10)
        mine = 0 if slow.lease in bench.given(0) else 1
        bench.end(1 - mine, [fast], started=1.0, ended=1.001)
        bench.given(1 - mine)
        bench.hands.recall_late(clock.monotonic())
        ahead = works(4, ahead=True)
        bench.hands.hand_out(ahead, clock.monotonic())
        assert bench.given(1 - mine) == {w.lease for w in ahead}
    finally:
        bench.close()


def test_works_are_sent_in_frames_the_wire_takes(bench: Bench) -> None:
    given = [work(key=f"job{n}", command="x" * 131_000) for n in range(24)]
    parts = list(_parts(given))
    assert [w for part in parts for w in part] == given
    assert len(parts) == 3
    assert all(sum(w.size for w in part) <= FRAME_BYTES + 132_000 for part in parts)


def test_what_cannot_be_sent_to_a_runner_was_never_started(bench: Bench) -> None:
    for runner in bench.runners:
        runner.close()
    given = works(3)
    bench.hands.hand_out(given, 0.0)
    assert {held.work.lease for held in bench.hands.returned} == {w.lease for w in given}
    assert bench.hands.ended == []


# Tasks


class TaskBench(Bench):
    """One command runner of four slots, room for three task runners, and what is asked for them."""

    def __init__(self) -> None:
        super().__init__((4,))
        self.page, self.asked = Page.new(), []
        near, far = wire.pair()
        (old,) = [runner.channel for runner in self.hands.runners if runner.channel]
        self.selector.unregister(old)
        old.close()
        self.runners[0].close()
        self.runners = [Channel(far)]
        self.hands = Hands([Channel(near)], (4,), self.selector, self.page, 3, self.ask)
        self.tasks: dict[int, Channel] = {}

    def ask(self, tag: str, *values: Any) -> None:
        self.asked.append((tag, *values))

    def wanted(self) -> list[int]:
        """Places for which a runner was asked since we looked; other asks are left."""
        found = [index for tag, *(index, *_) in self.asked if tag == wire.WANT_TASK_RUNNER]
        self.asked = [ask for ask in self.asked if ask[0] != wire.WANT_TASK_RUNNER]
        return found

    def welcome(self, index: int) -> None:
        self.cells(index).reset()
        near, far = wire.pair()
        if before := self.tasks.get(index):
            before.close()
        self.tasks[index] = Channel(far)
        self.hands.welcome(index, near.detach())

    def hand_out(self, works: list[Work]) -> None:
        self.hands.hand_out(works, clock.monotonic())

    def start(self, works: list[Work]) -> None:
        """Hand them out, one to a runner, and begin each; there are as many runners then."""
        self.hand_out(works)
        for index in self.wanted():
            self.welcome(index)
        for index in self.tasks:
            self.begin(index, 1)
        self.hands.look_at_pages()

    def cells(self, index: int) -> Cells:
        return self.page.cells(index)

    def begin(self, index: int, number: int, timeout: float | None = None) -> bool:
        return self.cells(index).begin(number, clock.monotonic(), timeout)

    def given_task(self, index: int) -> list[str]:
        frames = self.tasks[index].receive()
        return [wire.to_work(w).lease for tag, *v in frames if tag == wire.RUN for w in v[0]]

    def returned(self) -> set[str]:
        return {held.work.lease for held in self.hands.returned}

    def close(self) -> None:
        super().close()
        for channel in self.tasks.values():
            channel.close()
        os.close(self.page.fd)


@pytest.fixture
def tasks() -> Iterator[TaskBench]:
    bench = TaskBench()
    yield bench
    bench.close()


def task_works(number: int, **fields: Any) -> list[Work]:
    return [work(None, key=f"task{n}", task="a.b", args="{}", **fields) for n in range(number)]


def test_a_first_task_waits_in_the_lobby_for_a_runner(tasks: TaskBench) -> None:
    given = task_works(1)
    tasks.hand_out(given)
    assert tasks.wanted() == [0]
    held = tasks.hands.held[given[0].lease]
    assert (held.runner, held.started) == (tasks.hands.lobby, None)
    assert tasks.heard(0) == []


def test_whoever_waits_goes_to_the_runner_that_comes(tasks: TaskBench) -> None:
    given = task_works(1)
    tasks.hand_out(given)
    tasks.welcome(0)
    assert tasks.given_task(0) == [given[0].lease]
    assert tasks.hands.waits()


def test_each_of_several_tasks_has_a_runner_of_its_own(tasks: TaskBench) -> None:
    given = task_works(3)
    tasks.hand_out(given)
    assert tasks.wanted() == [0, 1, 2]
    for index in (1, 0, 2):
        tasks.welcome(index)
    shares = [tasks.given_task(index) for index in (1, 0, 2)]
    assert [len(share) for share in shares] == [1, 1, 1]
    assert {lease for share in shares for lease in share} == {w.lease for w in given}


def test_what_is_held_is_told_by_its_kinds(tasks: TaskBench) -> None:
    assert tasks.hands.room().held == frozenset()
    tasks.hands.hand_out(works(1), 0.0)
    assert tasks.hands.room().held == {"command"}
    tasks.hands.hand_out(task_works(1), 0.0)
    assert tasks.hands.room().held == {"command", "task"}


def test_who_waited_longest_goes_first(tasks: TaskBench) -> None:
    first, second = task_works(1), task_works(1)
    now = clock.monotonic()
    tasks.hands.hand_out(first, now - 1)
    tasks.hands.hand_out(second, now)
    tasks.welcome(0)
    assert tasks.given_task(0) == [first[0].lease]


def test_an_idle_runner_is_taken_before_another_is_made(tasks: TaskBench) -> None:
    given = task_works(1)
    tasks.start(given)
    said = wire.from_outcome(Outcome(kind=Kind.SUCCEEDED))
    tasks.tasks[0].send(wire.ENDED, [(given[0].lease, said)])
    tasks.hands.hear(tasks.hands.task_runners[0], READ)
    tasks.given_task(0)
    fresh = task_works(1)
    tasks.hand_out(fresh)
    assert tasks.wanted() == [] and tasks.given_task(0) == [fresh[0].lease]


def test_no_more_runners_are_asked_for_than_there_may_be(tasks: TaskBench) -> None:
    tasks.start(task_works(3))
    tasks.hand_out(task_works(1))
    assert tasks.wanted() == []
    assert tasks.hands.runners[tasks.hands.lobby].held == set()


def test_a_task_claimed_ahead_goes_to_a_runner_that_lives(tasks: TaskBench) -> None:
    given = task_works(1)
    tasks.start(given)
    tasks.given_task(0)
    ahead = task_works(1, ahead=True)
    tasks.hand_out(ahead)
    assert tasks.given_task(0) == [ahead[0].lease]
    assert tasks.hands.held[ahead[0].lease].started is None


def test_commands_go_to_command_runners_and_tasks_do_not(tasks: TaskBench) -> None:
    commands = works(2)
    tasks.hand_out([*task_works(2), *commands])
    for index in tasks.wanted():
        tasks.welcome(index)
    assert tasks.given(0) == {w.lease for w in commands}


def test_there_is_room_for_as_many_tasks_as_runners(tasks: TaskBench) -> None:
    assert tasks.hands.room().tasks == 3
    tasks.hand_out([*works(1), *task_works(2)])
    assert (tasks.hands.room().tasks, tasks.hands.free()) == (1, 1)


def test_no_task_is_claimed_to_wait_behind_a_long_one(tasks: TaskBench) -> None:
    tasks.hands.pace.took(0.001)
    tasks.start(given := task_works(3))
    now = clock.monotonic()
    tasks.hands.recall_late(now)
    assert tasks.hands.room().tasks == 0 and tasks.hands.room().tasks_ahead > 0
    tasks.hands.recall_late(now + LONG_SECONDS + 0.01)
    room = tasks.hands.room()
    assert (room.free, room.tasks, room.tasks_ahead) == (1, 0, 0), "a slot is free, for a command"
    tasks.tasks[0].send(wire.ENDED, [(given[0].lease, wire.from_outcome(Outcome(Kind.SUCCEEDED)))])
    tasks.hands.hear(tasks.hands.task_runners[0], READ)
    room = tasks.hands.room()
    assert (room.free, room.tasks) == (2, 1) and room.tasks_ahead > 0


def test_tasks_that_wait_behind_others_take_no_slot_of_a_command(tasks: TaskBench) -> None:
    tasks.start(task_works(1))
    tasks.hand_out(task_works(9, ahead=True))
    assert tasks.hands.free() == 3


def test_a_task_in_the_lobby_has_a_slot_and_a_runner(tasks: TaskBench) -> None:
    tasks.hand_out(task_works(2))
    room = tasks.hands.room()
    assert (room.free, room.tasks) == (2, 1)


def test_hands_without_task_runners_have_no_room_for_tasks(bench: Bench) -> None:
    assert bench.hands.room().tasks == 0


def test_the_page_says_when_a_task_has_begun(tasks: TaskBench) -> None:
    given = task_works(1)
    tasks.hand_out(given)
    tasks.welcome(0)
    tasks.hands.look_at_pages()
    assert tasks.hands.held[given[0].lease].started is None
    tasks.begin(0, 1)
    tasks.hands.look_at_pages()
    assert tasks.hands.held[given[0].lease].started == tasks.cells(0).since
    assert not tasks.hands.waits()


def test_only_a_task_claimed_ahead_is_to_be_recorded_as_started(tasks: TaskBench) -> None:
    given, ahead = task_works(1), task_works(1, ahead=True)
    tasks.start(given)
    assert tasks.hands.unrecorded() == []
    tasks.hand_out(ahead)
    tasks.begin(0, 2)
    tasks.hands.look_at_pages()
    assert [held.work for held in tasks.hands.unrecorded()] == ahead


def test_what_a_busy_runner_has_not_begun_is_taken_back_without_its_help(tasks: TaskBench) -> None:
    given, ahead = task_works(1), task_works(2, ahead=True)
    tasks.start(given)
    tasks.hand_out(ahead)
    tasks.hands.take_back(tasks.hands.task_runners[0])
    assert tasks.returned() == {w.lease for w in ahead}
    assert tasks.hands.held.keys() == {given[0].lease}
    assert [tasks.begin(0, number) for number in (2, 3, 4)] == [False, False, True]


def test_what_has_begun_meanwhile_is_not_taken_back(tasks: TaskBench) -> None:
    given = task_works(1)
    tasks.hand_out(given)
    tasks.welcome(0)
    tasks.begin(0, 1)
    tasks.hands.take_back(tasks.hands.task_runners[0])
    assert tasks.returned() == set()
    assert tasks.hands.held[given[0].lease].started is not None


def test_what_a_runner_returns_of_what_was_taken_back_counts_once(tasks: TaskBench) -> None:
    given = task_works(1)
    tasks.hand_out(given)
    tasks.welcome(0)
    tasks.hands.take_back(tasks.hands.task_runners[0])
    tasks.tasks[0].send(wire.RETURNED, [given[0].lease])
    tasks.hands.hear(tasks.hands.task_runners[0], READ)
    assert [held.work for held in tasks.hands.returned] == given


def test_a_task_that_began_too_late_for_its_patience_is_for_others(tasks: TaskBench) -> None:
    tasks.start(task_works(1))
    ahead = task_works(1, ahead=True)
    tasks.hand_out(ahead)
    now = clock.monotonic()
    tasks.hands.recall_late(now)
    assert tasks.returned() == set()
    tasks.hands.recall_late(now + 1)
    assert tasks.returned() == {ahead[0].lease}


def test_a_task_behind_a_long_one_is_taken_back_at_once_for_a_runner_that_idles(
    tasks: TaskBench,
) -> None:
    tasks.start(task_works(2))
    tasks.hand_out(task_works(2, ahead=True))
    by_runner = [
        [held.work for held in tasks.hands.held.values() if held.runner == position]
        for position in tasks.hands.task_runners[:2]
    ]
    assert [len(held) for held in by_runner] == [2, 2]
    for index in (0, 1):
        tasks.tasks[index].receive()
    pairs = [(w.lease, wire.from_outcome(Outcome(kind=Kind.SUCCEEDED))) for w in by_runner[1]]
    tasks.tasks[1].send(wire.ENDED, pairs)
    tasks.hands.hear(tasks.hands.task_runners[1], READ)
    tasks.hands.recall_late(clock.monotonic())
    assert tasks.returned() == set()
    tasks.hands.recall_late(clock.monotonic() + LONG_SECONDS)
    assert tasks.returned() == {by_runner[0][1].lease}


def test_the_lobby_has_more_patience_but_not_for_ever(tasks: TaskBench) -> None:
    given = task_works(1)
    tasks.hand_out(given)
    now = clock.monotonic()
    tasks.hands.recall_late(now + LOBBY_SECONDS - 0.5)
    assert tasks.returned() == set()
    tasks.hands.recall_late(now + LOBBY_SECONDS + 0.5)
    assert tasks.returned() == {given[0].lease}


def test_a_running_task_is_cancelled_by_killing_its_runner(tasks: TaskBench) -> None:
    given = task_works(2)
    tasks.start(given)
    for lease in (given[1].lease, given[1].lease):
        tasks.hands.cancel([lease])
    position = tasks.hands.held[given[1].lease].runner
    index = tasks.hands.task_runners.index(position)
    assert tasks.asked == [(wire.KILL, index, 1, "cancelled")]
    assert given[1].lease in tasks.hands.held


@pytest.mark.parametrize("there", [False, True], ids=["in the lobby", "with a runner"])
def test_a_task_that_has_not_begun_is_cancelled_without_a_kill(
    tasks: TaskBench, there: bool
) -> None:
    given = task_works(1)
    tasks.hand_out(given)
    tasks.wanted()
    if there:
        tasks.welcome(0)
    tasks.hands.cancel([given[0].lease])
    ((held),) = tasks.hands.returned
    assert held.work.cancel_requested and tasks.asked == []


@pytest.mark.parametrize(
    ("why", "code", "kind", "error"),
    [
        ("timed_out", -9, Kind.TIMED_OUT, "Task timed out after 2.5 seconds"),
        ("cancelled", -9, Kind.CANCELLED, "Cancelled while it ran"),
        ("interrupted", -9, Kind.INTERRUPTED, "Interrupted: its worker had to stop it"),
        ("", -11, Kind.FAILED, "Its process ended with signal 11 (SIGSEGV)"),
        ("", -9, Kind.FAILED, "Its process ended with signal 9 (SIGKILL)"),
        ("", 3, Kind.FAILED, "Its process ended with exit code 3"),
        ("", 0, Kind.FAILED, "Its process ended with exit code 0"),
    ],
)
def test_a_task_whose_process_ended_has_its_outcome_by_that(
    tasks: TaskBench, why: str, code: int, kind: Kind, error: str
) -> None:
    given = task_works(1, timeout=2.5)
    tasks.start(given)
    since = tasks.cells(0).since
    tasks.hands.bid_farewell(0, why, code)
    ((held, found),) = tasks.hands.ended
    assert (held.work, found.kind, found.error) == (given[0], kind, error)
    assert (found.exit_code, found.signal) == ((None, -code) if code < 0 else (code, None))
    assert found.started == since and found.ended is not None and found.ended >= found.started
    assert not tasks.hands.held


def test_a_dead_task_runner_returns_what_it_had_not_begun(tasks: TaskBench) -> None:
    given, ahead = task_works(1), task_works(2, ahead=True)
    tasks.start(given)
    tasks.hand_out(ahead)
    tasks.hands.bid_farewell(0, "", -11)
    assert [held.work for held, _ in tasks.hands.ended] == given
    assert tasks.returned() == {w.lease for w in ahead}


def test_a_task_whose_runner_dies_with_its_supervisor_says_so(tasks: TaskBench) -> None:
    tasks.start(task_works(1))
    tasks.hands.lose(tasks.hands.task_runners[0])
    ((held, found),) = tasks.hands.ended
    assert (found.kind, held.suspect) == (Kind.LOST, True)
    assert found.error == "Lost: its task runner died"


def test_what_a_task_runner_said_before_it_died_still_counts(tasks: TaskBench) -> None:
    given = task_works(1)
    tasks.start(given)
    said = wire.from_outcome(Outcome(kind=Kind.SUCCEEDED, result=7))
    tasks.tasks[0].send(wire.ENDED, [(given[0].lease, said)])
    tasks.hands.bid_farewell(0, "timed_out", -9)
    assert [(found.kind, found.result) for _, found in tasks.hands.ended] == [(Kind.SUCCEEDED, 7)]


def test_a_task_that_began_unseen_counts_as_begun_when_its_runner_dies(tasks: TaskBench) -> None:
    given = task_works(1)
    tasks.hand_out(given)
    tasks.welcome(0)
    tasks.begin(0, 1)
    tasks.hands.bid_farewell(0, "", -9)
    assert [found.kind for _, found in tasks.hands.ended] == [Kind.FAILED]
    assert tasks.returned() == set()


def test_an_idle_runner_that_dies_costs_nothing_and_its_place_is_free(tasks: TaskBench) -> None:
    tasks.hand_out(task_works(1))
    tasks.wanted()
    tasks.welcome(0)
    tasks.hands.take_back(tasks.hands.task_runners[0])
    tasks.hands.bid_farewell(0, "", 0)
    assert tasks.hands.ended == []
    tasks.hand_out(task_works(1))
    assert tasks.wanted() == [0]


def test_a_runner_in_a_dead_ones_place_numbers_its_works_anew(tasks: TaskBench) -> None:
    tasks.start(task_works(1))
    tasks.hands.bid_farewell(0, "", -9)
    fresh = task_works(1)
    tasks.hand_out(fresh)
    tasks.welcome(0)
    tasks.hands.look_at_pages()
    assert tasks.hands.held[fresh[0].lease].started is None
    tasks.begin(0, 1)
    tasks.hands.look_at_pages()
    assert tasks.hands.held[fresh[0].lease].started is not None


def test_a_runner_that_never_came_is_asked_for_again_with_the_next_task(tasks: TaskBench) -> None:
    given = task_works(1)
    tasks.hand_out(given)
    assert tasks.wanted() == [0]
    tasks.hands.bid_farewell(0, "", 0)
    assert tasks.wanted() == []
    tasks.hand_out(task_works(1))
    assert tasks.wanted() == [0]
    tasks.welcome(0)
    assert given[0].lease in tasks.given_task(0)


def test_one_runners_death_leaves_the_tasks_of_others(tasks: TaskBench) -> None:
    given = task_works(2)
    tasks.start(given)
    tasks.hands.bid_farewell(1, "", -9)
    assert len(tasks.hands.ended) == 1 and len(tasks.hands.held) == 1


def test_draining_keeps_only_tasks_that_have_begun(tasks: TaskBench) -> None:
    given, ahead, command = task_works(2), task_works(2, ahead=True), works(1)
    tasks.start(given)
    tasks.hand_out([*ahead, *command])
    late = task_works(1)
    tasks.hand_out(late)
    tasks.hands.drain_tasks()
    assert tasks.hands.held.keys() == {w.lease for w in (*given, *command)}
    assert tasks.returned() == {w.lease for w in (*ahead, *late)}


def test_telling_all_does_not_disturb_task_runners(tasks: TaskBench) -> None:
    tasks.start(task_works(1))
    tasks.given_task(0)
    tasks.hands.tell_all(wire.RENEW, 5.0)
    assert tasks.heard(0) == [(wire.RENEW, 5.0)]
    assert not tasks.tasks[0].is_readable()
