"""Every address of the project, asked in every way that it does not know."""

import re
from collections.abc import Iterator, Sequence

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from pytest_django.fixtures import Settings

from jobs.models import Setting
from jobs.states import JobState
from tests.integration.builders import make_job, make_queues, make_worker
from tests.integration.test_dashboard import rows, superuser

pytestmark = pytest.mark.django_db

METHODS = ("PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "CONNECT", "PROPFIND", "BREW")
PARAMETERS = re.compile(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>[^)]*\)")


def addresses(
    patterns: Sequence[URLPattern | URLResolver], values: dict[str, str], before: str = "/"
) -> Iterator[str]:
    for pattern in patterns:
        route = PARAMETERS.sub(lambda found: values[found[1] or found[2]], str(pattern.pattern))
        route = before + route.strip("^$")
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, values, route)
        else:
            yield route


def everything() -> list[object]:
    models = (User, LogEntry, Setting)
    return [*rows(), *(list(model.objects.order_by("pk").values()) for model in models)]


@pytest.mark.parametrize("method", METHODS)
def test_no_address_does_anything_for_a_method_that_it_does_not_know(
    method: str, settings: Settings
) -> None:
    settings.QUEUECTL = {"COMMAND_POLICY": "shell", "START_WORKERS_FROM_WEB": True}
    job = make_job(key="j", state=JobState.DEAD)
    make_worker()
    make_queues()
    values = {
        "key": "j", "name": "retry", "object_id": str(job.pk), "id": "1", "app_label": "queuectl",
        "content_type_id": "1", "url": "nowhere",
    }  # fmt: skip
    client = Client()
    client.force_login(superuser())
    before = everything()
    asked = list(addresses(get_resolver().url_patterns, values))
    assert len(asked) > 40
    for address in asked:
        response = client.generic(method, address, "id=x&command=true&confirm=1&post=yes")
        ours = not address.startswith(("/admin/", "/accounts/"))
        assert response.status_code == 405 if ours else response.status_code < 500, address
        assert everything() == before, address
