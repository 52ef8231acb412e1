"""The page and the admin, served for a desk and not for the open."""

from __future__ import annotations

import socket
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import suppress

from django.conf import settings
from django.core.management import call_command

from .. import validation
from ..exceptions import QueueCTLError
from . import door
from .printing import Printer

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
    """One machine, one desk. A site in the open has a server of its own."""
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

    door.end_when_told()  # what is being answered is answered first
    with suppress(KeyboardInterrupt):
        serve(options.host, options.port, announce)
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
    """Serve the project until interrupted; `on_bind` is called once it listens. Raises QueueCTLError."""
    try:
        from .server import Pages, Server
    except ModuleNotFoundError:
        raise QueueCTLError(
            "The web server needs waitress, which is not installed",
            hint="run: pip install waitress",
        ) from None
    ipv6 = _family(host) == socket.AF_INET6
    Server(Pages(), host, port, ipv6=ipv6).serve(on_bind)


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
