from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Any, BinaryIO, cast

from .. import transfer
from ..exceptions import QueueCTLError
from ..transfer import Exported, Imported
from ..validation import visible
from ..wording import count
from . import door
from .arguments import add_json
from .printing import Printer

QUIET_BELOW = {"read": 4_000_000}
"""Bytes that need no progress; of jobs, 2,000."""


def build_import(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        help="the original's jobs.json or config.json, or what export wrote; - for stdin",
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, store nothing")
    parser.add_argument(
        "--continue",
        dest="keep_going",
        action="store_true",
        help="leave out what is wrong or in conflict, store the rest (default: all or nothing)",
    )
    add_json(parser)
    parser.set_defaults(verb=import_file, tidies_up=True)


def build_export(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="where to (default: stdout)"
    )
    parser.add_argument(
        "--format",
        choices=transfer.FORMATS,
        default=transfer.FORMATS[0],
        help="queuectl: everything, with history; original: a jobs.json (default: queuectl)",
    )
    parser.add_argument(
        "--config", action="store_true", help="the four settings, as the original's config.json"
    )
    parser.set_defaults(verb=export, reads=True, tidies_up=True)


def import_file(options: Namespace, printer: Printer) -> int:
    result = transfer.import_file(
        _stdin() if options.file == "-" else options.file,
        door.actor(),
        dry_run=options.dry_run,
        keep_going=options.keep_going,
        progress=_Progress(printer),
    )
    if printer.as_json:
        printer.json(_imported_object(result))
        return door.DONE
    for skip in result.skips:
        printer.narrate(f"Skipped {visible(skip.place)}: {visible(skip.reason)}")
    if result.skipped > len(result.skips):
        printer.narrate(f"Skipped {result.skipped - len(result.skips):,} more")
    printer.line(_imported_sentence(result))
    return door.DONE


def _stdin() -> BinaryIO:
    if sys.stdin is None or sys.stdin.isatty():
        raise QueueCTLError(
            "Nothing comes in on stdin", hint="give a file, or: queuectl import - < jobs.json"
        )
    return sys.stdin.buffer


def _imported_sentence(result: Imported) -> str:
    parts = [count(result.jobs, "job")] if result.jobs or not result.settings else []
    parts += [
        count(n, noun) for n, noun in ((result.settings, "setting"), (result.queues, "queue")) if n
    ]
    said = ", ".join(parts) + (" would be imported" if result.dry_run else " imported")
    if result.already:
        said += f", {result.already:,} already there with the same content"
    if result.skipped:
        said += f", {result.skipped:,} skipped"
    return said + ("; nothing was stored" if result.dry_run else "")


def _imported_object(result: Imported) -> dict[str, Any]:
    return {
        "dry_run": result.dry_run,
        "jobs": result.jobs,
        "attempts": result.attempts,
        "queues": result.queues,
        "settings": result.settings,
        "already_there": result.already,
        "skipped": result.skipped,
        "skips": [{"place": skip.place, "reason": skip.reason} for skip in result.skips],
    }


def export(options: Namespace, printer: Printer) -> int:
    where = _stdout() if options.file == "-" else options.file
    if options.config:
        result = transfer.export_config(where, door.actor())
    else:
        progress = _Progress(printer)
        result = transfer.export(where, options.format, door.actor(), progress=progress)
    # On stdout there is the file itself, and nothing else.
    say = printer.narrate if options.file == "-" else printer.line
    say(_exported_sentence(result, options))
    return door.DONE


def _stdout() -> BinaryIO:
    if not door.has_stdout():
        raise QueueCTLError("There is no stdout to write to", hint="give a file")
    return cast(BinaryIO, sys.stdout.buffer)


def _exported_sentence(result: Exported, options: Namespace) -> str:
    to = "" if options.file == "-" else f" to {visible(options.file)}"
    if options.config:
        return f"{count(result.settings, 'setting')} exported{to}"
    left = f", {count(result.left_out, 'task')} left out: the original has none"
    return f"{count(result.jobs, 'job')} exported{to}" + (left if result.left_out else "")


class _Progress:
    """How far it is, on stderr: a line that moves on a terminal, one per 10 % or so in a pipe."""

    def __init__(self, printer: Printer) -> None:
        self.printer, self.moving = printer, printer.err.isatty()
        self.step, self.tenth, self.width = "", 0, 0

    def __call__(self, step: str, done: int, total: int | None) -> None:
        little = QUIET_BELOW.get(step, 2_000)
        if step != self.step:
            self.step, self.tenth = step, 0
        tenth = done * 10 // total if total else done // (little * 50)
        if tenth == self.tenth or (total or done) < little:
            return
        self.tenth = tenth
        amount = f"{done // 1000:,} kB" if step == "read" else f"{done:,} jobs"
        self.say(f"{step} {amount}" + (f" ({tenth * 10} %)" if total else ""), done == total)

    def say(self, text: str, last: bool) -> None:
        if not self.moving:
            return self.printer.narrate(text)
        self.printer.err.write(f"\r{text:<{self.width}}" + ("\n" if last else ""))
        self.printer.err.flush()
        self.width = 0 if last else len(text)
