"""A way to a database server that can be cut, stopped, or made to lose the answer to a COMMIT."""

import socket
import threading
from contextlib import suppress


class Proxy:
    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.refuses = False
        self.flows = threading.Event()
        self.flows.set()
        self.commits_to_lose = self.commits_lost = 0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._guard = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """End every connection; how many there were."""
        with self._guard:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)
        return len(pairs)

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
            pair = near, far
            with self._guard:
                self._pairs.add(pair)
            losing = threading.Event()
            threading.Thread(target=self._up, args=(pair, losing), daemon=True).start()
            threading.Thread(target=self._down, args=(pair, losing), daemon=True).start()

    def _up(self, pair: tuple[socket.socket, socket.socket], losing: threading.Event) -> None:
        near, far = pair
        with suppress(OSError):
            while data := near.recv(65_536):
                self.flows.wait()
                if b"COMMIT\0" in data and self.commits_to_lose > 0:
                    self.commits_to_lose -= 1
                    losing.set()
                far.sendall(data)
        self._end(pair)

    def _down(self, pair: tuple[socket.socket, socket.socket], losing: threading.Event) -> None:
        near, far = pair
        with suppress(OSError):
            while data := far.recv(65_536):
                self.flows.wait()
                if losing.is_set() and b"COMMIT\0" in data:
                    self.commits_lost += 1
                    break
                near.sendall(data)
        self._end(pair)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._guard:
            self._pairs.discard(pair)
        for sock in pair:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
