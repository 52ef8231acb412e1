"""Requests that name another charset than UTF-8, at our pages and at a whole site's."""

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.test import Client, RequestFactory
from pytest_django.fixtures import Settings

from jobs.cli.server import Pages
from tests.integration.builders import make_queues
from tests.integration.test_admin import every_address, listing
from tests.integration.test_dashboard import OPEN, browser, html, page, rows

pytestmark = pytest.mark.django_db

SURROGATE = "%2B2AA-"
"""U+D800 in UTF-7, which no database stores."""

SENTENCE = "leave 'charset' out of Content-Type"
LOGIN = "/accounts/login/"


@pytest.fixture
def embedded(settings: Settings) -> None:
    """In a site that has not this middleware."""
    settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if "charset" not in each]


def asked(client: Client, address: str, charset: str) -> Any:
    return client.get(address, CONTENT_TYPE=f"text/plain; charset={charset}")


def refused(response: Any) -> bool:
    whole = response.headers["Content-Length"] == str(len(response.content))
    return response.status_code == 415 and SENTENCE in html(response) and whole


@pytest.mark.parametrize("charset", ["utf-7", "latin-1", "utf-16"])
@pytest.mark.parametrize("query", ["?a=1", f"?next=%2F{SURROGATE}"])
def test_the_project_reads_utf_8_alone(client: Client, charset: str, query: str) -> None:
    for address in (LOGIN, "/admin/login/", "/", "/nowhere"):
        assert refused(asked(client, address + query, charset)), address


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", "nonsense"])
def test_what_django_reads_as_utf_8_is_read(client: Client, charset: str) -> None:
    assert asked(client, f"{LOGIN}?a=1", charset).status_code == 200


@pytest.mark.usefixtures("embedded")
def test_a_search_in_another_charset_is_no_row_that_cannot_be_read() -> None:
    client = browser("superuser")
    for address in (page("jobs"), listing()):
        assert refused(asked(client, f"{address}?q={SURROGATE}", "utf-7")), address


@pytest.mark.usefixtures("embedded")
def test_every_page_of_ours_refuses_another_charset_in_any_site() -> None:
    names = ("overview", "jobs", "dlq", "charts", "new", "start-workers", "stop-workers")
    client = browser("superuser")
    for address in (*map(page, names), *every_address()):
        assert refused(asked(client, f"{address}?a=1", "utf-7")), address


@pytest.mark.usefixtures("embedded")
def test_a_form_in_another_charset_stores_nothing(settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    make_queues()
    client, before = browser("superuser"), rows()
    body = '--x\r\nContent-Disposition: form-data; name="command"\r\n\r\necho +2AA-\r\n--x--\r\n'
    kind = "multipart/form-data; boundary=x; charset=utf-7"
    assert refused(client.generic("POST", page("new"), body, kind))
    assert rows() == before


# A charset that is for no text, in which Django cannot even make a request


def over_wsgi(application: Any, content_type: str) -> tuple[int, str]:
    told: list[str] = []
    environ = RequestFactory().get(f"{LOGIN}?a=%ff", REQUEST_URI=LOGIN).environ
    environ["CONTENT_TYPE"] = content_type
    response = application(environ, lambda status, headers: told.append(status))
    return int(told[0][:3]), b"".join(response).decode()


def by_wsgi(content_type: str) -> tuple[int, str]:
    from queuectl_project.wsgi import application

    return over_wsgi(application, content_type)


def by_our_server(content_type: str) -> tuple[int, str]:
    return over_wsgi(Pages(), content_type)


@async_to_sync
async def by_asgi(content_type: str) -> tuple[int, str]:
    from queuectl_project.asgi import application

    headers = [(b"host", b"localhost"), (b"content-type", content_type.encode())]
    scope = {"type": "http", "method": "GET", "path": LOGIN, "query_string": b"a=%ff"}
    asking = ApplicationCommunicator(application, scope | {"headers": headers})
    await asking.send_input({"type": "http.request"})
    begun, body = await asking.receive_output(10), await asking.receive_output(10)
    await asking.wait()
    return begun["status"], body["body"].decode()


@pytest.mark.parametrize("ask", [by_wsgi, by_our_server, by_asgi], ids=["wsgi", "ours", "asgi"])
def test_a_charset_for_no_text_is_refused_by_each_server(
    ask: Callable[[str], tuple[int, str]],
) -> None:
    for charset in ("hex", "idna"):
        status, said = ask(f"text/plain; charset={charset}")
        assert (status, SENTENCE in said) == (415, True)
    assert ask("text/plain; charset*=nonsense''x")[0] == 200
    assert ask("text/plain; charset=utf-8")[0] == 200
