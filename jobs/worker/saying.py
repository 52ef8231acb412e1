"""What a worker's processes print and log, without ever waiting for whoever reads it.

A terminal under Ctrl-S, a pager, a collector of logs that hangs: who waits for one of these ends nothing
that has to end. So what there is no room for is left out, and how much that was is told before the next
line that there is room for. What is printed in a task is the task's, which waits as any program does.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TextIO, cast

LEFT_OUT = "\n(left out here, since nobody read: {} lines)\n"


class Stream:
    """Stands in for a stream that may make its writer wait. What was written is on its way by the line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._fd = stream, _opened_anew(stream.fileno())
        self._room = select.poll()
        self._room.register(self._fd, select.POLLOUT)
        self._line = ""
        self.left_out = 0
        """Lines for which there was no room, and of which nobody was told."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        said, newline, self._line = (self._line + text).rpartition("\n")
        if newline:
            self._say(said + newline)
        return len(text)

    def flush(self) -> None:
        said, self._line = self._line, ""
        if said:
            self._say(said)

    def close(self) -> None:
        if self._fd != self._stream.fileno():
            os.close(self._fd)

    def _say(self, text: str) -> None:
        before = LEFT_OUT.format(self.left_out) if self.left_out else ""
        rest = (before + text).encode(self._stream.encoding or "utf-8", "backslashreplace")
        while rest:
            taken = self._write(rest[: select.PIPE_BUF])
            if not taken:
                unsaid = text.encode(errors="backslashreplace") if before else rest
                self.left_out += len(unsaid.splitlines())
                return
            rest, before, self.left_out = rest[taken:], "", 0

    def _write(self, piece: bytes) -> int:
        """How much of it was taken. A pipe that has room has it for a whole piece."""
        if not self._room.poll(0):
            return 0
        try:
            return os.write(self._fd, piece)
        except BlockingIOError:
            return 0


def _opened_anew(fd: int) -> int:
    """The same pipe or terminal, to be written to without waiting, which others who have it do not notice.

    Itself where it cannot be opened, as a socket or what is another user's: then somebody else who writes
    may take the room between our look and our writing.
    """
    try:
        return os.open(f"/dev/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return fd


_instead: dict[TextIO, Stream] = {}
_undo: list[Callable[[], object]] = []


@contextmanager
def waiting_for_nobody() -> Iterator[None]:
    """What is printed and logged meanwhile, here and in the processes forked, waits for no reader."""
    wait_for_nobody()
    try:
        yield
    finally:
        wait_again()


def wait_for_nobody() -> None:
    for name in ("stdout", "stderr"):
        before = getattr(sys, name)
        setattr(sys, name, instead(before))
        _undo.append(partial(setattr, sys, name, before))
    for handler in _handlers():
        if isinstance(handler, logging.StreamHandler):
            before = handler.stream
            if before is not None and (ours := instead(before)) is not before:
                handler.setStream(ours)
                _undo.append(partial(_give_back, handler, ours, before))


def _give_back(handler: logging.StreamHandler[Any], ours: TextIO, before: TextIO) -> None:
    """Not to one that has opened another meanwhile."""
    if handler.stream is ours:
        handler.setStream(before)


def wait_again() -> None:
    while _undo:
        _undo.pop()()
    while _instead:
        _instead.popitem()[1].close()


def instead(stream: TextIO) -> TextIO:
    """What to write to in place of a stream; the stream itself where nobody's reading can make us wait."""
    if isinstance(stream, Stream) or not _may_wait(stream):
        return stream
    if stream not in _instead:
        _instead[stream] = Stream(stream)
    return cast(TextIO, _instead[stream])


def _may_wait(stream: TextIO) -> bool:
    with suppress(AttributeError, OSError, ValueError):  # one that is no file of the system
        mode = os.fstat(stream.fileno()).st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)
    return False


def _handlers() -> set[logging.Handler]:
    """All that some logger has."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    found = (each.handlers for each in loggers if isinstance(each, logging.Logger))
    return {handler for handlers in found for handler in handlers}
