"""A request is read as UTF-8. One that names another charset is refused before anybody reads it."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, cast

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from ..validation import visible
from .headers import strict

P = ParamSpec("P")


def only_utf_8(view: Callable[P, HttpResponseBase]) -> Callable[P, HttpResponseBase]:
    """A view, or as middleware a whole site: 415 for a charset in which Django would read query and form.

    In some of them it cannot, and others make texts that no database stores.
    """

    @wraps(view)
    def checked(*args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        charset = cast(HttpRequest, args[0]).encoding
        if charset is None or codecs.lookup(charset).name == "utf-8":
            return view(*args, **kwargs)
        said = f"This site reads UTF-8, not '{visible(charset)}': leave 'charset' out of Content-Type.\n"
        kind, length = "text/plain; charset=utf-8", str(len(said.encode()))
        headers = {"Content-Type": kind, "Content-Length": length}
        return strict(HttpResponse(said, status=415, headers=headers))

    return checked


class _Careful(HttpRequest):
    """Can be made of any Content-Type, so that it can be answered.

    Django reads the query as soon as it hears of a charset, and crashes in one that is for no text. Nor
    does it catch what it raises itself for a header that is none.
    """

    def _set_content_type_params(self, meta: Any) -> None:
        self.content_type, self.content_params = "", {}
        with suppress(LookupError, ValueError, BadRequest, SuspiciousOperation):
            super()._set_content_type_params(meta)  # type: ignore[misc]


class OverWSGI(_Careful, WSGIRequest):
    """What a site's WSGI handler makes of a question, as its `request_class`."""


class OverASGI(_Careful, ASGIRequest):
    """The same for ASGI."""
