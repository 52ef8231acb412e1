"""Where the sites of the tests get their databases from: a copy of a migrated one for each."""

import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import sql

ROOT = Path(__file__).resolve().parents[2]
MANAGE = (sys.executable, str(ROOT / "manage.py"))


class Databases(Protocol):
    is_postgresql: bool

    def new(self, *, migrated: bool = True) -> str: ...
    def drop(self, url: str) -> None: ...
    def query(self, url: str, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]: ...


class SqliteDatabases:
    is_postgresql = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.template = directory / "template.sqlite3"
        migrate(f"sqlite:///{self.template}")
        with closing(sqlite3.connect(self.template)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def new(self, *, migrated: bool = True) -> str:
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
        self.template = f"queuectl_template_{secrets.token_hex(4)}"
        self.execute("CREATE DATABASE {}", self.template)
        migrate(f"{self.server}/{self.template}")

    def new(self, *, migrated: bool = True) -> str:
        name = f"queuectl_site_{secrets.token_hex(4)}"
        template = self.template if migrated else "template1"
        self.execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return f"{self.server}/{name}"

    def drop(self, url: str) -> None:
        self.execute("DROP DATABASE {} WITH (FORCE)", url.rsplit("/", 1)[1])

    def close(self) -> None:
        self.execute("DROP DATABASE {} WITH (FORCE)", self.template)

    def query(self, url: str, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        with psycopg.connect(url) as connection:
            cursor = connection.execute(query, params)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def execute(self, statement: str, *names: str) -> None:
        """Run a statement about databases, from outside of them."""
        with psycopg.connect(self.maintenance, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def databases(url: str, directory: Path) -> Iterator[Databases]:
    if url.startswith("postgres"):
        postgres = PostgresDatabases(url)
        try:
            yield postgres
        finally:
            postgres.close()
    else:
        yield SqliteDatabases(directory)


def environment(database_url: str) -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": database_url,
        "SECRET_KEY": secrets.token_urlsafe(50),
        "DEBUG": "on",
        "PYTHONWARNINGS": "error",
    }


def migrate(database_url: str) -> None:
    subprocess.run(
        [*MANAGE, "migrate", "--verbosity=0"],
        cwd=ROOT,
        env=environment(database_url),
        check=True,
        timeout=120,
    )
