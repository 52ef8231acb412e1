"""Two hundred who read slowly or ask slowly: everybody else is answered as if they were not there."""

import http.client
import re
import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from urllib.parse import urlencode

import pytest

from tests.acceptance.databases import ROOT
from tests.acceptance.site import CONSOLE, Site
from tests.postgres import free_port
from tests.support import wait_until

SLOW, AT_ONCE = 200, 5
OTHERS = 10
"""Connections to the database that there may be beside so many; one each would be all there are."""

PERSON = {"username": "ana", "password": "one that is long enough"}
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"


class Pages:
    """A site's pages, served as `queuectl web` does, and somebody who has logged in."""

    def __init__(self, port: int) -> None:
        self.port, self.cookie, self.slow = port, "", ExitStack()

    def log_in(self) -> None:
        answer, text = self.ask("/accounts/login/")
        self.cookie = _given(answer)
        found = re.search(r'csrfmiddlewaretoken" value="(\w+)"', text)
        assert found, text
        answer, _ = self.ask("/accounts/login/", PERSON | {"csrfmiddlewaretoken": found[1]})
        self.cookie = _given(answer)
        assert "sessionid=" in self.cookie

    def ask(
        self, path: str, body: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            headers = {"Cookie": self.cookie, "Content-Type": "application/x-www-form-urlencoded"}
            connection.request(
                "POST" if body else "GET", path, urlencode(body) if body else None, headers
            )
            answer = connection.getresponse()
            return answer, answer.read().decode()

    def ask_slowly(self, *, ends: bool) -> socket.socket:
        """One who does not read what he asked for, or has not yet come to the end of his question."""
        slow = self.slow.enter_context(socket.socket())
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        slow.connect(("127.0.0.1", self.port))
        question = f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {self.cookie}\r\n"
        slow.sendall((question + ("\r\n" if ends else "")).encode())
        return slow


def _given(answer: http.client.HTTPResponse) -> str:
    given = answer.headers.get_all("Set-Cookie", ())
    return "; ".join(value.partition(";")[0] for value in given)


@pytest.fixture
def pages(site: Site) -> Iterator[Pages]:
    who = ("--username", PERSON["username"], "--email", "ana@example.org")
    site.manage(
        "createsuperuser", "--noinput", *who, env={"DJANGO_SUPERUSER_PASSWORD": PERSON["password"]}
    )
    pages, log = Pages(free_port()), site.directory / "web.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            [*CONSOLE, "web", "--port", str(pages.port)],
            cwd=ROOT, env=site.env, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        wait_until(
            lambda: "Press Ctrl+C" in log.read_text(), timeout=20, message=lambda: log.read_text()
        )
        pages.log_in()
        yield pages
        assert "Traceback" not in log.read_text()
    finally:
        # First: a question that is cut off is one to it, and a hundred at once are a crowd.
        server.terminate()
        server.wait(10)
        pages.slow.close()


def test_two_hundred_slow_readers_keep_nobody_else_from_an_answer(site: Site, pages: Pages) -> None:
    asked: list[socket.socket] = []
    for number in range(SLOW):
        slow = pages.ask_slowly(ends=number % 2 == 0)
        asked += [slow] if number % 2 == 0 else []
        if number % (2 * AT_ONCE) == 0:
            wait_until(_have_begun_to_hear(asked))
    wait_until(_have_begun_to_hear(asked))
    assert [pages.ask("/jobs/")[0].status for _ in range(10)] == [200] * 10
    assert pages.ask("/static/queuectl/queuectl.css")[0].status == 200
    site.enqueue(site.effect("beside"))
    site.run_until_empty()
    assert "beside" in pages.ask("/jobs/")[1]
    if site.is_postgresql:
        assert site.sql(CONNECTIONS)[0][0] <= OTHERS
    assert all(slow.recv(16).startswith(b"HTTP/1.1 200 OK") for slow in asked)


def _have_begun_to_hear(asked: list[socket.socket]) -> Callable[[], bool]:
    """All at once would have a connection each after all, for the moment in which they are answered."""
    return lambda: len(select.select(asked, [], [], 0)[0]) == len(asked)
