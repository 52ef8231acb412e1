from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from jobs.pages.headers import HEADERS

pytestmark = pytest.mark.django_db


def test_the_database_syncs_commits_and_keeps_foreign_keys() -> None:
    questions = {
        "sqlite": {"PRAGMA journal_mode": "wal", "PRAGMA synchronous": 2, "PRAGMA foreign_keys": 1},
        "postgresql": {"SHOW fsync": "on", "SHOW synchronous_commit": "on"},
    }
    with connection.cursor() as cursor:
        for question, answer in questions[connection.vendor].items():
            cursor.execute(question)
            assert cursor.fetchone() == (answer,)


def test_home_leads_through_login_and_back(client: Client) -> None:
    User.objects.create_superuser("ann", password="a long password")
    page = client.get("/", follow=True)
    assert page.redirect_chain == [("/accounts/login/?next=/", 302)]
    page = client.post(
        "/accounts/login/", {"username": "ann", "password": "a long password"}, follow=True
    )
    assert page.redirect_chain == [("/", 302)]
    assert b"QueueCTL" in page.content


def test_a_wrong_password_is_said_on_the_login_page(client: Client) -> None:
    page = client.post("/accounts/login/", {"username": "ann", "password": "wrong"})
    assert page.status_code == 200
    assert b"errorlist" in page.content


def test_an_unknown_address_has_a_page(client: Client) -> None:
    page = client.get("/nowhere")
    assert page.status_code == 404
    assert b"There is nothing at this address" in page.content


def test_the_page_for_a_crash_needs_nothing_that_may_be_broken(client: Client) -> None:
    from django.views.defaults import server_error

    page = server_error(client.get("/nowhere").wsgi_request)
    assert page.status_code == 500
    assert b"Something went wrong" in page.content


@pytest.mark.parametrize("address", ["/accounts/login/", "/admin/login/", "/nowhere", "/admin/"])
def test_every_page_has_the_strict_headers(client: Client, address: str) -> None:
    response = client.get(address)
    assert {name: response.headers[name] for name in HEADERS} == HEADERS


def test_a_crash_has_the_strict_headers(client: Client) -> None:
    client.raise_request_exception = False
    with patch("jobs.dashboard.frame.actor_of", side_effect=RuntimeError("boom")):
        client.force_login(User.objects.create_superuser("root"))
        response = client.get("/")
    assert response.status_code == 500
    assert {name: response.headers[name] for name in HEADERS} == HEADERS


def test_djangos_own_page_for_developers_keeps_its_styles(client: Client, settings: Any) -> None:
    settings.DEBUG = True
    assert "Content-Security-Policy" not in client.get("/nowhere").headers
    assert "Content-Security-Policy" in client.get("/accounts/login/").headers


# Too many tries


def log_in(
    client: Client, password: str, *, name: str = "ann", door: str = "/accounts/login/", **more: str
) -> Any:
    return client.post(door, {"username": name, "password": password}, **more)  # type: ignore[arg-type]


@pytest.fixture
def quick_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.mark.usefixtures("quick_passwords")
@pytest.mark.parametrize("door", ["/accounts/login/", "/admin/login/"])
def test_ten_wrong_passwords_close_the_login_for_a_while(client: Client, door: str) -> None:
    User.objects.create_superuser("ann", password="a long password")
    User.objects.create_superuser("ben", password="a long password")
    # Another address for itself each time, which nobody believes.
    said = [
        log_in(client, "wrong", door=door, HTTP_X_FORWARDED_FOR=f"10.0.0.{n}").status_code
        for n in range(50)
    ]
    assert said == [200] * 9 + [429] * 41
    page = log_in(client, "a long password", door=door)
    assert page.status_code == 429
    assert page.headers["Retry-After"] == "900"
    assert b"Wait 15 minutes" in page.content
    assert "_auth_user_id" not in client.session
    elsewhere = log_in(Client(), "a long password", door=door, REMOTE_ADDR="192.0.2.1")
    assert elsewhere.status_code == 302
    assert log_in(client, "a long password", name="ben", door=door).status_code == 302


@pytest.mark.usefixtures("quick_passwords")
def test_the_login_opens_again_and_forgets_what_is_over(client: Client) -> None:
    from axes.models import AccessAttempt

    User.objects.create_superuser("ann", password="a long password")
    for _ in range(11):
        log_in(client, "wrong")
    before = AccessAttempt.objects.get().attempt_time
    assert log_in(client, "wrong").status_code == 429
    assert AccessAttempt.objects.get().attempt_time == before  # trying does not make it longer
    AccessAttempt.objects.update(attempt_time=before - timedelta(minutes=15, seconds=1))
    assert log_in(client, "a long password").status_code == 302
    assert not AccessAttempt.objects.exists()


def test_throttling_belongs_to_the_project_and_not_to_the_app() -> None:
    import jobs

    sources = Path(jobs.__file__).parent.rglob("*.py")
    assert not [path for path in sources if "axes" in path.read_text()]
