"""Regular expressions for what must not be seen: QUEUECTL["MASK"].

They are matched against bytes, since a stream is bytes and may be anything. What matches becomes
stars, one for each byte, so that sizes and places stay true; where an expression has groups, only
what they matched does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

Patterns = tuple[re.Pattern[bytes], ...]


@lru_cache(16)
def compiled(patterns: tuple[str, ...]) -> Patterns:
    """Raises re.error, or ValueError where it has what does not go with bytes."""
    return tuple(re.compile(pattern.encode()) for pattern in patterns)


def problems(patterns: object) -> list[str]:
    """What is wrong with the setting, a sentence each."""
    if not isinstance(patterns, tuple) or not all(isinstance(p, str) for p in patterns):
        return ["QUEUECTL['MASK'] must be a list of regular expressions"]
    found = []
    for index, pattern in enumerate(patterns):
        try:
            compiled((pattern,))
        except (re.error, ValueError, RecursionError, OverflowError) as error:
            found.append(f"QUEUECTL['MASK'][{index}] is no regular expression for bytes: {error}")
    return found


def masked(data: bytes, patterns: Patterns, star: bytes = b"*") -> bytes:
    """As long as it was. Each expression is matched against what was there before any other masked it."""
    found: bytearray | None = None
    for pattern in patterns:
        for match in pattern.finditer(data):
            for start, end in _spans(match):
                found = bytearray(data) if found is None else found
                found[start:end] = star * (end - start)
    return data if found is None else bytes(found)


def _spans(match: re.Match[bytes]) -> Iterator[tuple[int, int]]:
    groups: Sequence[int] = range(1, match.re.groups + 1) if match.re.groups else (0,)
    return (match.span(group) for group in groups if match.span(group)[0] >= 0)
