"""What passes between the processes of a worker: frames of plain values over a socket pair.

Neither end ever waits for the other: sockets do not block, and what does not fit now waits in
an outbox. (A socket pair takes about 230 KB; two ends that both write more would stand still.)
A frame is its length and a marshalled tuple (tag, *values).
"""

from __future__ import annotations

import marshal
import os
import select
import socket
import struct
from collections.abc import Iterable
from typing import Any

from ..outcome import Captured, Kind, Obstacle, Outcome
from ..work import About, Run, Work

# Ledger to runner
RUN, RENEW, CANCEL, RECALL, DRAIN, TAKEN = "run", "renew", "cancel", "recall", "drain", "taken"
# Runner to ledger
STARTED, ENDED, RETURNED = "started", "ended", "returned"
# Ledger to supervisor, and back
READY, REFUSED, PULSE, STOPPING = "ready", "refused", "pulse", "stopping"
STOP, RUNNER_GONE, REPLACED = "stop", "runner gone", "replaced"
WANT_TASK_RUNNER, TASK_RUNNER, TASK_RUNNER_GONE = "want task runner", "task runner", "gone"
KILL = "kill"

_LENGTH = struct.Struct("!I")
_LARGEST = 64 * 1024 * 1024


class Closed(Exception):
    """The other end is gone, or has sent what is no frame."""


class Channel:
    """One end. `fileno` for a selector; `wants_write` says whether to wait for room too."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._outbox = bytearray()
        self._inbox = bytearray()
        self.passed: list[int | None] = []
        """File descriptors that came with the frames, in order; None for one that there was no room for."""

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def wants_write(self) -> bool:
        return bool(self._outbox)

    def send(self, tag: str, *values: Any) -> None:
        """Add a frame and send what the socket takes now. Raises Closed."""
        self.add(tag, *values)
        self.flush()

    def add(self, tag: str, *values: Any) -> None:
        """Put a frame behind those that wait, to be sent with the next `flush`."""
        body = marshal.dumps((tag, *values))
        self._outbox += _LENGTH.pack(len(body))
        self._outbox += body

    def send_with_fd(self, fd: int, tag: str, *values: Any) -> None:
        """Send a small frame with a file descriptor, in order. Raises Closed."""
        body = marshal.dumps((tag, *values))
        self.socket.setblocking(True)
        try:
            self.socket.sendall(self._outbox)
            self._outbox.clear()
            socket.send_fds(self.socket, [_LENGTH.pack(len(body)) + body], [fd])
        except OSError:
            raise Closed from None
        finally:
            self.socket.setblocking(False)

    def flush(self) -> None:
        try:
            while self._outbox:
                sent = self.socket.send(self._outbox)
                del self._outbox[:sent]
        except BlockingIOError:
            pass
        except OSError:
            raise Closed from None

    def is_readable(self) -> bool:
        """Whether `receive` has something to give now, be it the end."""
        return bool(select.select([self.socket], [], [], 0)[0])

    def receive(self) -> list[tuple[Any, ...]]:
        """Every whole frame that has arrived. Raises Closed at the end of the stream, once all are read."""
        try:
            data, fds, flags, _ = socket.recv_fds(self.socket, 1 << 18, 16)
        except BlockingIOError:
            return []
        except OSError:
            raise Closed from None
        for fd in fds:
            os.set_inheritable(fd, False)
        # The kernel reads no further than to the end of a frame with a descriptor.
        self.passed += fds or ([None] if flags & socket.MSG_CTRUNC else [])
        if not data:
            raise Closed
        self._inbox += data
        return list(self._frames())

    def _frames(self) -> Iterable[tuple[Any, ...]]:
        start = 0
        while len(self._inbox) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._inbox, start)
            if length > _LARGEST:
                raise Closed
            end = start + _LENGTH.size + length
            if len(self._inbox) < end:
                break
            yield _frame(bytes(self._inbox[start + _LENGTH.size : end]))
            start = end
        del self._inbox[:start]

    def close(self) -> None:
        self.socket.close()


def _frame(body: bytes) -> tuple[Any, ...]:
    try:
        frame = marshal.loads(body)  # noqa: S302 (between our own processes)
    except (ValueError, EOFError, TypeError):
        raise Closed from None
    if not isinstance(frame, tuple) or not frame or not isinstance(frame[0], str):
        raise Closed
    return frame


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


_PLAIN = Work._fields.index("put_off_since")
"""What comes after is the ledger's own business."""

_LEDGERS_OWN = tuple(Work._field_defaults[name] for name in Work._fields[_PLAIN:])


def from_work(work: Work) -> tuple[Any, ...]:
    plain = work[:_PLAIN]
    if work.about is None:
        return plain
    *most, past = work.about
    return (*plain[:-1], (*most, [tuple(run) for run in past]))


def to_work(values: tuple[Any, ...]) -> Work:
    work = Work._make((*values, *_LEDGERS_OWN))
    if work.about is None:
        return work
    *most, past = work.about
    return work._replace(about=About._make([*most, tuple(map(Run._make, past))]))


_KINDS = {kind.value: kind for kind in Kind}
_NOTHING = Captured()
_BY_VALUE = Outcome._fields.index("stdout")
"""Before this an outcome has plain values, but for its kind."""


def from_outcome(o: Outcome) -> tuple[Any, ...]:
    obstacle = None if o.obstacle is None else str(o.obstacle)
    out, err = _from_captured(o.stdout), _from_captured(o.stderr)
    return (str(o.kind), *o[1:_BY_VALUE], out, err, obstacle, o.traceback, o.result)


def to_outcome(values: tuple[Any, ...]) -> Outcome:
    out, err, obstacle, traceback, result = values[_BY_VALUE:]
    why = None if obstacle is None else Obstacle(obstacle)
    streams = _to_captured(out), _to_captured(err)
    return Outcome._make(
        (_KINDS[values[0]], *values[1:_BY_VALUE], *streams, why, traceback, result)
    )


def _from_captured(captured: Captured) -> tuple[Any, ...] | None:
    return tuple(captured) if captured.total else None


def _to_captured(values: tuple[Any, ...] | None) -> Captured:
    return _NOTHING if values is None else Captured._make(values)
