"""What is kept of a stream that may never end: its head, its tail, and how long it was."""

from __future__ import annotations

from ..outcome import Captured


class Capture:
    """Takes a stream piece by piece in bounded memory: twice `limit` bytes, and a piece more."""

    def __init__(self, limit: int) -> None:
        self._room = limit - limit // 2
        self._tail_limit = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    def add(self, piece: bytes) -> None:
        self._total += len(piece)
        if self._room:
            first, piece = piece[: self._room], piece[self._room :]
            self._head += first
            self._room -= len(first)
        self._tail += piece
        # Cut now and then rather than at every piece, or each would move the whole tail.
        if len(self._tail) > 2 * self._tail_limit:
            del self._tail[: len(self._tail) - self._tail_limit]

    def captured(self) -> Captured:
        """What is kept now. Head and tail together are the whole stream if it fitted."""
        start = max(0, len(self._tail) - self._tail_limit)
        return Captured(bytes(self._head), bytes(self._tail[start:]), self._total)
