"""What a log says of hostile text: nothing that a terminal obeys, nothing that looks like a record."""

import logging
import sys
from typing import Any

import pytest

from jobs.logs import Formatter

HOSTILE = (
    "boom\n12:00:00 CRITICAL jobs.ledger: forged\r12:00:00 forged too\x1b[2J\x1b]52;c;ZXZpbA==\x07"
    "\u202e\u2028forged\x85forged\x9b31m\x00\ud800"
)


def formatter(name: str = "jobs") -> logging.Formatter:
    """What the project writes a logger's records with."""
    # pytest listens too, where a logger does not pass its records on.
    [handler] = [h for h in logging.getLogger(name).handlers if type(h) is logging.StreamHandler]
    assert handler.formatter is not None
    return handler.formatter


def written(message: str, *args: object, exc_info: Any = None) -> list[str]:
    record = logging.LogRecord(
        "jobs.x", logging.ERROR, "x.py", 1, message, args, exc_info=exc_info, func=None
    )
    text = formatter().format(record)
    assert "forged" in text
    assert {c for c in text if not c.isprintable()} <= {"\n", "\t"}
    return text.split("\n")


def test_an_exceptions_message_commands_no_terminal_and_forges_no_record() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        first, *rest = written("Task failed", exc_info=sys.exc_info())
    assert first.endswith(" ERROR jobs.x: Task failed")
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in rest)
    assert any("\\x1b]52;c;" in line and "\\u202e" in line for line in rest)


def test_a_hostile_id_stays_within_its_record() -> None:
    first, *rest = written("job %s is late", HOSTILE)
    assert first.endswith(" ERROR jobs.x: job boom")
    [line] = rest
    assert line.startswith("    12:00:00 CRITICAL") and line.endswith("\\x00\\ud800 is late")


@pytest.mark.parametrize(
    "name", ["jobs", "django.tasks", "django_tasks", "django.request", "django.server"]
)
def test_every_log_of_the_project_is_written_so(name: str) -> None:
    assert isinstance(formatter(name), Formatter)
