"""The invariants by their number and name; each room enters its own."""

from collections.abc import Callable, Iterator

from tests.chaos.history import History

Invariant = Callable[[History], Iterator[str]]


INVARIANTS: dict[str, Invariant] = {}


def invariant(number: str) -> Callable[[Invariant], Invariant]:
    def register(function: Invariant) -> Invariant:
        INVARIANTS[f"{number} {function.__name__.replace('_', ' ')}"] = function
        return function

    return register
