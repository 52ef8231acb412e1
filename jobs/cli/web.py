"""Django's own server, for a desk and not for the open."""

from __future__ import annotations

import socket
from collections.abc import Callable

from django.core.servers import basehttp
from django.core.wsgi import get_wsgi_application

from ..exceptions import QueueCTLError


def free_port(host: str, first: int, *, tries: int = 50) -> int:
    """The first port from `first` on that nobody listens on. Raises QueueCTLError."""
    for port in range(first, first + tries):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise QueueCTLError(f"No port from {first} to {first + tries - 1} is free on {host}")


def serve(host: str, port: int, on_bind: Callable[[], None]) -> None:
    """Serve the project until interrupted; `on_bind` is called once it listens."""
    application = get_wsgi_application()
    basehttp.run(host, port, application, threading=True, on_bind=lambda bound: on_bind())
