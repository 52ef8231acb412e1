"""A way to a database server that can be cut, stopped, made to lose the answer to a COMMIT, or to
swallow for good what is said.
"""

import math
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass


@dataclass(eq=False)
class Way:
    """A connection through the proxy."""

    near: socket.socket
    far: socket.socket
    listens: bool = False
    loses_reply: bool = False
    swallows: bool = False
    """Whether nothing of it arrives any more, neither what is said nor that an end was closed."""


class Proxy:
    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.refuses = False
        self.rate = math.inf
        """Bytes a second that pass, each way of each connection."""

        self.swallows = False
        """Whether connections that are made now are swallowed from their beginning."""

        self.swallowed = 0
        """Bytes."""

        self.flows = threading.Event()
        self.flows.set()
        self.commits_to_lose = self.commits_lost = 0
        self._ways: set[Way] = set()
        self._guard = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """End every connection; how many there were."""
        ways = self._all()
        for way in ways:
            self._end(way)
        return len(ways)

    def swallow(self) -> int:
        """From now on nothing arrives of any connection, those to come too; how many there were."""
        self.swallows = True
        return self._swallow(self._all())

    def deafen(self) -> int:
        """Nothing arrives any more of those that LISTEN, or that something has ended; how many they were."""
        return self._swallow([way for way in self._all() if way.listens])

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.flows.set()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self.refuses:
                    raise ConnectionRefusedError
                far = socket.create_connection(self.server, timeout=5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            with self._guard:
                way = Way(near, far, swallows=self.swallows)
                self._ways.add(way)
            for carry in (self._up, self._down):
                threading.Thread(target=carry, args=(way,), daemon=True).start()

    def _up(self, way: Way) -> None:
        with suppress(OSError):
            while data := way.near.recv(65_536):
                self.flows.wait()
                way.listens = way.listens or b"LISTEN " in data
                if b"COMMIT\0" in data and self.commits_to_lose > 0:
                    self.commits_to_lose -= 1
                    way.loses_reply = True
                self._pass_on(data, way, way.far)
        self._hang_up(way)

    def _down(self, way: Way) -> None:
        with suppress(OSError):
            while data := way.far.recv(65_536):
                self.flows.wait()
                if way.loses_reply and b"COMMIT\0" in data:
                    self.commits_lost += 1
                    break
                self._pass_on(data, way, way.near)
        self._hang_up(way)

    def _pass_on(self, data: bytes, way: Way, to: socket.socket) -> None:
        if way.swallows:
            self.swallowed += len(data)
        else:
            time.sleep(len(data) / self.rate)
            to.sendall(data)

    def _hang_up(self, way: Way) -> None:
        if not way.swallows:
            self._end(way)

    def _swallow(self, ways: list[Way]) -> int:
        for way in ways:
            way.swallows = True
        return len(ways)

    def _all(self) -> list[Way]:
        with self._guard:
            return list(self._ways)

    def _end(self, way: Way) -> None:
        with self._guard:
            self._ways.discard(way)
        for sock in (way.near, way.far):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
