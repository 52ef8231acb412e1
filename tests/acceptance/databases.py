"""Where tests get their databases from: a copy for each of one that was migrated once for all."""

import fcntl
import os
import secrets
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import psycopg
from psycopg import sql

from tests.acceptance import typist

Connection = psycopg.Connection[tuple[Any, ...]]
ROOT = Path(__file__).resolve().parents[2]
MANAGE = (sys.executable, str(ROOT / "manage.py"))


END_OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
COLUMNS = """
SELECT attrelid::regclass::text, attname::text FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped ORDER BY 1, 2
"""
# All rows but those that migrations make, and every sequence at its start.
EMPTY = """
DO $$
DECLARE name text;
BEGIN
  SET LOCAL session_replication_role = replica;
  FOR name IN SELECT c.oid::regclass FROM pg_class c
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
    AND relname NOT IN ('django_migrations', 'django_content_type', 'auth_permission')
  LOOP EXECUTE 'DELETE FROM ' || name; END LOOP;
  FOR name IN SELECT c.oid::regclass FROM pg_class c
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
    AND relname NOT IN ('django_migrations_id_seq', 'django_content_type_id_seq',
                        'auth_permission_id_seq')
  LOOP PERFORM setval(name::regclass, 1, false); END LOOP;
END $$
"""


class Databases(Protocol):
    is_postgresql: bool

    def new(self, *, migrated: bool = True, fresh: bool = False) -> str: ...
    def drop(self, url: str) -> None: ...
    def query(self, url: str, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]: ...


class SqliteDatabases:
    is_postgresql = False

    def __init__(self, directory: Path) -> None:
        self.directory, self.template = directory, ""

    def make(self) -> str:
        template = self.directory / "template.sqlite3"
        template.write_bytes(migrated())
        return str(template)

    def close(self, *, last: bool) -> None:
        """Its files go with the directory."""

    def new(self, *, migrated: bool = True, fresh: bool = False) -> str:
        copy = self.directory / f"site-{secrets.token_hex(4)}" / "site.sqlite3"
        copy.parent.mkdir()
        if migrated:
            shutil.copyfile(self.template, copy)
        return f"sqlite:///{copy}"

    def drop(self, url: str) -> None:
        shutil.rmtree(Path(url.removeprefix("sqlite:///")).parent)

    def query(self, url: str, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, timeout=20)) as connection, connection:
            return connection.execute(query.replace("%s", "?"), params).fetchall()


class PostgresDatabases:
    is_postgresql = True

    def __init__(self, server: str) -> None:
        self.server = server.rsplit("/", 1)[0]
        self.maintenance = f"{self.server}/postgres"
        self.directory, self.template = Path(), ""
        self._columns: list[tuple[Any, ...]] = []
        self.connections: dict[str, Connection] = {}
        """One to each database, kept: tests ask many times a second, and a new one costs 20 ms."""

        self.spare: list[str] = []
        """Used, and empty again. To make one takes the server 0.1 s, to drop it 0.5."""

    def make(self) -> str:
        template = f"queuectl_template_{secrets.token_hex(4)}"
        self.execute("CREATE DATABASE {}", template)
        migrate(f"{self.server}/{template}")
        return template

    def new(self, *, migrated: bool = True, fresh: bool = False) -> str:
        if migrated and self.spare and not fresh:
            return self.spare.pop()
        name = f"queuectl_site_{secrets.token_hex(4)}"
        template = self.template if migrated else "template1"
        self.execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return f"{self.server}/{name}"

    def drop(self, url: str) -> None:
        with suppress(psycopg.Error):
            self.query(url, END_OTHERS, ())
            if self.query(url, COLUMNS, ()) == self.columns():
                self.query(url, EMPTY, ())
                self.spare.append(url)
                return
        self._drop(url)

    def columns(self) -> list[tuple[Any, ...]]:
        if not self._columns:
            url = f"{self.server}/{self.template}"
            self._columns = self.query(url, COLUMNS, ())
            self.forget(url)  # nobody may be connected to what is copied
        return self._columns

    def _drop(self, url: str) -> None:
        self.forget(url)
        self.execute("DROP DATABASE {} WITH (FORCE)", url.rsplit("/", 1)[1])

    def query(self, url: str, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._cursor(url) as cursor:
            cursor.execute(query, params)
            return cursor.fetchall() if cursor.description else []

    def execute(self, statement: str, *names: str) -> None:
        """Run a statement about databases, from outside of them."""
        with self._cursor(self.maintenance) as cursor:
            cursor.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _cursor(self, url: str) -> psycopg.Cursor[tuple[Any, ...]]:
        """On a connection that is known to live: tests cut them."""
        with suppress(KeyError, psycopg.OperationalError):
            self.connections[url].execute("SELECT 1")
            return self.connections[url].cursor()
        self.forget(url)
        self.connections[url] = psycopg.connect(url, autocommit=True)
        return self.connections[url].cursor()

    def forget(self, url: str) -> None:
        if connection := self.connections.pop(url, None):
            connection.close()

    def close(self, *, last: bool) -> None:
        for url in [*self.spare, *([f"{self.server}/{self.template}"] if last else [])]:
            self._drop(url)
        for url in list(self.connections):
            self.forget(url)


@contextmanager
def databases(url: str, directory: Path) -> Iterator[Databases]:
    source = PostgresDatabases(url) if url.startswith("postgres") else SqliteDatabases(directory)
    source.template = source.make()
    try:
        yield source
    finally:
        source.close(last=True)


@contextmanager
def shared_databases(url: str, directory: Path, place: Path) -> Iterator[Databases]:
    """Who shares that place shares the template: the first makes it, the last removes it."""
    source = PostgresDatabases(url) if url.startswith("postgres") else SqliteDatabases(place)
    source.directory = directory
    name, last = place / "template", False
    with (place / "template.users").open("w") as users:
        with locked(place / "template.lock"):
            fcntl.flock(users, fcntl.LOCK_SH)
            if not name.exists():
                name.write_text(source.make())
        source.template = name.read_text()
        try:
            yield source
        finally:
            with locked(place / "template.lock"):
                with suppress(BlockingIOError):
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    last = True
                    name.unlink()
                source.close(last=last)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def environment(database_url: str) -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": database_url,
        "SECRET_KEY": secrets.token_urlsafe(50),
        "DEBUG": "on",
        "PYTHONWARNINGS": "error",
    }


def migrate(database_url: str) -> None:
    command = [*MANAGE[1:], "migrate", "--verbosity=0"]
    result = typist.shared().type(command, env=environment(database_url), cwd=ROOT, timeout=120)
    assert result.returncode == 0, result.stderr.decode()


@cache
def migrated() -> bytes:
    """A SQLite file with all tables, and no row but Django's own."""
    with TemporaryDirectory() as directory:
        file = Path(directory) / "migrated.sqlite3"
        migrate(f"sqlite:///{file}")
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return file.read_bytes()
