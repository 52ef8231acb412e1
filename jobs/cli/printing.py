"""How things look: a table for a terminal, plain whole lines for a pipe, JSON for a program.

One question decides: is stdout a terminal? Rich is imported only then, and never gets markup
from a job: `echo [red]x` keeps its brackets.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TextIO

from ..states import JobState
from ..validation import visible
from ..wording import ICONS, age

COLORS = {
    JobState.PENDING: "blue",
    JobState.SCHEDULED: "cyan",
    JobState.BLOCKED: "yellow",
    JobState.PROCESSING: "magenta",
    JobState.COMPLETED: "green",
    JobState.FAILED: "yellow",
    JobState.DEAD: "red",
    JobState.CANCELLED: "bright_black",
}
WIDEST = 24
"""A column that does not stretch is cut at this width; JSON and pipes never are."""

_SGR = re.compile(r"\x1b\[[0-9;]*m")


def as_json(value: Any, *, indent: int | None = None) -> str:
    """JSON that says everything and that a terminal does not obey: what is not printable is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    return json.dumps(character)[1:-1] if ord(character) != 0x7F else "\\u007f"


class Printer:
    """Data goes to `out`, narration to `err`."""

    def __init__(
        self, out: TextIO, err: TextIO, *, color: str = "auto", as_json: bool = False
    ) -> None:
        self.out, self.err, self.as_json = out, err, as_json
        self.is_terminal = not as_json and _is_terminal(out, color)
        self.color = self.is_terminal and color != "never" and not os.environ.get("NO_COLOR")

    def line(self, text: str = "") -> None:
        """One line of data."""
        self.out.write(f"{text}\n")

    def narrate(self, text: str) -> None:
        self.err.write(f"{text}\n")
        self.err.flush()

    def json(self, value: Any) -> None:
        self.line(as_json(value, indent=2))

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return shutil.get_terminal_size((80, 24)).columns

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, stretch: Sequence[str] = ()
    ) -> None:
        """A table for a terminal; the columns to stretch share what the others leave.

        Where Rich is missing: aligned plain columns.
        """
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            return self.columns(columns, rows)
        # Rich honours ratios only in a table that expands; else it takes from every column alike.
        table = Table(
            box=None,
            header_style="bold",
            pad_edge=False,
            padding=(0, 2, 0, 0),
            expand=bool(stretch),
        )
        for index, column in enumerate(columns):
            if column in stretch:
                table.add_column(column, no_wrap=True, overflow="ellipsis", ratio=1)
            else:
                width = min(
                    WIDEST, max(len(_cell(value)) for value in (column, *(r[index] for r in rows)))
                )
                table.add_column(
                    column, no_wrap=True, overflow="ellipsis", min_width=width, max_width=width
                )
        for row in rows:
            table.add_row(*(Text(_cell(value), style=_style(value)) for value in row))
        console = Console(
            file=self.out,
            no_color=not self.color,
            highlight=False,
            force_terminal=True,
            width=self.width,
        )
        console.print(table)

    def columns(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        texts = [list(columns), *([_cell(value) for value in row] for row in rows)]
        widths = [max(len(row[i]) for row in texts) for i in range(len(columns))]
        for row in texts:
            self.line(
                "  ".join(
                    f"{text:<{width}}" for text, width in zip(row, widths, strict=True)
                ).rstrip()
            )

    def text(self, data: bytes) -> None:
        """What a job printed: colours pass to a terminal, every other control sequence is shown."""
        decoded = data.decode("utf-8", "replace")
        if not self.color:
            return self._write(visible(_SGR.sub("", decoded), keep="\n\t"))
        parts = _SGR.split(decoded), _SGR.findall(decoded)
        colours = [*parts[1], "\x1b[0m" if parts[1] else ""]
        for shown, colour in zip(parts[0], colours, strict=True):
            self._write(visible(shown, keep="\n\t") + colour)

    def _write(self, text: str) -> None:
        self.out.write(text)


def _is_terminal(out: TextIO, color: str) -> bool:
    if color == "always" or (os.environ.get("FORCE_COLOR") and not os.environ.get("NO_COLOR")):
        return True
    return bool(out.isatty()) and os.environ.get("TERM") != "dumb"


def _cell(value: Any) -> str:
    if isinstance(value, JobState):
        return f"{ICONS[value]} {value}"
    if isinstance(value, timedelta):
        return age(value)
    return visible(str(value))


def _style(value: Any) -> str:
    return COLORS[value] if isinstance(value, JobState) else ""


def state(job: Any) -> JobState:
    return JobState(job.state)


def quiet_streams() -> None:
    """Nobody reads any more: what Python still wants to flush at exit goes nowhere."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            discard(stream)
        except ValueError:
            continue  # closed already by whoever wrote to it


def discard(stream: TextIO) -> None:
    """What this stream still holds, and whatever comes, goes nowhere."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
