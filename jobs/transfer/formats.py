"""Which format a file has, told by how it begins: its name says nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ..exceptions import InvalidText
from . import native, original
from .record import Record
from .source import Source


class Same(Protocol):
    def __call__(self, said: Mapping[str, Any], stored: Mapping[str, Any]) -> bool: ...


class Entries(Protocol):
    def __call__(self, source: Source) -> Iterator[tuple[str, Any]]: ...


class Records(Protocol):
    def __call__(self, entry: Any, now: datetime, actor: str) -> list[Record]: ...


@dataclass(frozen=True)
class Format:
    """What an import needs to know of a format; the functions say the rest."""

    name: str
    entries: Entries
    records: Records
    content: tuple[str, ...] = ()
    is_same: Same = lambda said, stored: False
    has_end: bool = False
    """Whether a file without an end line is torn."""


JOBS = Format("jobs.json", original.entries, original.records, original.CONTENT, original.is_same)
CONFIG = Format("config.json", original.config_entries, original.config_records)
QUEUECTL = Format(
    "queuectl", native.entries, native.records, native.CONTENT, native.is_same, has_end=True
)

_BEGINNING = re.compile(
    rb'\s*\{\s*(?:(?P<empty>\})|(?P<key>"(?:[^"\\]|\\.)*")\s*:\s*(?P<value>.))', re.DOTALL
)
_BROKEN_OFF = re.compile(rb'\s*\{\s*("(?:[^"\\]|\\.)*("\s*:?\s*)?)?\Z', re.DOTALL)


def format_of(source: Source) -> Format:
    """Raises InvalidText for what is no file of jobs."""
    source.refuse_unless_plain()
    found = _BEGINNING.match(source.head)
    if found is None and _BROKEN_OFF.match(source.head):
        return JOBS  # which will say where it ends
    if found is None:
        raise InvalidText(
            f"{source.name} is no file of jobs",
            hint="import takes the original's jobs.json or config.json, or what export writes",
        )
    if found["empty"] or found["value"] == b"{":
        return JOBS
    if found["key"] == b'"format"' and found["value"] == b'"':
        return QUEUECTL
    return CONFIG
