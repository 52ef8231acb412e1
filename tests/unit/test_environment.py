import os
import sqlite3
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from queuectl_project.environment import (
    PrivateConnection,
    boolean,
    database,
    secret_key,
    text,
    words,
)

DEFAULT = Path("/srv/queue/queuectl.sqlite3")


def configured(monkeypatch: pytest.MonkeyPatch, url: str) -> dict[str, object]:
    monkeypatch.setenv("DATABASE_URL", url)
    return database("DATABASE_URL", default=DEFAULT)


@pytest.mark.parametrize(
    ("word", "value"), [("on", True), ("TRUE", True), ("0", False), (" no ", False), ("", True)]
)
def test_a_boolean_is_one_of_the_usual_words(
    monkeypatch: pytest.MonkeyPatch, word: str, value: bool
) -> None:
    monkeypatch.setenv("SWITCH", word)
    assert boolean("SWITCH", default=True) is value


def test_words_are_divided_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDS", "example.org, .example.com,")
    assert words("WORDS", default=[]) == ["example.org", ".example.com"]


def test_a_dollar_is_an_ordinary_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "$HOME")
    assert text("KEY") == "$HOME"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("", "/srv/queue/queuectl.sqlite3"),
        ("sqlite:///other.sqlite3", "/srv/queue/other.sqlite3"),
        ("sqlite:////var/lib/other.sqlite3", "/var/lib/other.sqlite3"),
    ],
)
def test_a_relative_sqlite_file_lies_in_the_project(
    monkeypatch: pytest.MonkeyPatch, url: str, path: str
) -> None:
    assert configured(monkeypatch, url)["NAME"] == path


def test_sqlite_takes_the_write_lock_first_and_syncs_each_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = configured(monkeypatch, "sqlite:///other.sqlite3?timeout=5")["OPTIONS"]
    assert isinstance(options, dict)
    assert (options["transaction_mode"], options["timeout"]) == ("IMMEDIATE", 5)
    assert "synchronous=FULL" in options["init_command"]


def test_a_postgresql_url_may_hold_an_encoded_password_and_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configured(monkeypatch, "postgres://me:p%40ss%2F@db:5433/queue?sslmode=require")
    assert (config["USER"], config["PASSWORD"]) == ("me", "p@ss/")
    assert (config["HOST"], config["PORT"], config["NAME"]) == ("db", 5433, "queue")
    assert config["OPTIONS"] == {"connect_timeout": 5, "sslmode": "require"}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:///x.sqlite3?timeout=abc", "the option timeout has a value it cannot have"),
        ("sqlite:///x.sqlite3?timeout=yes", "the option timeout has a value it cannot have"),
        ("sqlite:///x.sqlite3?bogus=hunter2", "has an unknown option; of SQLite it takes: timeout"),
        ("sqlite:///x.sqlite3?factory=x", "has an unknown option"),
        ("sqlite:///x%00y.sqlite3", "must look like"),
        ("postgres://u:hunter2@h/db?CONN_MAX_AGE=abc", "CONN_MAX_AGE must be a whole number"),
    ],
)
def test_an_option_of_the_database_that_cannot_be_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL") as caught:
        configured(monkeypatch, url)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_new_database_and_a_made_key_are_their_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        file = tmp_path / "queue.sqlite3"
        connection = sqlite3.connect(file, factory=PrivateConnection)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        assert len(secret_key("NO_KEY", file=tmp_path / ".secret_key", debug=False)) > 50
        assert len(list(tmp_path.iterdir())) == 4
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
        connection.close()
    finally:
        os.umask(old)


def test_the_owner_of_a_database_decides_who_else_may_open_it(tmp_path: Path) -> None:
    file = tmp_path / "queue.sqlite3"
    file.touch(mode=0o660)
    file.chmod(0o660)
    sqlite3.connect(file, factory=PrivateConnection).close()
    assert file.stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize("there", [True, False])
def test_a_link_planted_by_another_user_is_refused_and_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    if there:
        victim.write_text("x" * 60)
    link.symlink_to(victim)
    assert not there or secret_key("NO_KEY", file=link, debug=False) == "x" * 60  # our own link
    if os.getuid() == 0:
        os.lchown(link, 4711, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 4711)
    for act in (
        lambda: sqlite3.connect(link, factory=PrivateConnection),
        lambda: secret_key("NO_KEY", file=link, debug=False),
    ):
        with pytest.raises(ImproperlyConfigured, match="another user has made"):
            act()
    assert victim.exists() == there
