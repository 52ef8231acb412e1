"""What every page of the dashboard has around it: who may come in, refusals, the strict headers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.csrf import csrf_protect

from .. import dialect, stats
from ..exceptions import (
    InvalidField,
    JobNotFound,
    NotPermitted,
    QueueCTLError,
    QuotaReached,
    TooBroad,
)
from ..models import Worker
from ..operations import Actor, must
from ..pages.charset import only_utf_8
from ..pages.headers import strict
from ..pages.trouble import telling_of_trouble
from ..validation import visible

DELETE = {"discard": "Delete"}
"""The original's word."""

MOST_QUEUES = 100

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def page(view: View[P]) -> View[P]:
    """Log in first, then `view_job`; a refusal is a page that says what to do; strict headers.

    A database that does not answer is a page too, and so it is if it is asked who logs in.
    """

    @only_utf_8
    @telling_of_trouble
    @csrf_protect
    def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if request.user.is_authenticated:
            return _answer(view, request, *args, **kwargs)
        return redirect_to_login(request.get_full_path())

    @wraps(view)
    def answer(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        response = guarded(request, *args, **kwargs)
        add_never_cache_headers(response)
        return strict(response)

    return cast(View[P], answer)


def _answer(
    view: View[P], request: HttpRequest, *args: P.args, **kwargs: P.kwargs
) -> HttpResponseBase:
    try:
        must(actor_of(request), "view_job", "see", f"page {request.path}")
        return view(request, *args, **kwargs)
    except QuotaReached as error:
        return _problem(request, error, 429)
    except NotPermitted as error:
        return _problem(request, error, 403)
    except JobNotFound as error:
        return _problem(request, error, 404)
    except (InvalidField, TooBroad) as error:
        return _problem(request, error, 400)
    except Http404:
        return _problem(request, QueueCTLError("There is nothing at this address"), 404)


def actor_of(request: HttpRequest) -> Actor:
    return Actor(request.user.get_username(), "web", user=request.user)


def _problem(request: HttpRequest, error: QueueCTLError, status: int) -> HttpResponse:
    allowed = request.user.has_perm("queuectl.view_job")
    context = frame(request, "", None if allowed else [])
    context |= {"message": visible(str(error)), "hint": visible(error.hint)}
    return render(request, "queuectl/problem.html", context, status=status)


def frame(
    request: HttpRequest, tab: str, workers: Sequence[Worker] | None = None
) -> dict[str, Any]:
    """What every page has around it."""
    if workers is None:
        workers = stats.live_workers(dialect.now())
    return {"tab": tab, "running": bool(workers), "path": request.get_full_path()}


def next_page(request: HttpRequest, home: str) -> str:
    """Where to go on: the page that was named, if it is one of this site."""
    named = request.POST.get("next") or request.GET.get("next") or ""
    safe = named.startswith("/") and url_has_allowed_host_and_scheme(
        named, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return named if safe else home
