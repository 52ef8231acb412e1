"""Two hundred who read slowly or ask slowly: everybody else is answered as if they were not there."""

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.acceptance.served import Pages
from tests.acceptance.site import Site
from tests.support import wait_until

SLOW = 200
OTHERS = 10
"""Connections to the database that there may be beside so many; one each would be all there are."""

CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
QUESTIONS = (
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n",
    "POST /new/ HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\nContent-Length: 99\r\n\r\nid=",
)


@pytest.fixture
def slow(pages: Pages) -> Iterator[list[socket.socket]]:
    """Those who do not read what they asked for, or have not come to the end of their question."""
    with ExitStack() as stack:
        questions = [question.format(cookie=pages.cookie).encode() for question in QUESTIONS]
        yield [stack.enter_context(pages.connect(questions[n % 3])) for n in range(SLOW)]


def test_two_hundred_slow_readers_keep_nobody_else_from_an_answer(
    site: Site, pages: Pages, slow: list[socket.socket]
) -> None:
    asked = slow[::3]
    assert [pages.ask("/jobs/")[0].status for _ in range(10)] == [200] * 10
    assert pages.ask("/static/queuectl/queuectl.css")[0].status == 200
    site.enqueue(site.effect("beside"))
    site.run_until_empty()
    assert "beside" in pages.ask("/jobs/")[1]
    wait_until(lambda: len(select.select(asked, [], [], 0)[0]) == len(asked))
    if site.is_postgresql:
        assert site.sql(CONNECTIONS)[0][0] <= OTHERS
    assert all(reader.recv(16).startswith(b"HTTP/1.1 200 OK") for reader in asked)
