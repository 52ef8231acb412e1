from __future__ import annotations

import os
import stat
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any, BinaryIO

from .. import clock, jsontext, operations, validation
from ..exceptions import InvalidField, InvalidText, QueueCTLError
from ..operations import Enqueued
from ..validation import JobRequest
from ..wording import count
from . import door
from .arguments import add_json, number, span
from .printing import Printer

LONGEST_LINE = 1_048_576

EXAMPLES = """\
examples:
  queuectl enqueue '{"id": "job1", "command": "echo Hello World"}'
  queuectl enqueue 'sort words.txt | uniq -c'
  queuectl enqueue --id nightly --in 10m -- tar czf backup.tgz /srv
  queuectl enqueue --template resize --param source=cat.png --param width=800
  queuectl enqueue - < jobs.jsonl
"""


def build(parser: ArgumentParser) -> None:
    from argparse import RawDescriptionHelpFormatter

    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument(
        "what",
        nargs="*",
        metavar="JOB",
        help="a JSON object or array, a command for the shell, or - for JSON lines on stdin",
    )
    parser.add_argument(
        "--file", metavar="FILE", help="JSON lines from a file: all are stored, or none"
    )
    parser.add_argument("--id", help="what to call the job; made up when left out")
    parser.add_argument("-q", "--queue", help="its queue (default: default)")
    parser.add_argument(
        "-p", "--priority", type=number, help="-1000 to 1000, higher first (default: 5)"
    )
    parser.add_argument(
        "--in", dest="delay", type=span, metavar="SPAN", help="not before 90s, 10m, 2h, 1d"
    )
    parser.add_argument(
        "--at", dest="run_at", metavar="TIME", help="not before 2030-12-31T23:59:00Z"
    )
    parser.add_argument(
        "--max-retries", type=number, metavar="N", help="retries after the first run"
    )
    parser.add_argument("--timeout", type=span, metavar="SPAN", help="longest run of an attempt")
    parser.add_argument(
        "--backoff-base", type=number, metavar="B", help="retry n waits B^n seconds"
    )
    parser.add_argument("--cwd", metavar="DIR", help="directory to run in")
    parser.add_argument("--env", action="append", metavar="K=V", help="a variable for the command")
    parser.add_argument(
        "--unique-key", metavar="KEY", help="refuse while an active job has this key"
    )
    parser.add_argument("--template", metavar="NAME", help="a command that the site has registered")
    parser.add_argument(
        "--param", action="append", metavar="K=V", help="a parameter of the template"
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, store nothing")
    parser.add_argument("--quiet", action="store_true", help="print ids only")
    add_json(parser)
    parser.set_defaults(verb=run)


def run(options: Namespace, printer: Printer) -> int:
    source, batch = _source(options), False
    if isinstance(source, list):
        requests, batch = source, True
    elif isinstance(source, dict):
        requests = [operations.checked(source, clock.now())]
    else:
        with source:
            name = "stdin" if options.file is None else options.file
            requests, batch = list(_lines(source, name, printer)), True
    if options.dry_run:
        printer.narrate(f"{count(len(requests), 'job')} would be enqueued; nothing was stored")
        return door.DONE
    progress = _Progress(printer, len(requests)) if batch else None
    results = operations.enqueue_many(requests, door.actor(), progress=progress)
    _say(results, options, printer, batch)
    return door.DONE


def _source(options: Namespace) -> dict[str, Any] | list[JobRequest] | BinaryIO:
    """What was asked for: the fields of one job, several checked jobs, or lines to read."""
    words, rest, asked = options.what, options.rest, _options(options)
    if options.file is not None or words == ["-"]:
        if asked or rest is not None or (options.file is not None and words):
            raise QueueCTLError(
                "Lines of JSON carry their own fields", hint="leave out the job and its options"
            )
        return _stdin() if options.file is None else _open(options.file)
    if rest is not None:
        if words or not rest:
            raise QueueCTLError("After -- comes the command, before it only options")
        return {**asked, **({"command": rest[0]} if len(rest) == 1 else {"argv": rest})}
    if "template" in asked or "parameters" in asked:
        if words:
            raise QueueCTLError(
                "A template takes parameters, no command", hint="write --param NAME=VALUE"
            )
        return asked
    if not words:
        raise QueueCTLError(
            "Nothing to enqueue", hint="give a command: queuectl enqueue 'echo hello'"
        )
    if len(words) > 1:
        raise QueueCTLError(
            "A command of several words comes after --",
            hint=f"queuectl enqueue -- {' '.join(words)}",
        )
    if not jsontext.looks_like_json(words[0]):
        return {**asked, "command": words[0]}
    return _json(words[0], asked)


def _stdin() -> BinaryIO:
    if sys.stdin is None:
        raise QueueCTLError("There is no stdin to read from", hint="give a file with --file")
    return sys.stdin.buffer


def _json(text: str, asked: dict[str, Any]) -> dict[str, Any] | list[JobRequest]:
    try:
        found = jsontext.parse(text)
    except InvalidText as error:
        error.hint += "; a command that begins with { or [ goes after --"
        raise
    if isinstance(found, dict):
        if twice := sorted(set(found) & set(asked)):
            raise InvalidField(
                twice[0], f"'{twice[0]}' is given twice, in the JSON and as an option"
            )
        return {**asked, **found}
    if asked:
        raise QueueCTLError("Options go with one job, not with an array")
    return [_numbered(f"item {i}", item) for i, item in enumerate(found, 1)]


def _options(options: Namespace) -> dict[str, Any]:
    names = (
        "id",
        "queue",
        "priority",
        "delay",
        "run_at",
        "max_retries",
        "timeout",
        "backoff_base",
        "cwd",
    )
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.unique_key is not None:
        given["unique_key"] = options.unique_key
    if "cwd" in given:
        given["cwd"] = os.path.abspath(given["cwd"])
    if options.env:
        given["env"] = dict(_pair("env", text) for text in options.env)
    if options.template is not None:
        given["template"] = options.template
    if options.param:
        given["parameters"] = dict(_pair("param", text) for text in options.param)
    return given


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        message = f"Invalid --{option}: {validation.shown(name)}"
        raise InvalidField(option, message, hint=f"write --{option} NAME=VALUE")
    return name, value


def _open(path: str) -> BinaryIO:
    try:
        if stat.S_ISCHR(os.stat(path).st_mode) or stat.S_ISBLK(os.stat(path).st_mode):
            raise QueueCTLError(f"Cannot read {path}: it is a device, not a file")
        return open(path, "rb")  # a FIFO's writer may come later, and is waited for
    except ValueError:
        raise QueueCTLError("Cannot read that: no file has a NUL in its name") from None
    except OSError as error:
        raise QueueCTLError(f"Cannot read {path}: {error.strerror}") from None


def _lines(file: BinaryIO, name: str, printer: Printer) -> Iterator[JobRequest]:
    """Check every line before anything is stored; the first that is wrong ends it, by number."""
    if file.isatty():
        printer.narrate("One JSON object a line; end with Ctrl-D.")
    line_number = 0
    while line := _next_line(file, name):
        line_number += 1
        where = f"line {line_number}"
        if len(line) > LONGEST_LINE:
            raise InvalidText(f"{where} is longer than {LONGEST_LINE:,} bytes")
        if not line.strip():
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise InvalidText(f"{where} is not UTF-8", hint="nothing was stored") from None
        try:
            found = jsontext.parse(text)
        except InvalidText as error:
            raise InvalidText(f"{where}: {error}", hint=error.hint) from None
        yield _numbered(where, found)


def _next_line(file: BinaryIO, name: str) -> bytes:
    try:
        return file.readline(LONGEST_LINE + 1)
    except OSError as error:
        said = f"Cannot read {name}: {error.strerror}"
        raise QueueCTLError(said, hint="nothing was stored") from None


def _numbered(where: str, item: object) -> JobRequest:
    try:
        return operations.checked(item, clock.now())
    except InvalidField as error:
        raise InvalidField(error.field, f"{where}: {error}", hint=error.hint) from None


class _Progress:
    """How far a batch is, on stderr: a line that moves on a terminal, one per 10 % in a pipe."""

    def __init__(self, printer: Printer, total: int) -> None:
        self.printer, self.total, self.tenth = printer, total, 0
        self.moving = printer.err.isatty()

    def __call__(self, done: int) -> None:
        tenth = done * 10 // max(1, self.total)
        if self.total < 2000 or tenth == self.tenth:
            return
        self.tenth = tenth
        text = f"{done:,} of {self.total:,} jobs ({tenth * 10} %)"
        if self.moving:
            self.printer.err.write(f"\r{text}" + ("\n" if done >= self.total else ""))
            self.printer.err.flush()
        else:
            self.printer.narrate(text)


def _say(results: list[Enqueued], options: Namespace, printer: Printer, batch: bool) -> None:
    for result in results:
        for warning in result.warnings:
            printer.narrate(f"Warning: {validation.visible(warning)}")
    if printer.as_json:
        found = [{"id": result.key, "created": result.created} for result in results]
        printer.json(found if batch else found[0])
    elif options.quiet:
        for result in results:
            printer.line(result.key)
    elif batch:
        made = sum(result.created for result in results)
        there = len(results) - made
        printer.line(
            f"{count(made, 'job')} enqueued successfully"
            + (f", {there:,} already there with the same content" if there else "")
        )
    elif results[0].created:
        printer.line(f"Job '{results[0].key}' enqueued successfully")
    else:
        printer.line(
            f"Job '{results[0].key}' is already there with the same content; nothing was stored"
        )
