"""What is kept of a stream that may never end: its head, its tail, and how long it was."""

from __future__ import annotations

from collections.abc import Sequence

from ..outcome import Captured


class Capture:
    """Takes a stream piece by piece in bounded memory: twice `limit` bytes, and a piece more.

    With a `margin`, so many bytes beyond either cut can be looked at too, see `parts`.
    """

    def __init__(self, limit: int, margin: int = 0) -> None:
        self._head_limit, self._tail_limit = limit - limit // 2, limit // 2
        self._room = self._head_limit + margin
        self._most = self._tail_limit + margin
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, piece: bytes) -> None:
        self.total += len(piece)
        if self._room:
            first, piece = piece[: self._room], piece[self._room :]
            self._head += first
            self._room -= len(first)
        self._tail += piece
        # Cut now and then rather than at every piece, or each would move the whole tail.
        if len(self._tail) > 2 * self._most:
            del self._tail[: len(self._tail) - self._most]

    def captured(self) -> Captured:
        """What is kept now, without a margin. Head and tail together are the whole stream if it fitted."""
        return Captured(bytes(self._head), bytes(self._tail[self._start() :]), self.total)

    def _start(self) -> int:
        return max(0, len(self._tail) - self._most)

    def parts(self) -> list[bytes]:
        """What is held: the whole stream, or its two ends, with their margins."""
        start = self._start()
        if len(self._head) + len(self._tail) - start == self.total:
            return [bytes(self._head + self._tail)]
        return [bytes(self._head), bytes(self._tail[start:])]

    def cut(self, parts: Sequence[bytes]) -> Captured:
        """Of such parts, each as long as it was, what is kept."""
        first, last = parts[0], parts[-1]
        head = first[: self._head_limit]
        length = min(self._tail_limit, self.total - len(head))
        return Captured(head, last[len(last) - length :], self.total)
