"""Whom the bundled web server waits for, and how long; with an application of its own."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.test import RequestFactory
from waitress import wasyncore

from jobs import clock
from jobs.cli import server
from tests.support import wait_until

pytestmark = pytest.mark.one_database

LARGE = 4_000_000
"""More than two sockets hold on their way."""

HALVES = [
    b"",
    b"GET / HT",
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx",
]


class Place:
    """A server whose rounds the test makes, one after another."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on, self.clients = threading.Event(), ExitStack()
        self.server = server.Server(self.answer, "127.0.0.1", 0, ipv6=False)

    def answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        self.asked.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/wait":
            assert self.go_on.wait(20)
        start_response("200 OK", [("Content-Length", str(LARGE))])
        return [bytes(LARGE)]

    def client(self, asks: bytes, room: int = 4096) -> socket.socket:
        client = self.clients.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        client.connect(("127.0.0.1", int(self.server.effective_port)))
        client.sendall(asks)
        client.setblocking(False)
        return client

    def until(self, condition: Callable[[], Any]) -> None:
        def turned() -> Any:
            wasyncore.loop(timeout=0.01, use_poll=True, map=self.server._map, count=1)
            return condition()

        wait_until(turned, every=0)

    def close(self) -> None:
        self.go_on.set()
        self.clients.close()
        self.server.task_dispatcher.shutdown()
        self.server.end()


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch, place: Place) -> Place:
    """Its patience is a fifth of a second, and it looks all the time."""
    monkeypatch.setattr(place.server.adj, "channel_timeout", 0.2)
    monkeypatch.setattr(place.server.adj, "cleanup_interval", 0)
    return place


def read(client: socket.socket, most: int = 65_536) -> bytes | None:
    try:
        return client.recv(most)
    except BlockingIOError:
        return None


def read_to_the_end(client: socket.socket) -> bytes:
    client.settimeout(20)
    return b"".join(iter(lambda: client.recv(65_536), b""))


@pytest.mark.parametrize("asked", HALVES)
def test_who_does_not_ask_to_the_end_is_cut_off_and_nothing_is_said_of_it(
    asked: bytes, hurried: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    client = hurried.client(asked)
    hurried.until(lambda: read(client) == b"")
    assert hurried.asked == []
    assert capsys.readouterr().err == ""


def test_who_takes_nothing_of_an_answer_is_cut_off(hurried: Place) -> None:
    hurried.client(b"GET / HTTP/1.1\r\n\r\n")
    hurried.until(lambda: hurried.asked == ["/"])
    hurried.until(lambda: not hurried.server.active_channels)


def test_who_reads_slowly_reads_to_the_end(hurried: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes five times as long as he may take nothing."""
    monkeypatch.setattr(hurried.server.adj, "channel_timeout", 0.6)
    client = hurried.client(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", room=65_536)
    got = 0
    began = clock.monotonic()

    def at_the_end() -> bool:
        nonlocal got
        allowed = int((clock.monotonic() - began) * LARGE / 3) - got
        data = read(client, allowed) if allowed > 0 else None
        got += len(data or b"")
        return data == b""

    hurried.until(at_the_end)
    assert got > LARGE


def test_who_asks_a_byte_at_a_time_is_cut_off_all_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place.server.adj, "cleanup_interval", 0)
    monkeypatch.setattr(server, "ASKING_SECONDS", 0.5)
    client = place.client(b"GET /")

    def is_cut_off() -> bool:
        try:
            return read(client) == b"" or client.send(b"x") < 0
        except ConnectionError:
            return True

    place.until(is_cut_off)
    assert not place.server.active_channels and place.asked == []


def test_a_hundred_half_questions_and_slow_readers_hold_no_thread(place: Place) -> None:
    for half in HALVES * 25:
        place.client(half)
    for _ in range(server.THREADS):
        place.client(b"GET / HTTP/1.1\r\n\r\n")
    place.until(lambda: len(place.asked) == server.THREADS)
    place.client(b"GET /last HTTP/1.1\r\n\r\n")
    place.until(lambda: place.asked[-1] == "/last")


def test_no_more_are_answered_at_once_than_there_are_threads(place: Place) -> None:
    clients = [place.client(b"GET /wait HTTP/1.1\r\n\r\n") for _ in range(2 * server.THREADS)]
    queue = place.server.task_dispatcher.queue
    place.until(lambda: len(queue) == server.THREADS == len(place.asked))
    place.go_on.set()
    place.until(lambda: len(place.asked) == len(clients))


def test_who_is_being_answered_when_it_is_interrupted_is_answered(place: Place) -> None:
    def interrupt() -> None:
        try:
            wait_until(lambda: place.asked)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
        wait_until(lambda: place.server.task_dispatcher.stop_count)
        place.go_on.set()

    client, got = place.client(b"GET /wait HTTP/1.1\r\n\r\n", room=65_536), list[bytes]()
    other = threading.Thread(target=interrupt)
    reader = threading.Thread(target=lambda: got.append(read_to_the_end(client)))
    place.server.serve(lambda: (other.start(), reader.start()))
    other.join()
    reader.join()
    assert got[0].startswith(b"HTTP/1.1 200 OK") and len(got[0]) > LARGE
    assert not place.server.active_channels


def test_an_answer_names_no_server(place: Place) -> None:
    client, got = place.client(b"GET / HTTP/1.0\r\n\r\n"), b""

    def has_the_head() -> bool:
        nonlocal got
        got += read(client) or b""
        return b"\r\n\r\n" in got

    place.until(has_the_head)
    assert b"erver:" not in got and b"aitress" not in got.partition(b"\r\n\r\n")[0]


def test_a_line_in_the_log_obeys_nothing_that_was_asked(caplog: pytest.LogCaptureFixture) -> None:
    request = RequestFactory().get("/", REQUEST_URI="/\x1b[31m\x9b", SERVER_PROTOCOL="HTTP/1.1")
    with caplog.at_level(logging.INFO, "django.server"):
        caplog.handler.setLevel(logging.INFO)
        logging.getLogger("django.server").addHandler(caplog.handler)
        try:
            server._write_down(request, server.HttpResponse(status=404))
        finally:
            logging.getLogger("django.server").removeHandler(caplog.handler)
    [record] = caplog.records
    assert record.getMessage() == '"GET /\\x1b[31m\\x9b HTTP/1.1" 404'
    assert record.levelno == logging.WARNING
