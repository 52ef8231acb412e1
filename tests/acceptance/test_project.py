"""The host project as a fresh clone finds it: settings, secret key, static files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance import typist
from tests.acceptance.site import ROOT

pytestmark = pytest.mark.one_database

LONG_KEY = "k3y-" + "0123456789abcdefghij" * 3
VARIABLES = ("DATABASE_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "HTTPS", "TIME_ZONE")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "manage.py", tmp_path)
    shutil.copytree(ROOT / "queuectl_project", tmp_path / "queuectl_project")
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    return tmp_path


def environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return inherited | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | variables


def manage(clone: Path, *args: str, **variables: str) -> tuple[int, str, str]:
    command = [str(clone / "manage.py"), *args]
    result = typist.shared().type(command, env=environment(**variables), cwd=clone)
    return result.returncode, result.stdout.decode(), result.stderr.decode()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DEBUG", "yes please"),
        ("HTTPS", "tls"),
        ("TIME_ZONE", "Mars/Olympus_Mons"),
        ("TIME_ZONE", "../etc/passwd"),
        ("DATABASE_URL", "hunter2"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite://:memory:"),
        ("DATABASE_URL", "mysql://someone:hunter2@localhost/queue"),
        ("DATABASE_URL", "postgres://someone:hunter2@localhost:port/queue"),
        ("DATABASE_URL", "postgres://someone:hunter2@localhost"),
        ("DATABASE_URL", "$hunter2"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "queue.example.org, *"),
        ("SECRET_KEY", "changeme"),
        ("SECRET_KEY", "hunter2" * 7),
        ("SECRET_KEY", "$" * 60),
        ("SECRET_KEY", "django-insecure-" + LONG_KEY),
    ],
)
def test_a_bad_variable_is_one_sentence_with_its_name_and_without_its_value(
    clone: Path, variable: str, value: str
) -> None:
    code, stdout, stderr = manage(clone, "check", **{variable: value})
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert stderr.startswith(f"Error: {variable} must ")
    assert value not in stderr
    assert "hunter2" not in stderr


def test_a_weak_key_and_any_host_are_accepted_in_development(clone: Path) -> None:
    code, _, stderr = manage(clone, "check", SECRET_KEY="changeme", ALLOWED_HOSTS="*", DEBUG="on")
    assert code == 0, stderr


def test_processes_starting_at_once_agree_on_one_private_key(clone: Path) -> None:
    show = "from queuectl_project.settings import SECRET_KEY; print(SECRET_KEY)"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", show],
            cwd=clone,
            env=environment(PYTHONPATH=str(clone)),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    keys = {process.communicate(timeout=60)[0].strip() for process in processes}
    file = clone / ".secret_key"
    assert keys == {file.read_text()}
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(clone.glob(".secret_key.*")) == []


def test_a_relative_sqlite_path_is_below_the_project_whatever_the_directory(clone: Path) -> None:
    show = "from django.conf import settings as s; print(s.DATABASES['default']['NAME'])"
    _, stdout, _ = manage(
        clone, "shell", "--no-imports", "-c", show, DATABASE_URL="sqlite:///here.sqlite3"
    )
    assert stdout.strip() == str(clone / "here.sqlite3")


def test_production_settings_pass_the_deployment_check(clone: Path) -> None:
    code, _, stderr = manage(
        clone,
        *("check", "--deploy", "--fail-level", "WARNING"),
        SECRET_KEY=LONG_KEY,
        ALLOWED_HOSTS="example.org",
        HTTPS="on",
    )
    assert code == 0, stderr


@pytest.mark.parametrize("collected", [False, True], ids=["fresh clone", "after collectstatic"])
def test_pages_have_their_styles_outside_development(clone: Path, collected: bool) -> None:
    if collected:
        code, _, stderr = manage(clone, "collectstatic", "--noinput", "--verbosity=0")
        assert code == 0, stderr
    show = """
import re
from django.test import Client
client = Client(headers={"host": "localhost"})
for path in ("/admin/login/", "/accounts/login/", "/nowhere"):
    page = client.get(path)
    for href in re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.content.decode()):
        style = client.get(href)
        print(page.status_code, style.status_code, href, bool(b"".join(style)))
        style.close()
"""
    code, stdout, stderr = manage(clone, "shell", "--no-imports", "-c", show)
    assert code == 0, stderr
    lines = [line.split() for line in stdout.splitlines()]
    assert {line[0] for line in lines} == {"200", "404"}
    assert {(line[1], line[3]) for line in lines} == {("200", "True")}
    names = [line[2] for line in lines]
    assert any(name.startswith("/static/admin/css/base.") for name in names)
    assert all((name.count(".") == 2) == collected for name in names)
