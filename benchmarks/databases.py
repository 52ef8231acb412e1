"""The servers and files that jobs are kept in. Everything is started here and removed again."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from .processes import Failed, end


class Database(Protocol):
    name: str
    settings: str

    def fresh(self, template: str = "") -> AbstractContextManager[str]:
        """The URL of a new database, empty or a copy of another; removed on leaving."""


class Sqlite:
    name = "SQLite"
    settings = "WAL, synchronous FULL, BEGIN IMMEDIATE"

    def __init__(self, directory: Path) -> None:
        self.directory, self.numbers = directory, count(1)

    @contextmanager
    def fresh(self, template: str = "") -> Iterator[str]:
        place = self.directory / f"sqlite{next(self.numbers)}"
        place.mkdir()
        file = place / "bench.sqlite3"
        if template:
            shutil.copyfile(template.removeprefix("sqlite://"), file)
            os.sync()  # else the commits that are measured wait for the copy to be on the disk
        try:
            yield f"sqlite://{file}"
        finally:
            shutil.rmtree(place)


class Postgres:
    name = "PostgreSQL"

    def __init__(self, url: str) -> None:
        self.base, self.numbers = url.rpartition("/")[0], count(1)
        self.settings = f"PostgreSQL {self._ask('SHOW server_version')}, its default settings"

    @contextmanager
    def fresh(self, template: str = "") -> Iterator[str]:
        name = f"bench{next(self.numbers)}"
        model = template.rpartition("/")[2] or "template0"
        self._do(f'CREATE DATABASE "{name}" TEMPLATE "{model}"')
        if template:
            self._do("CHECKPOINT")
            os.sync()
        try:
            yield f"{self.base}/{name}"
        finally:
            self._do(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _do(self, statement: str) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def _ask(self, statement: str) -> str:
        with self._connect() as connection:
            return str(connection.execute(statement).fetchone()[0])

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(f"{self.base}/postgres", autocommit=True)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of its own. Raises Failed where there is none to start."""
    try:
        from tests.postgres import NoServer, server
    except ImportError:
        raise Failed("psycopg is not installed here: make dev") from None
    try:
        with server() as url:
            yield Postgres(url)
    except NoServer as error:
        raise Failed(str(error)) from None


@contextmanager
def redis(directory: Path) -> Iterator[Path]:
    """The socket of a Redis server of its own, with its default persistence."""
    program = installed("redis-server", package="redis-server")
    socket = directory / "redis.sock"
    server = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", socket, "--dir", directory],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 10
        while not socket.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                raise Failed("redis-server did not start")
            time.sleep(0.02)
        yield socket
    finally:
        end(server)


def installed(program: str, *, package: str) -> str:
    """The path of a program, installed from Debian's package if it is missing and we are root."""
    if found := shutil.which(program):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        # Runlevel 1: a package must not start a service of its own.
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", package]):
            subprocess.run(["apt-get", *words], env=quiet, capture_output=True, check=False)
    if found := shutil.which(program):
        return found
    raise Failed(f"{program} is not installed (Debian: apt install {package})")
