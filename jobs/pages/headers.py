"""What our pages forbid the browser: scripts of others, frames, guessing a type, telling where one was."""

from __future__ import annotations

from typing import TypeVar

from django.http import HttpResponseBase

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

Response = TypeVar("Response", bound=HttpResponseBase)


def strict(response: Response) -> Response:
    """The response with these headers, whatever the host's middleware says."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    return response
