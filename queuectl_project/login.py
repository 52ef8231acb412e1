"""What the login does when it is tried too often."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def too_many(request: HttpRequest, *rest: Any) -> HttpResponse:
    """Instead of another try: a page that says how long to wait."""
    wait = settings.AXES_COOLOFF_TIME
    context = {"minutes": int(wait.total_seconds() // 60)}
    response = render(request, "registration/locked.html", context, status=429)
    response.headers["Retry-After"] = str(int(wait.total_seconds()))
    return response


def address(request: HttpRequest) -> str | None:
    """Who is at the other end of the connection, whatever the request says of itself."""
    found: str | None = request.META.get("REMOTE_ADDR")
    return found or None
