"""Values from the environment. Whatever is wrong with one is a single sentence that names the
variable and never repeats its value, which may be a password."""

import os
import secrets
import sqlite3
import stat
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.core.exceptions import ImproperlyConfigured
from environ import Env

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off"}
KEY_LENGTH = 50
KNOWN_KEYS = ("django-insecure-", "changeme", "change-me", "secret", "insecure", "password")


def text(name: str, *, default: str = "") -> str:
    # Not Env.str: a value that begins with $ would be taken for another variable's name.
    return os.environ.get(name, "").strip() or default


def words(name: str, *, default: list[str]) -> list[str]:
    return [word.strip() for word in text(name).split(",") if word.strip()] or default


def hosts(name: str, *, default: list[str], debug: bool) -> list[str]:
    found = words(name, default=default)
    if "*" in found and not debug:
        raise ImproperlyConfigured(
            f"{name} must list the names of this site; any name at all goes with DEBUG=on only."
        )
    return found


def boolean(name: str, *, default: bool) -> bool:
    # Not Env.bool: it takes every word it does not know for False.
    word = text(name, default="on" if default else "off").lower()
    if word not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name} must be on or off (also: true, false, yes, no, 1, 0).")
    return word in TRUE


def time_zone(name: str, *, default: str) -> str:
    zone = text(name, default=default)
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise ImproperlyConfigured(
            f"{name} must name a time zone, such as UTC or Europe/Berlin."
        ) from None
    return zone


def database(name: str, *, default: Path) -> dict[str, Any]:
    url = text(name)
    config = _parsed(name, url) if url else _sqlite(default)
    if "\0" in config["NAME"]:
        raise ImproperlyConfigured(_DATABASE_FORMS.format(name=name))
    if not isinstance(config.get("CONN_MAX_AGE", 0), int | None):
        raise ImproperlyConfigured(f"{name}: CONN_MAX_AGE must be a whole number of seconds.")
    if config["ENGINE"] == "django.db.backends.sqlite3":
        return _with_sqlite_options(name, config, directory=default.parent)
    if config["ENGINE"] == "django.db.backends.postgresql":
        return _with_postgresql_options(name, config)
    raise ImproperlyConfigured(_DATABASE_FORMS.format(name=name))


_DATABASE_FORMS = (
    "{name} must look like sqlite:///path/to/file.sqlite3 "
    "or postgres://user:password@host:5432/database "
    "(special characters in a password are percent-encoded)."
)


def _sqlite(path: Path) -> dict[str, Any]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}


def _parsed(name: str, url: str) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            # The parser's warnings quote the URL, password included.
            warnings.simplefilter("error")
            config: dict[str, Any] = Env.db_url_config(url)
    except Exception:  # urlsplit, int and the parser each raise their own, quoting the URL
        raise ImproperlyConfigured(_DATABASE_FORMS.format(name=name)) from None
    return config


def _with_sqlite_options(name: str, config: dict[str, Any], directory: Path) -> dict[str, Any]:
    if config["NAME"] == ":memory:":
        raise ImproperlyConfigured(
            f"{name} must name a file: a database in memory is not shared between processes."
        )
    given = config.get("OPTIONS", {})
    for option, value in given.items():
        if not (kind := _SQLITE_OPTIONS.get(option)):
            known = ", ".join(_SQLITE_OPTIONS)
            raise ImproperlyConfigured(
                f"{name} has an unknown option; of SQLite it takes: {known}."
            )
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ImproperlyConfigured(f"{name}: the option {option} has a value it cannot have.")
    options = {
        "factory": PrivateConnection,
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # No mmap: there, a failing disk is a SIGBUS and not an exception.
        "init_command": (
            "PRAGMA journal_mode=WAL;"
            "PRAGMA synchronous=FULL;"
            "PRAGMA journal_size_limit=67108864;"
            "PRAGMA mmap_size=0;"
        ),
    }
    return config | {
        # A relative path is the same file from every directory.
        "NAME": str(directory / config["NAME"]),
        "OPTIONS": options | given,
    }


_SQLITE_OPTIONS: dict[str, Any] = {
    "timeout": (int, float),
    "transaction_mode": str,
    "init_command": str,
}


class PrivateConnection(sqlite3.Connection):
    """Makes a database that is not there yet for its owner alone; SQLite's other files follow it."""

    def __init__(self, database: Any, *args: Any, **options: Any) -> None:
        if not str(database).startswith(("file:", ":memory:")):
            _refuse_planted(Path(database))
            with suppress(OSError):  # it is there; or it cannot be made, which SQLite will say
                os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        super().__init__(database, *args, **options)


def _refuse_planted(file: Path) -> None:
    """Raise ImproperlyConfigured for a symbolic link that somebody else has put there."""
    try:
        found = file.lstat()
    except (OSError, ValueError):
        return
    if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.getuid()):
        raise ImproperlyConfigured(
            f"{file.name} is a symbolic link that another user has made; remove it."
        )


def _with_postgresql_options(name: str, config: dict[str, Any]) -> dict[str, Any]:
    if not config["NAME"]:
        raise ImproperlyConfigured(_DATABASE_FORMS.format(name=name))
    return {
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        **config,
        "OPTIONS": {"connect_timeout": 5} | config.get("OPTIONS", {}),
    }


def secret_key(name: str, *, file: Path, debug: bool) -> str:
    key = text(name)
    if not key:
        return _key_from(file, name)
    weak = len(key) < KEY_LENGTH or len(set(key)) < 5 or key.lower().startswith(KNOWN_KEYS)
    if weak and not debug:
        raise ImproperlyConfigured(
            f"{name} must be at least {KEY_LENGTH} random characters and no well-known value; "
            f"unset, one is made and kept in {file.name}."
        )
    return key


def _key_from(file: Path, name: str) -> str:
    _refuse_planted(file)
    try:
        if not file.exists():
            _create_key(file)
        key = file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise ImproperlyConfigured(
            f"{name} is not set, and {file.name} in the project directory cannot be read or made."
        ) from None
    if len(key) < KEY_LENGTH:
        raise ImproperlyConfigured(
            f"{file.name} in the project directory holds no key; delete it, or set {name}."
        )
    return key


def _create_key(file: Path) -> None:
    # Written apart and linked into place: of two processes at once the first wins, and neither
    # ever reads a file that is only half written.
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(KEY_LENGTH))
            stream.flush()
            os.fsync(stream.fileno())
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
