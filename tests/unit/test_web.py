"""Where `queuectl web` listens, and what is said where it cannot."""

import socket
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from django.core.servers import basehttp

from jobs.cli import web
from jobs.exceptions import QueueCTLError
from jobs.management.commands.queuectl import Command

pytestmark = pytest.mark.one_database


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def free_on_ipv6() -> int:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            return int(probe.getsockname()[1])
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_it_listens_on_an_address_of_ipv6(
    free_on_ipv6: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Mock()
    monkeypatch.setattr(basehttp, "run", server)
    assert web.free_port("::1", free_on_ipv6, tries=1) == free_on_ipv6
    web.serve("::1", free_on_ipv6, lambda: None)
    assert server.call_args.kwargs["ipv6"] is True
    web.serve("127.0.0.1", free_on_ipv6, lambda: None)
    assert server.call_args.kwargs["ipv6"] is False


def test_a_port_that_is_taken_is_named_with_its_reason(taken: int) -> None:
    with pytest.raises(QueueCTLError, match=f"127.0.0.1:{taken}: Address already in use"):
        web.free_port("127.0.0.1", taken, tries=1)


def test_the_next_port_is_looked_for(taken: int) -> None:
    assert taken < web.free_port("127.0.0.1", taken) < taken + 50


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "x" * 100])
def test_a_host_without_an_address_is_named(host: str) -> None:
    with pytest.raises(QueueCTLError) as caught:
        web.free_port(host, 5000, tries=1)
    assert "No address is known for" in str(caught.value) and host[:5] in str(caught.value)


@pytest.mark.parametrize("asked", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_connection_that_does_not_ask_to_the_end_is_closed(
    asked: bytes,
    taken: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("jobs.cli.web.Reader.timeout", 0.2)

    def serve_one(server: basehttp.WSGIServer) -> None:
        server.handle_request()
        server.server_close()

    monkeypatch.setattr(basehttp.WSGIServer, "serve_forever", serve_one)
    port = web.free_port("127.0.0.1", taken)
    with socket.socket() as client:

        def ask() -> None:
            client.connect(("127.0.0.1", port))
            client.sendall(asked)
            client.settimeout(10)

        web.serve("127.0.0.1", port, ask)
        assert client.recv(1) == b""
    assert "Traceback" not in capsys.readouterr().err


def test_the_warning_comes_only_with_an_address_and_a_terminal_obeys_none_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        Command().run_from_argv(["manage.py", "queuectl", "web", "--host", "\x1b[31m"])
    said = capsys.readouterr().err
    assert said.startswith("Error: No address is known for ")
    assert "Warning" not in said and "\x1b" not in said
