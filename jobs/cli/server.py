"""The bundled web server: waitress, which lets nobody wait for who asks or reads slowly."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer

from .. import clock
from ..pages.charset import OverWSGI
from ..validation import visible

THREADS = 8
"""As many are answered at once, and have a connection to the database."""

CONNECTIONS = 400
"""Each may need two descriptors more for what is put by in files; 1,024 is a usual limit."""

SILENT_SECONDS, ASKING_SECONDS, ENDING_SECONDS = 30, 120, 5

SEND_BUFFER = 64 * 1024
"""Linux makes it twice as large, and tells of what a reader takes once a third is free."""

MOST_HEADERS, MOST_BODY = 64 * 1024, 10 * 1024 * 1024

log = logging.getLogger("django.server")


class Question(HTTPRequestParser):  # type: ignore[misc]
    """What one client asks, since its first byte."""

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self.began = clock.monotonic()

    def parse_header(self, header_plus: bytes) -> None:
        """Waitress has a traceback for a length of 5,000 digits, and for an address like http://[."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError("HTTP message header invalid") from error


class Connection(HTTPChannel):  # type: ignore[misc]
    """One client."""

    parser_class = Question

    def readable(self) -> bool:
        """Once closed it waits for nothing: its number may be another's in the same round."""
        return self._fileno is not None and bool(super().readable())

    def writable(self) -> bool:
        return self._fileno is not None and bool(super().writable())

    def is_over(self) -> bool:
        asks = None if self.requests else self.request
        return bool(self.will_close) or (
            asks is not None and clock.monotonic() - asks.began > ASKING_SECONDS
        )


class Server(TcpWSGIServer):  # type: ignore[misc]
    """Listens from the start. A question reaches the application once it is there as a whole, and an
    answer is put by until it is taken, so neither a thread nor a connection to the database waits for
    a client. Who asks and takes nothing for 30 s is cut off, and who asks for longer than 120 s.
    """

    channel_class = Connection

    def __init__(self, application: Any, host: str, port: int, *, ipv6: bool) -> None:
        super().__init__(
            application,
            host=host,
            port=port,
            ipv4=not ipv6,
            ipv6=ipv6,
            threads=THREADS,
            connection_limit=CONNECTIONS,
            asyncore_use_poll=True,
            channel_timeout=SILENT_SECONDS,
            cleanup_interval=1,
            max_request_header_size=MOST_HEADERS,
            max_request_body_size=MOST_BODY,
            # The settings say whether a proxy's word is taken: HTTPS.
            clear_untrusted_proxy_headers=False,
            ident=None,
        )

    def set_socket_options(self, conn: socket.socket) -> None:
        super().set_socket_options(conn)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def maintenance(self, now: float) -> None:
        """Waitress itself closes who is silent as soon as he takes something, which may be never."""
        super().maintenance(now)
        for connection in list(self.active_channels.values()):
            if connection.is_over():
                connection.handle_close()

    def serve(self, on_bind: Callable[[], None]) -> None:
        """Until interrupted; what is being answered then has 5 s, and as many to be sent."""
        try:
            on_bind()
            self.run()
        finally:
            self.end()

    def end(self) -> None:
        """First what has been answered is sent, to who takes it within 5 s."""
        self.accepting = False
        until = clock.monotonic() + ENDING_SECONDS
        while self._has_answers() and clock.monotonic() < until:
            wasyncore.loop(timeout=0.2, use_poll=True, map=self._map, count=1)
        for connection in list(self.active_channels.values()):
            connection.handle_close()
        wasyncore.close_all(self._map)

    def _has_answers(self) -> bool:
        return any(each.total_outbufs_len for each in self.active_channels.values())


class Pages(WSGIHandler):
    """The site. Each answer is a line in the log; one to HEAD has no body, which waitress would send."""

    request_class = OverWSGI

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        response = super().get_response(request)
        _write_down(request, response)
        if request.method == "HEAD":
            if isinstance(response, StreamingHttpResponse):
                response.streaming_content = ()
            elif isinstance(response, HttpResponse):
                response.content = b""
        return response


def _write_down(request: HttpRequest, response: HttpResponseBase) -> None:
    """As Django's own server does."""
    status = response.status_code
    level = logging.ERROR if status >= 500 else logging.WARNING if status >= 400 else logging.INFO
    asked = f"{request.method} {request.META['REQUEST_URI']} {request.META['SERVER_PROTOCOL']}"
    log.log(level, '"%s" %s', visible(asked), status, extra={"status_code": status})
