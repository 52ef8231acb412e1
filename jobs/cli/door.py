"""What every command shares: parse, call one function, print, and end with the right code."""

from __future__ import annotations

import errno
import getpass
import os
import re
import signal
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from io import TextIOWrapper
from types import FrameType
from typing import Any, NoReturn, TextIO, cast

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    handle_default_options,
)
from django.db import DatabaseError, InterfaceError
from django.db.backends.signals import connection_created

from .. import __version__, dialect
from ..exceptions import QueueCTLError, UnreadableRow
from ..operations import Actor
from ..validation import storable, visible
from . import printing
from .printing import Printer

DONE, REFUSED, USAGE, INTERRUPTED = 0, 1, 2, 130
COLORS = ("auto", "always", "never")
_UNWRITABLE = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EBADF)

_CLOSED: list[TextIO] = []
"""What stands in for a stream that the caller closed."""

Verb = Callable[[Namespace, Printer], int | None]


class Parser(CommandParser):
    """A parser whose refusal is one sentence too, with the nearest word and the exit code 2."""

    def error(self, message: str) -> NoReturn:
        if not self.called_from_command_line:
            super().error(message)
        found = _CHOICE.search(message)
        if found:
            near = get_close_matches(found[2], re.findall(r"[\w-]+", found[3]), n=1)
            message = f"{_NAMES.get(found[1], found[1])} {found[2]!r} is not known"
            message += f"; did you mean {near[0]!r}?" if near else ""
        message = message.replace("the following arguments are required", "missing")
        self.exit(
            USAGE,
            f"Error: {visible(message)}\n  {self.format_usage().strip()}\n  see: {self.prog} --help\n",
        )


def _offer_below(parser: ArgumentParser) -> None:
    """Let --color and --traceback stand after the verb too; unsaid there, they change nothing."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for child in action.choices.values():
                child.add_argument("--color", choices=COLORS, default=SUPPRESS, help=SUPPRESS)
                child.add_argument(
                    "--traceback", action="store_true", default=SUPPRESS, help=SUPPRESS
                )
                _offer_below(child)


_CHOICE = re.compile(r"argument ([^:]+): invalid choice: '?([^']*?)'? \(choose from (.*)\)")
_NAMES = {"COMMAND": "command", "--state": "state"}


class Door(BaseCommand):
    """A management command that opens onto one verb, or a tree of them.

    The exit code is the verb's: 0 done, 1 refused or failed, 2 usage, 130 after Ctrl-C.
    """

    requires_system_checks = []
    suppressed_base_arguments = {
        "--verbosity", "--pythonpath", "--no-color", "--force-color", "--skip-checks", "--version",
    }  # fmt: skip

    typed: Sequence[str] | None = None
    """The words of a shell; None for a call from Python, which may ask for anything."""

    def build(self, parser: ArgumentParser) -> None:
        """Add the arguments, and set `verb` to the function to call."""
        raise NotImplementedError

    def may_be_meant(self, verb: str) -> bool:
        return self.typed is None or verb in self.typed

    def get_version(self) -> str:
        return f"QueueCTL {__version__}"

    def add_arguments(self, parser: CommandParser) -> None:
        # Django makes its own class of parser; subparsers are made of their parent's.
        parser.__class__ = Parser
        parser.prog = parser.prog.strip()
        parser.add_argument("--color", choices=COLORS, default="auto", help=SUPPRESS)
        parser.set_defaults(rest=None, reads=False, tidies_up=False)
        self.build(parser)
        _offer_below(parser)

    def run_from_argv(self, argv: list[str]) -> None:
        self._called_from_command_line = True
        words, rest = split(argv[2:])
        self.typed = words
        parser = self.create_parser(argv[0], argv[1])
        options = parser.parse_args(words)
        options.rest = rest
        handle_default_options(options)
        _open_what_is_closed()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        if options.tidies_up:
            end_when_told()
        try:
            code = self.run(options, Printer(sys.stdout, sys.stderr, **looks(options)))
            sys.stdout.flush()
        except BrokenPipeError:
            code = REFUSED
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            code = REFUSED
            printing.discard(sys.stdout)
            with suppress(OSError):  # of a terminal that has closed, stderr too is gone
                sys.stderr.write(f"Error: Cannot write to stdout: {error.strerror}\n")
        except KeyboardInterrupt:
            code = INTERRUPTED
        finally:
            dialect.close()
        printing.quiet_streams()
        if code:
            sys.exit(code)

    def handle(self, *args: Any, **given: Any) -> None:
        options = Namespace(**given)
        printer = Printer(cast(TextIO, self.stdout), cast(TextIO, self.stderr), **looks(options))
        if code := self.run(options, printer):
            raise CommandError(f"exit code {code}", returncode=code)

    def run(self, options: Namespace, printer: Printer) -> int:
        """Call the verb; what it refuses becomes one sentence and what to do about it."""
        connected = [dialect.in_use()]

        def note(**given: Any) -> None:
            connected.append(True)

        connection_created.connect(note)
        try:
            verb: Verb = options.verb
            return verb(options, printer) or DONE
        except QueueCTLError as error:
            if options.traceback and isinstance(error, UnreadableRow):
                raise
            complain(printer, str(error), error.hint, error.code)
        except ImproperlyConfigured as error:
            complain(printer, str(error), "", "misconfigured")
        except (DatabaseError, InterfaceError) as error:
            if options.traceback:
                raise
            unchanged = options.reads or not any(connected)
            complain(printer, *_trouble(error, unchanged), "database")
        finally:
            connection_created.disconnect(note)
        return REFUSED


def end_when_told() -> None:
    """By SIGTERM, or a terminal that closes, as by Ctrl-C, so that nothing is left half done.

    For a program, not for a call from Python. Under nohup the terminal may close.
    """

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        if number == signal.SIGHUP:
            signal.signal(number, signal.SIG_IGN)  # the shell and the kernel each send one
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)


def _open_what_is_closed() -> None:
    """A stream that the caller closed is None: what is said there goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            devnull = os.open(os.devnull, os.O_WRONLY)  # until the process ends
            stream = open(devnull, "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            _CLOSED.append(stream)


def has_stdout() -> bool:
    """Whether somebody gets what is written there: False where the caller closed it."""
    return sys.stdout is not None and sys.stdout not in _CLOSED


def split(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """What stands before the first `--`, and what after it (None where there is none)."""
    words = list(words)
    if "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


def looks(options: Namespace) -> dict[str, Any]:
    return {"color": getattr(options, "color", "auto"), "as_json": getattr(options, "json", False)}


def actor() -> Actor:
    """The person at this shell, who has the database anyway."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return Actor(storable(name), "cli")


def complain(printer: Printer, message: str, hint: str, code: str) -> None:
    """What is wrong, then what is true or what to type; one object with --json."""
    if printer.as_json:
        printer.narrate(printing.as_json({"error": message, "hint": hint, "code": code}))
        return
    printer.narrate(f"Error: {visible(message)}")
    if hint:
        printer.narrate(f"  {visible(hint)}")


def _trouble(error: Exception, unchanged: bool) -> tuple[str, str]:
    """What is said of it. Of a verb that writes, the part before it is done, and an answer may be lost."""
    if dialect.is_not_migrated(error):
        return (
            "The database has no tables of this version of QueueCTL",
            dialect.how_to_migrate(),
        )
    why = str(error).strip().splitlines()[0]
    if dialect.is_damaged(error):
        return f"The database is damaged: {why}", "stop the workers, and restore a backup"
    said = f"The database cannot be used: {why}"
    if unchanged:
        return said, "nothing was changed"
    return said, "before you try again, look whether it was done: no id is ever enqueued twice"
