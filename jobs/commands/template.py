"""One registered command, and the arguments that come of what a person fills in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import validation
from ..exceptions import InvalidField
from .parameters import Parameter

DEFAULTS = ("queue", "priority", "max_retries", "timeout", "backoff_base")
"""Fields of a job that a template proposes, and a person may set otherwise."""

FIXED = ("cwd", "env")
"""Fields of a job that are the template's alone: they decide what runs."""

Element = tuple[tuple[str, str | None], ...]
"""One argument: texts, each with the parameter that follows it, if any."""

Group = tuple[Element, ...]
"""Arguments that are there together or not at all."""

_BARE = re.compile(r"[\w@%+=:,./{}-]+\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One registered command."""

    name: str
    argv: tuple[Group, ...]
    parameters: Mapping[str, Parameter]
    help: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of the job: DEFAULTS and FIXED, as far as given."""

    @property
    def pattern(self) -> str:
        """What it runs in one line: parameters in braces, what may be left out in brackets."""
        groups = [
            (" ".join(map(_written, group)), self.may_miss(names_in(group))) for group in self.argv
        ]
        return " ".join(f"[{text}]" if may_miss else text for text, may_miss in groups)

    def may_miss(self, names: set[str]) -> bool:
        """Whether one of these parameters may have no value."""
        return any(self.parameters[name].optional for name in names)

    def fill(self, values: Mapping[str, Any]) -> list[str]:
        """The arguments that come of these values; what needs a value that was not given is left out.

        Raises InvalidField for a value that is unknown, missing or wrong.
        """
        self._refuse_unknown(values)
        given = {}
        for name, parameter in self.parameters.items():
            value = parameter.default if values.get(name) is None else values[name]
            if value is not None:
                given[name] = parameter.read(value)
            elif not parameter.optional:
                message = f"{self.name} needs the parameter '{name}'"
                hint = f"{name} takes {parameter.accepts}"
                raise InvalidField(f"parameters.{name}", message, hint=hint)
        return [
            "".join(text + given[name] if name else text for text, name in element)
            for group in self.argv
            if names_in(group) <= given.keys()
            for element in group
        ]

    def _refuse_unknown(self, values: Mapping[Any, Any]) -> None:
        for name in values:
            if name not in self.parameters:
                near = validation.nearest(name, self.parameters)
                known = ", ".join(self.parameters) or "none"
                hint = f"did you mean '{near}'?" if near else f"its parameters: {known}"
                message = f"{self.name} has no parameter {validation.shown(name)}"
                raise InvalidField("parameters", message, hint=hint)


def names_in(group: Group) -> set[str]:
    """The parameters that a group uses."""
    return {name for element in group for _, name in element if name}


def _written(element: Element) -> str:
    text = "".join(f"{text}{{{name}}}" if name else text for text, name in element)
    return text if _BARE.match(text) else shlex.quote(text)
