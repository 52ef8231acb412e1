"""A second PostgreSQL server that has every commit before it is acknowledged, and can take over."""

import secrets
import shutil
import subprocess
from contextlib import suppress
from typing import Self

import psycopg

from tests.postgres import USER, Cluster, free_port
from tests.support import wait_until


class Standby:
    """While it is entered, commits of `cluster` wait for it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        directory = cluster.directory / f"standby-{secrets.token_hex(4)}"
        directory.mkdir()
        self.server = Cluster(cluster.programs, directory, cluster.env)
        self.server.password = cluster.password

    def __enter__(self) -> Self:
        try:
            self._copy()
            self.server.port = free_port()
            self.server.start_again()
            # Only now, or its copy would wait for a standby of its own one day.
            self._ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
            self._ask("SELECT pg_reload_conf()")
            wait_until(self._is_synchronous, timeout=20, message="the standby does not follow")
        except BaseException:
            self.__exit__()
            raise
        return self

    def take_over(self) -> None:
        """The first server dies, and from now on this one answers at its address."""
        self.cluster.crash()
        self.server.stop()
        data = self.cluster.directory / "data"
        data.rename(self.server.directory / "lost")
        (self.server.directory / "data").rename(data)
        self.cluster.start_again()
        self._ask("SELECT pg_promote()")

    def __exit__(self, *_: object) -> None:
        """Nobody waits for it any more. Who has taken over remains; the other's data would fill the disk."""
        with suppress(psycopg.Error):
            self._ask("ALTER SYSTEM RESET synchronous_standby_names")
            self._ask("SELECT pg_reload_conf()")
        self.server.stop()
        shutil.rmtree(self.server.directory)

    def _copy(self) -> None:
        way = f"host=127.0.0.1 port={self.cluster.port} user={USER}"
        account = self.server.as_account()
        subprocess.run(
            [
                self.cluster.programs / "pg_basebackup",
                f"--dbname={way}",
                f"--pgdata={self.server.directory / 'data'}",
                "--checkpoint=fast",
                "--write-recovery-conf",
            ],
            check=True,
            capture_output=True,
            timeout=60,
            **account | {"env": account["env"] | {"PGPASSWORD": self.cluster.password}},
        )

    def _is_synchronous(self) -> bool:
        return self._ask("SELECT sync_state FROM pg_stat_replication") == [("sync",)]

    def _ask(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.cluster.url, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []
