"""Where an import reads from: a file opened without waiting for anybody, and its text in bits."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .. import jsontext
from ..exceptions import InvalidText, QueueCTLError

LONGEST = 67_108_864
"""Of one job or line: more than any that can run, and little enough to hold in memory."""

CHUNK = 1_048_576
HEAD = 4096

STRICT = json.JSONDecoder(
    object_pairs_hook=jsontext._object,
    parse_constant=jsontext._constant,
    parse_int=jsontext._whole,
    parse_float=jsontext._number,
)
"""As jsontext.parse, for text whose depth is looked at elsewhere: in C, character by character
in Python would take longer than all the rest."""

LENIENT = json.JSONDecoder(parse_int=str, parse_float=str)
"""Finds where a value ends that STRICT refuses."""

_SPACE = re.compile(r"[ \t\n\r]*")
_CUT = re.compile(r"[A-Za-z0-9+.-]{0,12}[ \t\n\r]*")
"""A word, number or escape with nothing after it."""

_MARKS = {
    codecs.BOM_UTF8: "it begins with a byte order mark",
    codecs.BOM_UTF16_LE: "it is UTF-16",
    codecs.BOM_UTF16_BE: "it is UTF-16",
}

Told = Callable[[int], None]
"""Told how many bytes have been read."""


class Source:
    """The bytes of one file, from its beginning; `head` has been looked at but not taken."""

    def __init__(
        self, name: str, file: BinaryIO, size: int | None, told: Told, *, ours: bool
    ) -> None:
        self.name, self.size, self.told, self.done = name, size, told, 0
        self.raw, self.ours = file, ours
        try:
            self.head = _read_up_to(file, HEAD)
        except OSError as error:
            raise _unreadable(name, error.strerror or str(error)) from None
        self.file = io.BufferedReader(_Joined(self), CHUNK)

    def close(self) -> None:
        if self.ours:
            self.raw.close()

    def refuse_unless_plain(self) -> None:
        """Raises InvalidText for an empty file, and for an encoding other than plain UTF-8."""
        if not self.head.strip():
            raise InvalidText(f"{self.name} is empty", hint="nothing was stored")
        for mark, what in _MARKS.items():
            if self.head.startswith(mark):
                raise _not_plain(self.name, what)
        if b"\0" in self.head[:4]:
            raise _not_plain(self.name, "it is UTF-16, UTF-32 or no text at all")


class _Joined(io.RawIOBase):
    """The head again, then the rest."""

    def __init__(self, source: Source) -> None:
        self.source, self.first = source, source.head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.first[: len(buffer)] or self._rest(len(buffer))
        self.first = self.first[len(piece) :]
        buffer[: len(piece)] = piece
        self.source.done += len(piece)
        self.source.told(self.source.done)
        return len(piece)

    def _rest(self, size: int) -> bytes:
        try:
            return self.source.raw.read(size) or b""
        except OSError as error:
            raise _unreadable(self.source.name, error.strerror or str(error)) from None


def _not_plain(name: str, what: str) -> InvalidText:
    return InvalidText(f"{name} is not plain UTF-8", hint=f"{what}; save it as plain UTF-8")


def _read_up_to(file: BinaryIO, number: int) -> bytes:
    found = b""
    while len(found) < number and (piece := file.read(number - len(found))):
        found += piece
    return found


def open_source(what: str | Path | BinaryIO, told: Told) -> Source:
    """Open a file, or take a stream that is open. Raises QueueCTLError for what is no file.

    A FIFO is read as far as somebody writes to it; one that nobody has open is empty.
    """
    if not isinstance(what, str | Path):
        return Source("the input", what, None, told, ours=False)
    path = os.fspath(what)
    try:
        # Opening must not wait: for a FIFO's writer it would be for ever.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError:
        raise _unreadable(path, "no file has a NUL in its name") from None
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    try:
        found = os.fstat(number)
        if wrong := _NO_FILES.get(stat.S_IFMT(found.st_mode)):
            raise _unreadable(path, f"it is {wrong}, not a file")
        os.set_blocking(number, True)
        file = os.fdopen(number, "rb", buffering=0)
    except BaseException:
        os.close(number)
        raise
    size = found.st_size if stat.S_ISREG(found.st_mode) else None
    return Source(os.path.basename(path), file, size, told, ours=True)


_NO_FILES = {
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def _unreadable(path: str, why: str) -> QueueCTLError:
    return QueueCTLError(f"Cannot read {path}: {why}")


def lines(source: Source) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, blank ones left out. Raises InvalidText for one that is too long."""
    number = 0
    while line := source.file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise InvalidText(
                f"line {number} is longer than {LONGEST:,} bytes", hint="nothing was stored"
            )
        if line.strip():
            yield number, line


class Text:
    """JSON text read bit by bit: what was consumed is forgotten, so memory stays bounded."""

    def __init__(self, source: Source) -> None:
        self.source, self.buffer, self.at, self.line = source, "", 0, 1
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._ended = False

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            space = _SPACE.match(self.buffer, self.at)
            assert space is not None
            self.advance(space.end())
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self._more():
                return ""

    def take(self, accepted: str) -> str:
        """The next character, one of these. Raises InvalidText for another."""
        found = self.peek()
        if not found:
            raise self.torn()
        if found not in accepted:
            raise self.broken(f"expecting {' or '.join(repr(c) for c in accepted)}")
        self.at += 1
        return found

    def value(self) -> Any:
        """The next value; an InvalidText in its place where it can be read but not accepted.

        Raises InvalidText where the text is no JSON, or ends.
        """
        self.peek()
        while True:
            try:
                value, end = self._decoded()
            except json.JSONDecodeError as error:
                # Not yet whole, or wrong: more text tells.
                where = error.pos - self.at
                if not self._more():
                    raise self._refusal(error.msg, self.at + where) from None
                continue
            except RecursionError:
                raise self.broken("it is nested too deep") from None
            if end == len(self.buffer) and not isinstance(value, dict) and self._more():
                continue  # a number may go on
            self.advance(end)
            return value

    def _decoded(self) -> tuple[Any, int]:
        try:
            return STRICT.raw_decode(self.buffer, self.at)
        except InvalidText as error:
            return error, LENIENT.raw_decode(self.buffer, self.at)[1]

    def advance(self, to: int) -> None:
        self.line += self.buffer.count("\n", self.at, to)
        self.at = to

    def _more(self) -> bool:
        """Read as much again as is held, so that a long value is not decoded over and over."""
        held = len(self.buffer) - self.at
        if held > LONGEST:
            raise InvalidText(
                f"line {self.line}: a value is longer than {LONGEST:,} characters",
                hint="nothing was stored",
            )
        if self._ended:
            return False
        piece = self.source.file.read(max(CHUNK, held))
        self._ended = not piece
        try:
            text = self._decoder.decode(piece, final=self._ended)
        except UnicodeDecodeError as error:
            before = piece[: error.start].count(b"\n") + self.buffer.count("\n", self.at)
            raise InvalidText(
                f"line {self.line + before} is not UTF-8", hint="nothing was stored"
            ) from None
        self.buffer, self.at = self.buffer[self.at :] + text, 0
        return not self._ended or bool(text)

    def torn(self) -> InvalidText:
        line = self.line + self.buffer.count("\n", self.at)
        return InvalidText(
            f"{self.source.name} is torn: it ends in the middle, on line {line}",
            hint="nothing was stored",
        )

    def broken(self, why: str) -> InvalidText:
        return InvalidText(f"line {self.line}: Invalid JSON format", hint=why)

    def _refusal(self, why: str, at: int) -> InvalidText:
        if why.startswith("Unterminated") or _CUT.fullmatch(self.buffer, at):
            return self.torn()
        line = self.line + self.buffer.count("\n", self.at, at)
        return InvalidText(f"line {line}: Invalid JSON format", hint=f"{why[:1].lower()}{why[1:]}")
