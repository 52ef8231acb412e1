"""What a person fills in: what it may be, and what comes of it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import validation
from ..exceptions import InvalidField

TYPES: dict[str, dict[str, Any]] = {
    "text": {"max_length": 200, "pattern": "", "dash": False},
    "path": {"under": "", "dash": False},
    "choice": {"choices": ()},
    "int": {"min": 0, "max": 2**31 - 1},
}
"""What a parameter may be, with the keys of each and their defaults."""

LONGEST_PATH = 4096
MOST_DIGITS = 18
"""Of a whole number, and of its bounds."""

_WHOLE = re.compile(rf"-?[0-9]{{1,{MOST_DIGITS}}}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What a person fills in: its type, and what bounds it."""

    name: str
    type: str
    help: str = ""
    optional: bool = False
    default: str | None = None
    bounds: Mapping[str, Any] = field(default_factory=dict)

    @property
    def required(self) -> bool:
        return not self.optional and self.default is None

    @property
    def accepts(self) -> str:
        """What it takes, in words."""
        bounds = self.bounds
        if self.type == "int":
            return f"a whole number from {bounds['min']} to {bounds['max']}"
        if self.type == "choice":
            return f"one of {', '.join(bounds['choices'])}"
        dash = "" if self.may_begin_with_dash else ", not beginning with '-'"
        if self.type == "path":
            inside = f" within {bounds['under']}" if bounds["under"] else ""
            return f"a path{inside} of printable characters{dash}"
        form = f" of the form {bounds['pattern']}" if bounds["pattern"] else ""
        return f"1 to {bounds['max_length']} printable characters{form}{dash}"

    @property
    def longest(self) -> int:
        """Most characters that it becomes."""
        if self.type == "int":
            return MOST_DIGITS + 1
        if self.type == "choice":
            return max(map(len, self.bounds["choices"]))
        return int(self.bounds.get("max_length", LONGEST_PATH))

    def read(self, value: object) -> str:
        """A value as it stands in an argument. Raises InvalidField, naming what is accepted."""
        found = self._argument(value)
        if found is None:
            name = self.name
            raise InvalidField(
                f"parameters.{name}",
                f"Invalid {name}: {validation.shown(value)}",
                hint=f"{name} takes {self.accepts}",
            )
        return found

    def can_be(self, argument: str) -> bool:
        """Whether some value becomes this argument, which is then a value that does."""
        return self._argument(argument) == argument

    def _argument(self, value: object) -> str | None:
        if self.type == "int" and isinstance(value, int) and not isinstance(value, bool):
            # Of more digits Python may refuse to make text.
            value = str(value) if abs(value) < 10**MOST_DIGITS else ""
        if not isinstance(value, str):
            return None
        match self.type:
            case "int":
                return self._whole(value)
            case "choice":
                return value if value in self.bounds["choices"] else None
            case "path":
                return self._path(value)
            case _:
                return self._text(value)

    def _whole(self, value: str) -> str | None:
        ok = _WHOLE.match(value) and self.bounds["min"] <= int(value) <= self.bounds["max"]
        return str(int(value)) if ok else None

    def _text(self, value: str) -> str | None:
        if not self._is_plain(value, self.bounds["max_length"]):
            return None
        pattern = self.bounds["pattern"]
        return value if not pattern or re.fullmatch(pattern, value) else None

    def _path(self, value: str) -> str | None:
        if not self._is_plain(value, LONGEST_PATH):
            return None
        under = self.bounds["under"]
        if not under:
            return value
        path = posixpath.normpath(posixpath.join(under, value))
        inside = path.startswith(under.rstrip("/") + "/") and ".." not in value.split("/")
        return path if inside and len(path) <= LONGEST_PATH else None

    def _is_plain(self, value: str, longest: int) -> bool:
        ok = 0 < len(value) <= longest and value.isprintable()
        return ok and (self.may_begin_with_dash or not value.startswith("-"))

    @property
    def may_begin_with_dash(self) -> bool:
        """Said so, or a path that becomes an absolute one."""
        return bool(self.bounds["dash"] or self.bounds.get("under"))
