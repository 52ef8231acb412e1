"""The web server dies by SIGKILL, or its database goes away, while pages are asked for."""

import http.client
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.databases import databases
from tests.acceptance.served import Pages
from tests.acceptance.site import Site
from tests.postgres import Cluster, own_cluster
from tests.support import wait_until

# Tests of one database do not exist on the other: `make test` runs both, and nothing is skipped.
IS_POSTGRESQL = os.environ.get("DATABASE_URL", "").startswith("postgres")

CLIENTS, ANSWERS, KILLS = 4, 12, 3


def test_what_was_answered_before_a_kill_is_stored_once_and_nothing_by_half(
    site: Site, pages: Pages
) -> None:
    answered, unknown = set[str](), set[str]()

    def create_until_it_dies(name: str) -> None:
        for number in range(10_000):
            key = f"{name}-{number}"
            try:
                assert pages.create(key) == 302
            except (OSError, http.client.HTTPException):
                unknown.add(key)
                return
            answered.add(key)

    for life in range(KILLS):
        before = len(answered)
        with ThreadPoolExecutor(CLIENTS) as clients:
            posts = [
                clients.submit(create_until_it_dies, f"{life}-{name}") for name in range(CLIENTS)
            ]
            try:
                wait_until(lambda: len(answered) >= before + ANSWERS, timeout=30)  # noqa: B023
            finally:
                pages.server.kill()
                pages.server.wait()
        assert [post.result() for post in posts] == [None] * CLIENTS
        pages.start()

    stored = [key for [key] in site.sql("SELECT key FROM queuectl_job")]
    assert len(stored) == len(set(stored))
    assert answered <= set(stored) <= answered | unknown
    assert set(site.states().values()) == {"pending"}
    assert [pages.create(key) for key in sorted(unknown)] == [302] * len(unknown)
    assert set(site.states()) == answered | unknown
    site.run_until_empty("--count", "4", timeout=60)
    assert set(site.states().values()) == {"completed"}


if IS_POSTGRESQL:

    @pytest.fixture
    def cluster() -> Iterator[Cluster]:
        with own_cluster() as cluster:
            yield cluster

    @pytest.fixture
    def alone(cluster: Cluster, tmp_path: Path) -> Iterator[Site]:
        """A site on a server of its own, which may be stopped."""
        with databases(cluster.url, tmp_path) as source:
            site = Site(source, tmp_path)
            try:
                yield site
            finally:
                site.close()

    def test_pages_say_that_the_database_is_away_and_are_back_when_it_is(
        cluster: Cluster, alone: Site
    ) -> None:
        pages = Pages(alone)
        try:
            pages.make_person()
            pages.log_in()
            assert pages.create("before") == 302
            server = pages.server.pid
            for stop in (cluster.crash, cluster.stop):
                stop()
                for path in ("/", "/jobs/", "/accounts/login/", "/admin/queuectl/job/"):
                    answer, said = pages.ask(path)
                    assert answer.status == 503, path
                    assert answer.headers["Retry-After"] == "30"
                    assert said.count("The database does not answer; try again in a moment.") == 1
                assert pages.create("meanwhile") == 503
                assert pages.ask("/static/queuectl/queuectl.css")[0].status == 200
                cluster.start_again()
                assert [pages.ask("/jobs/")[0].status for _ in range(20)] == [200] * 20
            cluster.crash()
            cluster.start_again()
            # Nobody asked meanwhile, so every thread has a connection that was cut.
            assert [pages.ask("/jobs/")[0].status for _ in range(20)] == [200] * 20
            assert pages.create("after") == 302
            assert set(alone.states()) == {"before", "after"}
            assert pages.server.poll() is None and pages.server.pid == server
            assert "Traceback" not in pages.log
        finally:
            pages.close()
