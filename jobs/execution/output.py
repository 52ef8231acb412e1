"""What is kept of a stream that may never end: its head, its tail, and how long it was."""

from __future__ import annotations

from collections import deque

from ..outcome import Captured


class Capture:
    """Takes a stream piece by piece in bounded memory: at most `limit` bytes and one piece more."""

    def __init__(self, limit: int) -> None:
        self._room = limit - limit // 2
        self._tail_limit = limit // 2
        self._head: list[bytes] = []
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._total = 0

    def add(self, piece: bytes) -> None:
        self._total += len(piece)
        if self._room:
            first, piece = piece[: self._room], piece[self._room :]
            self._head.append(first)
            self._room -= len(first)
        if piece:
            self._tail.append(piece)
            self._tail_size += len(piece)
            while self._tail_size - len(self._tail[0]) >= self._tail_limit:
                self._tail_size -= len(self._tail.popleft())

    def captured(self) -> Captured:
        """What is kept now. Head and tail together are the whole stream if it fitted."""
        tail = b"".join(self._tail)[-self._tail_limit :] if self._tail else b""
        return Captured(b"".join(self._head), tail, self._total)
