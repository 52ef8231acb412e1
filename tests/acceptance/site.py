"""A site of its own for one test: a migrated database, and the real programs run on it."""

import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psutil
import psycopg
from psycopg import sql

from tests.support import wait_until

ROOT = Path(__file__).resolve().parents[2]
MANAGE = (sys.executable, str(ROOT / "manage.py"))
CONSOLE = (str(Path(sys.executable).with_name("queuectl")),)
# Inherited by all that a site starts, hence the way to find it whoever its parent is by then.
# Not QUEUECTL_...: a worker keeps those from its commands.
MARK = "TEST_SITE_MARK"


class Databases(Protocol):
    """Where sites get their databases from."""

    def new(self) -> str: ...
    def drop(self, url: str) -> None: ...
    def query(self, url: str, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]: ...


class SqliteDatabases:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.template = directory / "template.sqlite3"
        migrate(f"sqlite:///{self.template}")
        with closing(sqlite3.connect(self.template)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def new(self) -> str:
        copy = self.directory / f"site-{secrets.token_hex(4)}" / "site.sqlite3"
        copy.parent.mkdir()
        shutil.copyfile(self.template, copy)
        return f"sqlite:///{copy}"

    def drop(self, url: str) -> None:
        shutil.rmtree(Path(url.removeprefix("sqlite:///")).parent)

    def query(self, url: str, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, timeout=20)) as connection, connection:
            return connection.execute(query.replace("%s", "?"), params).fetchall()


class PostgresDatabases:
    def __init__(self, server: str) -> None:
        self.server = server.rsplit("/", 1)[0]
        self.maintenance = f"{self.server}/postgres"
        self.template = f"queuectl_template_{secrets.token_hex(4)}"
        self._execute("CREATE DATABASE {}", self.template)
        migrate(f"{self.server}/{self.template}")

    def new(self) -> str:
        name = f"queuectl_site_{secrets.token_hex(4)}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, self.template)
        return f"{self.server}/{name}"

    def drop(self, url: str) -> None:
        self._execute("DROP DATABASE {} WITH (FORCE)", url.rsplit("/", 1)[1])

    def close(self) -> None:
        self._execute("DROP DATABASE {} WITH (FORCE)", self.template)

    def query(self, url: str, query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        with psycopg.connect(url) as connection:
            cursor = connection.execute(query, params)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def _execute(self, statement: str, *names: str) -> None:
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


class Worker(subprocess.Popen[bytes]):
    """A running `worker start`; what it prints goes to files, so that no pipe ever fills."""

    def __init__(self, site: "Site", *args: str) -> None:
        self.family: set[psutil.Process] = set()
        name = f"worker-{len(site.workers) + 1}"
        self.stdout_file = site.directory / f"{name}.stdout"
        self.stderr_file = site.directory / f"{name}.stderr"
        with self.stdout_file.open("wb") as stdout, self.stderr_file.open("wb") as stderr:
            super().__init__(
                [*MANAGE, "worker", "start", *args],
                cwd=ROOT,
                env=site.env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.stdout_file.read_text(errors="replace")

    @property
    def log(self) -> str:
        return self.stderr_file.read_text(errors="replace")

    def send_signal(self, sig: int) -> None:
        # After a kill, a child that emptied its environment could not be found any more.
        self.remember_family()
        super().send_signal(sig)

    def remember_family(self) -> None:
        if self.poll() is not None:
            return
        with suppress(psutil.NoSuchProcess):
            self.family.update(psutil.Process(self.pid).children(recursive=True))

    def stop(self, timeout: float = 15) -> int:
        """End it as a terminal or service manager would; its exit code."""
        self.terminate()
        return self.wait(timeout)


class Site:
    def __init__(self, databases: Databases, directory: Path) -> None:
        self.databases = databases
        self.directory = directory
        self.database_url = databases.new()
        self.mark = secrets.token_hex(16)
        self.workers: list[Worker] = []
        self.env = environment(self.database_url) | {MARK: self.mark}

    def run(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`python manage.py queuectl ARGS`"""
        return self._run([*MANAGE, "queuectl", *args], **options)

    def manage(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`python manage.py ARGS`"""
        return self._run([*MANAGE, *args], **options)

    def queuectl(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The console script: `queuectl ARGS`"""
        return self._run([*CONSOLE, *args], **options)

    def start_worker(self, *args: str, timeout: float = 20) -> Worker:
        """A worker that has said 'Started'."""
        worker = Worker(self, *args)
        self.workers.append(worker)
        wait_until(
            lambda: "Started" in worker.output or worker.poll() is not None,
            timeout=timeout,
            message=lambda: f"the worker did not start:\n{worker.output}{worker.log}",
        )
        assert "Started" in worker.output, f"the worker ended:\n{worker.output}{worker.log}"
        return worker

    def sql(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows straight from the database; parameters are %s on both."""
        return self.databases.query(self.database_url, query, params)

    def processes(self) -> list[psutil.Process]:
        """All that live and were started by this site, orphans included."""
        found = {process for process in psutil.process_iter() if self._marked(process)}
        for worker in self.workers:
            worker.remember_family()
            found |= worker.family
        return [process for process in found if _alive(process)]

    def close(self) -> None:
        started = self.processes()
        for worker in self.workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in self.workers:
            with suppress(subprocess.TimeoutExpired):
                worker.wait(10)
        left = {*started, *self.processes()}
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for worker in self.workers:
            worker.wait()
        psutil.wait_procs(left, timeout=5)
        self.databases.drop(self.database_url)

    def _marked(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self.mark
        except psutil.Error:
            return False

    def _run(
        self,
        command: list[str],
        *,
        input: str | None = None,
        check: bool = True,
        timeout: float = 60,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            command,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=ROOT,
            env=self.env | (env or {}),
        )
        if check:
            assert result.returncode == 0, (
                f"exit code {result.returncode} of {command[1:]}:\n{result.stdout}{result.stderr}"
            )
        return result


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


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
