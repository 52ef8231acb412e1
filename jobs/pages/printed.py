"""What a job printed, made safe to show: the end of a stream, controls spelled out, gaps marked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import escape

from ..validation import visible

SHOWN_BYTES, MOST_HTML = 65_536, 200_000
"""Of each stream; the second is what that may take as HTML, in which a quotation mark is six characters."""

_SGR = re.compile(r"\x1b\[[0-9;:]*m")


@dataclass(frozen=True, slots=True)
class Piece:
    """Text without a gap, and how many bytes before it are left out."""

    left_out: int
    text: str


@dataclass(frozen=True, slots=True)
class Printed:
    """One stream of an attempt."""

    name: str
    total: int
    pieces: tuple[Piece, ...]


def printed(name: str, chunks: Sequence[tuple[int, bytes]], total: int) -> Printed:
    """The last 64 KiB of what is kept of a stream, from its chunks of (offset, bytes).

    Less where it is nearly nothing but what HTML has to spell out.
    """
    room = SHOWN_BYTES
    pieces = _pieces(_end(chunks, room))
    while sum(len(escape(piece.text)) for piece in pieces) > MOST_HTML:
        room //= 2
        pieces = _pieces(_end(chunks, room))
    end = chunks[-1][0] + len(chunks[-1][1]) if chunks else 0
    return Printed(name, max(total, end), tuple(pieces))


def _end(chunks: Sequence[tuple[int, bytes]], room: int) -> list[tuple[int, bytes]]:
    kept: list[tuple[int, bytes]] = []
    for offset, data in reversed(chunks):
        if room <= 0:
            break
        tail = data[-room:]
        kept.append((offset + len(data) - len(tail), tail))
        room -= len(tail)
    return kept[::-1]


def _pieces(runs: Sequence[tuple[int, bytes]]) -> list[Piece]:
    joined: list[tuple[int, int, bytes]] = []
    end = 0
    for offset, data in runs:
        if joined and offset <= end:
            left_out, start, before = joined[-1]
            joined[-1] = (left_out, start, before + data)
        else:
            joined.append((offset - end, offset, data))
        end = offset + len(data)
    return [Piece(left_out, text(data, whole=not left_out)) for left_out, _, data in joined]


def text(data: bytes, *, whole: bool = True) -> str:
    """Bytes as text to read: colours dropped, progress bars at their last state, controls spelled out.

    Not `whole`: it may begin within a character, the rest of which is dropped.
    """
    if not whole:
        data = data[next((i for i, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0) :]
    decoded = _SGR.sub("", data.decode("utf-8", "replace")).replace("\r\n", "\n")
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in decoded.split("\n"))
    return visible("\n".join(lines), keep="\n\t")
