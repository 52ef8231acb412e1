"""Django's own server, for a desk and not for the open."""

from __future__ import annotations

import socket
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import suppress
from io import BufferedIOBase
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.core.servers import basehttp
from django.http.response import HttpResponseBase

from .. import dialect, validation
from ..exceptions import QueueCTLError
from . import door
from .printing import Printer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def build(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=_port, default=5000, help="port to listen on (default: 5000)"
    )
    parser.add_argument(
        "--debug", action="store_true", help="reload when code changes; needs DEBUG=on"
    )
    parser.set_defaults(verb=run)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535):
        raise ArgumentTypeError(f"{validation.shown(text)} is not a port from 1 to 65535")
    return int(text)


def run(options: Namespace, printer: Printer) -> int:
    """Django's own server: one machine, one desk. A site in the open has a server of its own."""
    if options.debug and not settings.DEBUG:
        raise QueueCTLError("--debug is for development only", hint="set DEBUG=on")
    free_port(options.host, options.port, tries=1)
    address = validation.visible(_address(options.host, options.port))
    if options.host not in LOOPBACK:
        said = f"{validation.visible(options.host)} can be reached from other machines"
        printer.narrate(f"Warning: {said}; use a real server there")
    if options.debug:
        ipv6 = _family(options.host) == socket.AF_INET6
        call_command("runserver", address, use_ipv6=ipv6)
        return door.DONE

    def announce() -> None:
        printer.line(f"Starting web server on http://{address}")
        printer.line("Press Ctrl+C to stop")
        printer.out.flush()

    try:
        serve(options.host, options.port, announce)
    except KeyboardInterrupt:
        printer.narrate("Stopped")
    return door.DONE


def free_port(host: str, first: int, *, tries: int = 50) -> int:
    """The first port from `first` on that nobody listens on. Raises QueueCTLError."""
    family, why = _family(host), ""
    for port in range(first, first + tries):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                why = str(error.strerror or error)
                continue
            return port
    if tries == 1:
        raise QueueCTLError(
            f"Cannot listen on {_address(host, first)}: {why}",
            hint="choose another with --host or --port",
        )
    raise QueueCTLError(f"No port from {first} to {first + tries - 1} is free on {host}")


def serve(host: str, port: int, on_bind: Callable[[], None]) -> None:
    """Serve the project until interrupted; `on_bind` is called once it listens."""
    application, ipv6 = Pages(), _family(host) == socket.AF_INET6
    basehttp.run(
        host,
        port,
        application,
        ipv6=ipv6,
        threading=True,
        on_bind=lambda bound: on_bind(),
        server_cls=Server,
    )


class Server(basehttp.WSGIServer):
    """Django's, whose readers are not waited for without end."""

    def __init__(
        self, address: Any, handler: type[basehttp.WSGIRequestHandler], **more: Any
    ) -> None:
        super().__init__(address, Reader, **more)


class Reader(basehttp.WSGIRequestHandler):
    """One connection. It ends where nothing of a question comes, or of an answer is taken, for a while."""

    timeout = 30

    def setup(self) -> None:
        super().setup()
        self.wfile = cast(Any, Answer(cast(socket.socket, self.connection)))

    def handle(self) -> None:
        with suppress(TimeoutError):
            super().handle()


class Answer(BufferedIOBase):
    """What is written to one who reads. One who takes too long counts as gone, and is not logged."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            self.connection.sendall(data)
        except TimeoutError:
            raise ConnectionAbortedError from None
        return memoryview(data).nbytes


class Pages(WSGIHandler):
    """Each reader has a thread, for as long as he reads and asks; only while he is answered has that
    thread a connection to the database. Two hundred would take all that a PostgreSQL gives.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> HttpResponseBase:
        response = super().__call__(environ, start_response)
        # A site's own stream may read on while it is sent; a file is something else, which says nothing.
        if not getattr(response, "streaming", True):
            dialect.close()
        return response


def _family(host: str) -> int:
    """IPv4 where the host has both. Raises QueueCTLError where it has no address."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise QueueCTLError(
            f"No address is known for {validation.shown(host)}", hint="choose another with --host"
        ) from None
    return min((family for family, *_ in found), key=lambda family: family != socket.AF_INET)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
