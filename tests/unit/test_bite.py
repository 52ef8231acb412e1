"""How much a turn carries: less after turns that failed late, and again all after some that did not."""

from collections.abc import Sequence

from jobs.ledger import Room
from jobs.worker.bite import LONG_SECONDS, MANY, TRIES, Bite

ROOM = Room(free=8, ahead=100)


def turn(bite: Bite, reports: Sequence[int], room: Room = ROOM) -> tuple[int, Room]:
    """How much a turn carries that has begun at 0."""
    ended, room = bite.of(reports, room)
    bite.begins(0)
    return len(ended), room


def test_a_turn_carries_all_there_is() -> None:
    assert Bite().of(range(500), ROOM) == ([*range(500)], ROOM)


def test_a_turn_that_was_too_much_is_followed_by_half_of_it_down_to_one_report_alone() -> None:
    bite, sizes = Bite(), []
    for _ in range(4):
        reports, room = turn(bite, range(9), Room(free=8))
        sizes.append((reports, room.free))
        assert not bite.failed(LONG_SECONDS)
    assert sizes == [(9, 8), (4, 4), (2, 2), (1, 0)]


def test_without_a_report_the_least_is_one_claim() -> None:
    bite = Bite()
    for _ in range(9):
        _, room = turn(bite, [])
        assert not bite.failed(LONG_SECONDS)
    assert (room.free, room.ahead) == (1, 0)


def test_a_report_that_is_too_much_alone_is_told_after_a_few_tries() -> None:
    bite, told = Bite(), []
    for _ in range(1 + 2 * TRIES):
        turn(bite, range(2))
        told.append(bite.failed(LONG_SECONDS))
    tries = [*[False] * (TRIES - 1), True]
    assert told == [False, *tries, *tries], "the next one has as many"


def test_a_turn_that_fails_at_once_or_has_not_begun_was_not_too_much() -> None:
    bite = Bite()
    turn(bite, range(9))
    assert not bite.failed(LONG_SECONDS * 0.9)
    bite.of(range(9), ROOM)
    assert not bite.failed(99)
    turn(bite, range(9))
    bite.went_through()
    assert not bite.failed(99)
    assert not bite.is_small


def test_a_turn_that_failed_for_something_else_is_not_judged_by_what_fails_later() -> None:
    bite = Bite()
    turn(bite, range(9))
    bite.was_not_the_cause()
    assert not bite.failed(99)
    turn(bite, range(9))
    assert not bite.failed(LONG_SECONDS * 0.9)
    assert not bite.failed(99)
    assert not bite.is_small


def test_after_turns_that_came_through_all_is_carried_again() -> None:
    bite, grown = Bite(), []
    for reports in (range(100), range(50)):
        turn(bite, reports)
        bite.failed(LONG_SECONDS)
    while bite.is_small:
        grown.append(turn(bite, range(500))[0])
        bite.went_through()
    assert grown == [25] * 4 + [50] * 4 + [MANY] * 4
