from __future__ import annotations

from dataclasses import replace
from typing import Any


class Options:
    """What our two Task classes share: the four options beside those of the framework.

    A mixin without fields, since two bases with slots cannot be combined.
    """

    __slots__ = ()

    def settle(self) -> None:
        """`max_attempts` is `max_retries` and one: whichever was given tells the other."""
        retries, attempts = getattr(self, "max_retries", None), getattr(self, "max_attempts", None)
        if attempts is not None:
            if not _is_whole(attempts):
                raise ValueError(f"max_attempts takes a whole number, not {attempts!r}")
            if retries is not None and retries != attempts - 1:
                raise ValueError("max_attempts and max_retries disagree; give one of them")
            object.__setattr__(self, "max_retries", attempts - 1)
        elif retries is not None and _is_whole(retries):
            object.__setattr__(self, "max_attempts", retries + 1)

    def with_options(self, **changes: Any) -> Any:
        """A copy with other options, as `using` gives one with another queue or priority."""
        if "max_retries" in changes:
            changes.setdefault("max_attempts", None)
        elif "max_attempts" in changes:
            changes["max_retries"] = None
        return replace(self, **changes)  # type: ignore[type-var]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
