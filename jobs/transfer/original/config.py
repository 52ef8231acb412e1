"""config.json, read and written: an object of four settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ... import conf, validation
from ...exceptions import InvalidField, InvalidText
from ..record import Record
from ..source import Source, Text

CONFIG = ("max_retries", "backoff_base", "worker_poll_interval", "job_timeout")


def config_entries(source: Source) -> Iterator[tuple[str, Any]]:
    """The settings of a config.json: (place, (key, value)). Raises InvalidText."""
    text = Text(source)
    given = text.value()
    if isinstance(given, InvalidText):
        raise given
    if text.peek():
        raise text.broken("there is more after the end of the object")
    yield from ((f"setting {validation.shown(key)}", (key, value)) for key, value in given.items())


def config_records(entry: tuple[str, Any], now: datetime, actor: str) -> list[Record]:
    """Raises InvalidField for what is no setting of the original, or out of bounds."""
    key, value = entry
    if key not in CONFIG:
        raise InvalidField(
            key, "It is no setting of the original", hint=f"its settings: {', '.join(CONFIG)}"
        )
    return [setting(key, value)]


def setting(key: str, value: object) -> Record:
    """A setting by its name. Raises InvalidField for an unknown one or a value out of bounds."""
    known = conf.runtime(key)
    text = repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return Record("setting", known.name, {"value": known.read(text)})


def config_object(stored: Mapping[str, int | float]) -> str:
    """The settings as the original writes them."""
    names = {key: conf.runtime(key) for key in CONFIG}
    values = {key: stored.get(known.name, known.default) for key, known in names.items()}
    return json.dumps(values, indent=2)
