"""Whether a template could have made a job's arguments: what its parameters may have been is tried out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..exceptions import InvalidField
from .parameters import Parameter
from .template import Element, Group, Template, names_in

EFFORT, EFFORT_OF_A_TRY = 500_000, 50
"""Bounds the trying: each try costs so much, and one more for each character it looks at. A try
may double the number of those after it, and a page asks this of a job that anybody may have made."""

Known = Mapping[str, str]
"""Parameters, each with the text it stands for."""


def could_make(template: Template, argv: Sequence[str]) -> bool:
    """Whether these arguments are what some values make of it.

    Where several parameters share arguments in so many ways that trying them takes too long
    (tens of milliseconds), it is taken that they are not.
    """
    if not (isinstance(argv, list) and all(isinstance(word, str) for word in argv)):
        return False  # a hand may have put anything into a row
    guesses = _Search(template).guesses(template.argv, argv, {})
    try:
        return any(_makes(template, values, argv) for values in guesses)
    except _TooMany:
        return False


def _makes(template: Template, values: Known, argv: Sequence[str]) -> bool:
    try:
        return template.fill(values) == list(argv)
    except InvalidField:
        return False


class _TooMany(Exception):
    """There are more ways than are tried."""


class _Search:
    """Goes through what may have been filled in. Whether that is right, only `fill` can tell."""

    def __init__(self, template: Template) -> None:
        self.template, self.effort = template, EFFORT

    def guesses(
        self, groups: Sequence[Group], argv: Sequence[str], known: Known
    ) -> Iterator[Known]:
        """Values that may have made these arguments of these groups."""
        self.spend(0)
        if not groups:
            if not argv:
                yield known
            return
        group, rest = groups[0], groups[1:]
        if len(group) <= len(argv):
            for found in self.of_group(group, argv, known):
                yield from self.guesses(rest, argv[len(group) :], found)
        if self.template.may_miss(names_in(group) - known.keys()):
            yield from self.guesses(rest, argv, known)

    def of_group(self, group: Group, argv: Sequence[str], known: Known) -> Iterator[Known]:
        if not group:
            yield known
            return
        for found in self.of_element(group[0], argv[0], known):
            yield from self.of_group(group[1:], argv[1:], found)

    def of_element(
        self, element: Element, argument: str, known: Known, at: int = 0
    ) -> Iterator[Known]:
        """Values that make this argument, from a place in it on, of this element."""
        for index, (text, name) in enumerate(element):
            if not argument.startswith(text, at):
                return
            at += len(text)
            if name is None:
                continue
            if name not in known:
                rest, parameter = element[index + 1 :], self.template.parameters[name]
                for end in _ends(parameter, rest, argument, at):
                    value = argument[at:end]
                    self.spend(len(value))
                    if parameter.can_be(value):
                        yield from self.of_element(rest, argument, {**known, name: value}, end)
                return
            if not argument.startswith(known[name], at):
                return
            at += len(known[name])
        if at == len(argument):
            yield known

    def spend(self, characters: int) -> None:
        self.effort -= EFFORT_OF_A_TRY + characters
        if self.effort < 0:
            raise _TooMany


def _ends(parameter: Parameter, rest: Element, argument: str, at: int) -> Iterator[int]:
    """Where a parameter that begins at a place in an argument may end, the last place first."""
    last = min(len(argument), at + parameter.longest)
    if not rest:
        if last == len(argument):
            yield last
        return
    text = rest[0][0]
    end = last + 1
    while (end := argument.rfind(text, at + 1, end - 1 + len(text))) > at:
        yield end
