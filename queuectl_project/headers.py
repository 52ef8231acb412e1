"""Every answer of the project, the admin's and the error pages too, forbids what the dashboard does."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from jobs.pages.headers import strict


def strict_headers(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        # Django's own pages for developers bring their styles inline.
        if settings.DEBUG and response.status_code >= 400:
            return response
        return strict(response)

    return answer
