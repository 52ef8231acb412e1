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
from jobs.worker.hands import FRAME_BYTES, Hands, _parts
from jobs.worker.wire import Channel
from tests.unit.builders import work

READ = selectors.EVENT_READ


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


def works(number: int, **fields: Any) -> list[Work]:
    return [work(key=f"job{index}", **fields) for index in range(number)]


def test_at_first_there_is_room_for_the_slots_and_none_ahead(bench: Bench) -> None:
    assert (bench.hands.free(), bench.hands.room()) == (4, 4)


def test_a_held_job_takes_a_slot(bench: Bench) -> None:
    bench.hands.hand_out(works(3), 0.0)
    assert (bench.hands.free(), bench.hands.room()) == (1, 1)


def test_more_than_the_slots_is_never_less_than_no_room(bench: Bench) -> None:
    bench.hands.hand_out(works(9, ahead=True), 0.0)
    assert (bench.hands.free(), bench.hands.room()) == (0, 0)


def test_short_jobs_are_claimed_ahead(bench: Bench) -> None:
    given = works(4)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given[:1], started=1.0, ended=1.001)
    assert bench.hands.room() > bench.hands.free()


def test_long_jobs_are_not_claimed_ahead(bench: Bench) -> None:
    given = works(4)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given[:1], started=1.0, ended=2.0)
    assert bench.hands.room() == bench.hands.free() == 1


def test_no_job_is_too_short_for_a_bound(bench: Bench) -> None:
    given = works(1)
    bench.hands.hand_out(given, 0.0)
    bench.end(0, given, started=1.0, ended=1.0)
    assert bench.hands.room() <= 504


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
    assert (bench.hands.free(), bench.hands.room()) == (2, 2)


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


def test_what_has_not_started_in_time_is_called_back_once(bench: Bench) -> None:
    bench.hands.hand_out(works(2, ahead=True), 0.0)
    bench.heard(0)
    bench.heard(1)
    bench.hands.recall_late(0.0)
    assert bench.heard(0) == []
    bench.hands.recall_late(1.0)
    bench.hands.recall_late(1.1)
    assert bench.heard(0) == [(wire.RECALL,)]


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
    bench.hands.replace(index, os.dup(near.fileno()))
    near.close()


def test_what_a_runner_said_before_it_died_still_counts(bench: Bench) -> None:
    given = works(1)
    bench.hands.hand_out(given, 0.0)
    said = wire.from_outcome(Outcome(kind=Kind.SUCCEEDED))
    bench.runners[0].send(wire.ENDED, [(given[0].lease, said)])
    replace(bench, 0)
    assert [found.kind for _, found in bench.hands.ended] == [Kind.SUCCEEDED]


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
    assert bench.hands.room() > 4
    bench.hands.hand_out(works(4, command="sleep 300"), clock.monotonic() - 10)
    assert bench.hands.room() == 0


def test_works_claimed_ahead_go_where_slots_turn_over() -> None:
    bench = Bench((1, 1))
    try:
        slow, fast = works(2)
        bench.hands.hand_out([slow, fast], clock.monotonic() - 10)
        mine = 0 if slow.lease in bench.given(0) else 1
        bench.end(1 - mine, [fast], started=1.0, ended=1.001)
        bench.given(1 - mine)
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
