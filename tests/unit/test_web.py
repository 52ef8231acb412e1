"""Where `queuectl web` listens, and what is said where it cannot."""

import socket
import sys
from collections.abc import Iterator

import pytest

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


def test_it_listens_on_an_address_of_ipv6(free_on_ipv6: int) -> None:
    assert web.free_port("::1", free_on_ipv6, tries=1) == free_on_ipv6

    def ask_and_interrupt() -> None:
        socket.create_connection(("::1", free_on_ipv6), timeout=10).close()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        web.serve("::1", free_on_ipv6, ask_and_interrupt)


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


def test_without_the_server_that_it_needs_there_is_a_sentence(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "jobs.cli.server", raising=False)
    monkeypatch.setitem(sys.modules, "waitress", None)
    with pytest.raises(QueueCTLError, match="needs waitress, which is not installed") as caught:
        web.serve("127.0.0.1", web.free_port("127.0.0.1", taken), lambda: None)
    assert caught.value.hint == "run: pip install waitress"


def test_the_warning_comes_only_with_an_address_and_a_terminal_obeys_none_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        Command().run_from_argv(["manage.py", "queuectl", "web", "--host", "\x1b[31m"])
    said = capsys.readouterr().err
    assert said.startswith("Error: No address is known for ")
    assert "Warning" not in said and "\x1b" not in said
