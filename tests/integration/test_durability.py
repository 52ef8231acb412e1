"""A worker's start warns of what weakens a commit; what is promised of jobs rests on commits."""

import sqlite3
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest
from django.db import connection

from jobs import dialect
from jobs.dialect import durability
from jobs.models import Worker
from jobs.worker import detach
from jobs.worker.supervisor import Plan
from tests.integration.ledgers import Busy

pytestmark = pytest.mark.django_db(transaction=True)

LOG_MAY_STAY = 64 * 2**20


def test_a_ledger_warns_of_what_weakens_a_commit_and_works_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with patch("jobs.dialect.weaknesses", return_value=["commits are written in sand"]):
        Busy().close()
    assert "WARNING" in caplog.text
    assert "commits are written in sand" in caplog.text
    assert Worker.objects.count() == 1


def test_a_supervisor_has_no_connection_after_it_has_warned() -> None:
    connection.close()
    detach.warn_of_surroundings(PLAN, lambda line: None)
    assert connection.connection is None


PLAN = Plan(slots=1, queues=(), name="", until_empty=False)

if connection.vendor == "postgresql":

    @pytest.mark.parametrize("mode", ["on", "local", "remote_apply"])
    def test_a_commit_that_waits_for_the_disk_is_nothing_to_warn_of(mode: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET synchronous_commit = {mode}")
        try:
            assert [w for w in dialect.weaknesses() if "synchronous_commit" in w] == []
        finally:
            connection.close()

    def test_a_commit_that_does_not_wait_for_the_disk_is_warned_of() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
        try:
            assert any("synchronous_commit = off" in warning for warning in dialect.weaknesses())
        finally:
            connection.close()

else:

    @pytest.mark.parametrize(
        ("level", "warned"), [("OFF", True), ("NORMAL", True), ("FULL", False)]
    )
    def test_a_commit_that_does_not_wait_for_the_disk_is_warned_of(
        level: str, warned: bool
    ) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA synchronous = {level}")
        try:
            found = [w for w in dialect.weaknesses() if "PRAGMA synchronous" in w]
        finally:
            connection.close()
        assert bool(found) is warned
        assert all(f"synchronous = {level}: a power loss" in warning for warning in found)

    def test_a_file_on_a_network_file_system_is_warned_of() -> None:
        with (
            patch.object(durability, "database_file", return_value=Path("/mnt/nas/jobs.sqlite3")),
            patch.object(durability, "file_system", return_value="nfs4"),
        ):
            assert any("network file system (nfs4)" in w for w in dialect.weaknesses())

    def test_a_log_that_grew_beside_a_reader_is_cut_back_once_the_reader_is_gone(
        tmp_path: Path,
    ) -> None:
        """With the settings of the bundled project, which also stand in docs/operating.md."""
        options = connection.settings_dict["OPTIONS"]["init_command"]
        file, log = tmp_path / "own.sqlite3", tmp_path / "own.sqlite3-wal"
        with (
            closing(sqlite3.connect(file, isolation_level=None)) as writer,
            closing(sqlite3.connect(file, isolation_level=None)) as reader,
        ):
            writer.executescript(f"{options}CREATE TABLE t (data BLOB)")
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM t").fetchone()
            writer.execute("INSERT INTO t VALUES (zeroblob(?))", [LOG_MAY_STAY])
            assert log.stat().st_size > LOG_MAY_STAY, "it has not grown: the test shows nothing"
            reader.execute("ROLLBACK")
            for _ in range(
                2
            ):  # the first takes the log over into the file, the second begins it anew
                writer.execute("INSERT INTO t VALUES (1)")
            assert log.stat().st_size <= LOG_MAY_STAY
            wrote = log.stat().st_size
            for _ in range(50):
                writer.execute("INSERT INTO t VALUES (1)")
            assert log.stat().st_size == wrote

    def test_an_old_sqlite_is_warned_of() -> None:
        said: list[str] = []
        for version, warned in (((3, 51, 2), True), ((3, 51, 3), False)):
            said.clear()
            with patch.object(detach.sqlite3, "sqlite_version_info", version):
                detach.warn_of_surroundings(PLAN, said.append)
            assert any("WAL corruption" in line for line in said) is warned


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/a.sqlite3", "ext4"),
        ("/mnt/nas/site/a.sqlite3", "nfs4"),
        ("/mnt/nasty/a.sqlite3", "ext4"),
        ("/with space/a.sqlite3", "tmpfs"),
    ],
)
def test_a_file_is_on_the_innermost_mount_above_it(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/vda / ext4 rw 0 0\nnas:/x /mnt/nas nfs4 rw 0 0\ntmpfs /with\\040space tmpfs rw 0 0\n"
    )
    assert durability.file_system(Path(path), mounts) == kind
    assert durability.file_system(Path(path), tmp_path / "none") == ""
