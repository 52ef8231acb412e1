from pathlib import Path

import pytest

from queuectl_project.environment import boolean, database, text, words

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
