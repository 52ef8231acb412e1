"""The database does not answer for a while: workers outlive it, and lose nothing."""

import json
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.databases import PostgresDatabases
from tests.acceptance.site import Site, freeze, signal_all, stays
from tests.acceptance.test_kills import FENCED, TOLERANCE
from tests.support import damaged, wait_until

NUMBERS_ANEW = {
    True: "SELECT setval('queuectl_worker_id_seq', 1, false)",
    False: "DELETE FROM sqlite_sequence WHERE name = 'queuectl_worker'",
}

# Tests of one database do not exist on the other: `make test` runs both, and nothing is skipped.
IS_POSTGRESQL = os.environ.get("DATABASE_URL", "").startswith("postgres")

END_CONNECTIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = %s AND pid <> pg_backend_pid()
"""


DAMAGED = """\
Error: The database is damaged: database disk image is malformed
  stop the workers, and restore a backup
"""


def file_of(site: Site) -> str:
    return site.database_url.removeprefix("sqlite:///")


def assert_each_ran_once(site: Site, keys: list[str]) -> None:
    assert sorted(effect.job for effect in site.effects("start")) == sorted(keys)
    assert sorted(effect.job for effect in site.effects("end")) == sorted(keys)
    rows = site.sql("SELECT number, outcome FROM queuectl_attempt")
    assert rows == [(1, "succeeded")] * len(keys)


def test_a_database_so_slow_that_turns_outlast_the_patience_for_what_waits_holds_nothing_up(
    site: Site,
) -> None:
    """What one turn has claimed was late at once, and two workers gave it to each other for ever."""
    site.env |= {
        "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
        "CHAOS_MARKERS": str(site.directory),
        "CHAOS_FAILPOINT": "before_turn_commit:sleep=0.2@1+",
    }
    site.enqueue(*({"id": f"job{number}", "command": "true"} for number in range(300)))
    workers = [site.spawn_worker("--count", "1", "--until-empty") for _ in range(2)]
    assert [worker.wait(25) for worker in workers] == [0, 0]
    assert site.sql("SELECT DISTINCT number, outcome FROM queuectl_attempt") == [(1, "succeeded")]
    assert site.counts() == {"completed": 300}


if IS_POSTGRESQL:

    class Server:
        """The database of a site, taken away and given back."""

        def __init__(self, site: Site) -> None:
            assert isinstance(site.databases, PostgresDatabases)
            self.databases = site.databases
            self.name = site.database_url.rsplit("/", 1)[1]

        def end_connections(self) -> int:
            [[ended]] = self.databases.query(
                self.databases.maintenance, END_CONNECTIONS, [self.name]
            )
            return int(ended)

        def refuse(self) -> None:
            self.databases.execute("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name)
            self.end_connections()

        def accept(self) -> None:
            self.databases.execute("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name)

    @pytest.fixture
    def server(site: Site) -> Server:
        return Server(site)

    def test_a_worker_whose_connections_are_cut_again_and_again_loses_nothing(
        quick: Site, server: Server
    ) -> None:
        keys = [f"job{number}" for number in range(150)]
        worker = quick.start_worker("--count", "4")
        ledger = worker.ledger()
        quick.enqueue(*(quick.effect(key, 0.05) for key in keys))
        cuts = 0
        until = time.monotonic() + 4
        while time.monotonic() < until:
            cuts += server.end_connections()
            time.sleep(0.15)  # the pace of the cuts, not a wait for anything
        assert cuts >= 10
        quick.wait_for("completed", timeout=40)
        assert_each_ran_once(quick, keys)
        assert worker.ledger() == ledger, "the worker was started anew"
        assert "Traceback" not in worker.log
        assert worker.stop() == 0

    def test_a_short_outage_delays_reports_but_neither_commands_nor_jobs_suffer(
        site: Site, server: Server
    ) -> None:
        site.enqueue(site.effect("during", 1), site.effect("across", 4))
        worker = site.start_worker("--count", "2")
        site.wait_for_start("during", "across")
        parts = worker.all_parts()
        server.refuse()
        wait_until(lambda: site.effects("end", "during"), message=lambda: str(site.effects()))
        stays(lambda: worker.poll() is None, 1.5, lambda: worker.log)
        server.accept()
        site.enqueue(site.effect("afterwards"))
        site.wait_for("completed", timeout=40)
        assert_each_ran_once(site, ["during", "across", "afterwards"])
        assert worker.all_parts() == parts
        assert worker.stop() == 0

    def test_commands_end_before_their_lease_in_a_long_outage_and_run_again_after_it(
        quick: Site, server: Server
    ) -> None:
        quick.enqueue(quick.effect("a", 60, later=0.1), quick.effect("b", 60, later=0.1))
        worker = quick.start_worker("--count", "2")
        quick.wait_for_start("a", "b")
        neighbour = quick.start_worker()
        server.refuse()
        began = time.monotonic()
        wait_until(lambda: quick.commands() == [], message=lambda: worker.log)
        assert time.monotonic() - began <= FENCED + TOLERANCE, "the commands ended too late"
        stays(lambda: worker.poll() is None, 4, lambda: worker.log)
        server.accept()
        quick.wait_for("completed", timeout=40)
        for key in ("a", "b"):
            assert quick.outcomes(key)[-1] == "succeeded"
            assert quick.job(key).attempts == 0, "the outage used up a retry"
        assert quick.effects("overlap") == []
        assert [worker.stop(), neighbour.stop()] == [0, 0]

    def test_a_worker_waits_for_a_database_that_is_not_there_yet(
        site: Site, server: Server
    ) -> None:
        site.enqueue(site.effect("a"))
        server.refuse()
        worker = site.spawn_worker()
        wait_until(lambda: len(site.processes()) >= 3, message=lambda: worker.log)
        stays(lambda: worker.poll() is None, 2, lambda: worker.log)
        server.accept()
        site.wait_for("completed", timeout=40)
        assert worker.stop() == 0

    def test_a_worker_can_be_stopped_while_the_database_is_away(
        quick: Site, server: Server
    ) -> None:
        quick.enqueue(quick.effect("a", 60, later=0.1))
        worker = quick.start_worker()
        quick.wait_for_start("a")
        server.refuse()
        worker.terminate()
        # Grace 3 s, kill 1 s, and 5 s more.
        worker.wait(3 + 1 + 5 + 3)
        assert quick.processes() == []
        server.accept()
        quick.start_worker()
        quick.wait_for("completed")
        assert quick.job("a").attempts == 0

else:

    def test_a_writer_that_holds_the_lock_longer_than_a_lease_makes_nobody_look_dead(
        quick: Site,
    ) -> None:
        keys = [f"job{number}" for number in range(12)]
        quick.enqueue(*(quick.effect(key, 1) for key in keys))
        workers = [quick.start_worker("--count", "2") for _ in range(2)]
        wait_until(lambda: len(quick.effects("start")) >= 4, message=quick.describe)
        parts = [worker.all_parts() for worker in workers]
        file = file_of(quick)
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            stays(lambda: all(w.poll() is None for w in workers), 8, quick.describe)
            connection.execute("ROLLBACK")
        quick.wait_for("completed", timeout=40)
        assert_each_ran_once(quick, keys)
        assert [worker.all_parts() for worker in workers] == parts
        assert {row.stopped_at for row in quick.worker_rows()} == {None}
        assert all("Traceback" not in worker.log for worker in workers)
        assert [worker.stop() for worker in workers] == [0, 0]

    def test_a_worker_waits_while_its_file_is_damaged_and_works_on_once_it_is_mended(
        quick: Site,
    ) -> None:
        quick.enqueue(quick.effect("across", 2))
        worker = quick.start_worker()
        quick.wait_for_start("across")
        parts = worker.all_parts()
        with damaged(file_of(quick), "queuectl_job"):
            for command in (("status",), ("list",), ("enqueue", "--", "true")):
                result = quick.run(*command, check=False)
                assert (result.returncode, result.stdout, result.stderr) == (1, "", DAMAGED), (
                    command
                )
            wait_until(lambda: "image is malformed" in worker.log, message=lambda: worker.log)
            stays(lambda: worker.poll() is None, 2, lambda: worker.log)
        quick.enqueue(quick.effect("after"))
        quick.wait_for("completed", timeout=20)
        assert_each_ran_once(quick, ["across", "after"])
        assert worker.all_parts() == parts
        assert "Traceback" not in worker.log
        assert worker.stop() == 0

    def test_a_worker_does_not_start_on_a_file_that_is_no_database(site: Site) -> None:
        file = Path(file_of(site))
        file.write_bytes(b"no database\n" * 1000)
        result = site.run("worker", "start", check=False)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.endswith(
            "Error: The database is damaged: file is not a database\n  restore a backup\n"
        )
        assert "Traceback" not in result.stderr
        assert file.read_bytes() == b"no database\n" * 1000

    def test_enqueue_waits_for_a_writer_and_a_report_too(site: Site) -> None:
        site.enqueue(site.effect("before", 0.5))
        site.start_worker()
        site.wait_for_start("before")
        file = file_of(site)
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            waiting = site.spawn("enqueue", json.dumps(site.effect("during")))
            wait_until(lambda: site.effects("end", "before"), message=site.describe)
            stays(lambda: waiting.poll() is None, 2, lambda: "enqueue did not wait")
            connection.execute("ROLLBACK")
        out, err = waiting.communicate(timeout=20)
        assert (waiting.returncode, out, err) == (0, "Job 'during' enqueued successfully\n", "")
        site.wait_for("completed")


def test_a_worker_whose_number_is_another_s_in_a_database_that_was_put_back_starts_anew(
    site: Site,
) -> None:
    site.hurry(LEASE_SECONDS=60, FENCE_MARGIN_SECONDS=10)
    first = site.start_worker("--name", "first")
    frozen = freeze(first.all_parts)
    site.sql("DELETE FROM queuectl_worker")
    site.sql(NUMBERS_ANEW[site.is_postgresql])
    site.start_worker("--name", "second")
    assert [(row.id, row.name) for row in site.worker_rows()] == [(1, "second")]
    site.enqueue(site.effect("long", 3))
    site.wait_for_start("long")
    signal_all(reversed(frozen), signal.SIGCONT)
    wait_until(lambda: "starts anew" in first.log, message=site.describe)
    site.wait_for("completed")
    assert len(site.effects("start")) == 1
    assert site.outcomes("long") == ["succeeded"]
    wait_until(lambda: {row.name for row in site.worker_rows()} == {"first", "second"})
