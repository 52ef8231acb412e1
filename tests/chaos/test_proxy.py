"""What the proxy does to a connection, seen from both of its ends."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.chaos.proxy import Proxy
from tests.support import wait_until

pytestmark = pytest.mark.one_database


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        yield listening


@pytest.fixture
def proxy(server: socket.socket) -> Iterator[Proxy]:
    with closing(Proxy(server.getsockname())) as there:
        yield there


def connected(proxy: Proxy, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection through it, over which something has been said."""
    near = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    far, _ = server.accept()
    far.settimeout(5)
    near.sendall(b"hello")
    assert far.recv(9) == b"hello"
    return near, far


def hears_nothing(end: socket.socket) -> bool:
    end.settimeout(0.3)
    try:
        return end.recv(9) is None
    except TimeoutError:
        return True


def test_what_is_swallowed_never_arrives_nor_does_the_end_of_it(
    proxy: Proxy, server: socket.socket
) -> None:
    near, far = connected(proxy, server)
    with far:
        assert proxy.swallow() == 1
        near.sendall(b"lost")
        wait_until(lambda: proxy.swallowed == 4)
        near.close()
        assert hears_nothing(far)
        proxy.swallows = False
        assert proxy.cut() == 1
        assert far.recv(9) == b""
    for end in connected(proxy, server):
        end.close()


def test_a_connection_that_is_made_while_the_proxy_swallows_hears_nothing(
    proxy: Proxy, server: socket.socket
) -> None:
    proxy.swallow()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as near:
        far, _ = server.accept()
        with far:
            far.sendall(b"lost")
            assert hears_nothing(near)


def test_only_who_listens_is_deafened(proxy: Proxy, server: socket.socket) -> None:
    talks, listens = connected(proxy, server), connected(proxy, server)
    listens[0].sendall(b"Q LISTEN queuectl")
    assert b"LISTEN" in listens[1].recv(99)
    assert proxy.deafen() == 1
    for _, far in (talks, listens):
        far.sendall(b"news")
    assert talks[0].recv(9) == b"news"
    assert hears_nothing(listens[0])
    assert proxy.swallowed == 4
    for end in (*talks, *listens):
        end.close()
