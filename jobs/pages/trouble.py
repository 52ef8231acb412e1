"""What a page says when the database or a row is of no use: 503, and nothing it had to ask for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeGuard, cast

from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.utils.cache import add_never_cache_headers
from django.views.defaults import server_error

from .. import dialect
from ..exceptions import UnreadableRow
from .headers import strict

RETRY_SECONDS = 30
FULL = "The database is full, so nothing can be stored; make room, and try again."
NOT_MIGRATED = "The database has no tables of this version yet"
DAMAGED = "The database is damaged; stop the workers, and restore a backup."
UNREADABLE = (
    "A row of the table {} cannot be read; somebody may have edited it."
    " Put it right in the database, or delete it there."
)
AWAY = "The database does not answer; try again in a moment."
PERHAPS_DONE = "The database does not answer; before you try again, look whether it was done."
"""A connection may break after the commit and before we hear of it."""

logger = logging.getLogger(__name__)
P = ParamSpec("P")


def telling_of_trouble(view: Callable[P, HttpResponseBase]) -> Callable[P, HttpResponseBase]:
    """A database that does not answer is a page, not a crash, in a site of anybody's."""

    @wraps(view)
    def told(*args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            return view(*args, **kwargs)
        except (DatabaseError, InterfaceError, UnreadableRow) as error:
            if not is_trouble(error):
                raise
            return unavailable(cast(HttpRequest, args[0]), error)

    return told


def is_trouble(error: BaseException | None) -> TypeGuard[Exception]:
    """The database is away, busy, full, damaged or without its tables: it is not what it was asked.

    Or a row holds what nobody can read.
    """
    return isinstance(error, OperationalError | InterfaceError | UnreadableRow) or (
        isinstance(error, DatabaseError)
        and (dialect.is_not_migrated(error) or dialect.is_damaged(error))
    )


def unavailable(request: HttpRequest, error: Exception) -> HttpResponse:
    """The answer instead of the one that such trouble has prevented; what it did is rolled back."""
    said = str(error).strip().partition("\n")[0]
    where = error if isinstance(error, UnreadableRow) else None
    told = "%s %s: the database cannot be used: %s"
    logger.error(told, request.method, request.path, said, exc_info=where)
    dialect.give_up()
    if session := getattr(request, "session", None):
        session.modified = False  # its middleware would store it now, in the same database
    text = render_to_string("queuectl/unavailable.html", {"sentence": _sentence(request, error)})
    response = HttpResponse(text, status=503, headers={"Retry-After": str(RETRY_SECONDS)})
    add_never_cache_headers(response)
    return strict(response)


def _sentence(request: HttpRequest, error: Exception) -> str:
    if isinstance(error, UnreadableRow):
        return UNREADABLE.format(error.table)
    if dialect.has_no_room(error):
        return FULL
    if dialect.is_not_migrated(error):
        return f"{NOT_MIGRATED}; {dialect.how_to_migrate()}"
    if dialect.is_damaged(error):
        return DAMAGED
    return AWAY if request.method in ("GET", "HEAD") else PERHAPS_DONE


class DatabaseTrouble:
    """Middleware of a site whose every address shall answer so, the login and the admin's too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return unavailable(request, error) if is_trouble(error) else None


def crashed(request: HttpRequest) -> HttpResponse:
    """A site's `handler500`: Django calls it too for the trouble that other middleware runs into."""
    error = sys.exc_info()[1]
    return unavailable(request, error) if is_trouble(error) else server_error(request)
