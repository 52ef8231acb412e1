"""A way to the server so slow that a large turn takes longer than the server waits for it."""

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.acceptance.site import Site
from tests.chaos.proxy import Proxy

IS_POSTGRESQL = os.environ.get("DATABASE_URL", "").startswith("postgres")

if IS_POSTGRESQL:

    @pytest.fixture
    def link(site: Site) -> Iterator[Proxy]:
        """The way of the workers that start from now on; the server waits for a turn of theirs for 1.5 s."""
        site.hurry(LEASE_SECONDS=30, FENCE_MARGIN_SECONDS=5, HEARTBEAT_SECONDS=23.5)
        url = urlsplit(site.database_url)
        proxy = Proxy((url.hostname or "", url.port or 0))
        site.env["DATABASE_URL"] = site.database_url.replace(f":{url.port}/", f":{proxy.port}/")
        try:
            yield proxy
        finally:
            proxy.close()

    def prints(key: str, size: int, last: str = "") -> dict[str, str]:
        return {"id": key, "command": f"head -c {size} /dev/zero; {last}"}

    def test_what_is_too_much_for_one_turn_is_reported_by_several(site: Site, link: Proxy) -> None:
        keys = ["a", "b", "c"]
        site.enqueue(*(prints(key, 100_000) for key in keys), {"id": "small", "command": "echo hi"})
        link.rate = 300_000  # bytes go as two digits each: 0.7 s for one of these
        worker = site.start_worker("--count", "4")
        site.wait_for("completed", timeout=30)
        assert [len(site.output(key)) for key in keys] == [100_000] * 3
        assert [site.outcomes(key) for key in (*keys, "small")] == [["succeeded"]] * 4
        assert "Traceback" not in worker.log

    def test_an_output_that_is_too_much_by_itself_is_not_kept_and_its_outcome_is(
        site: Site, link: Proxy
    ) -> None:
        site.enqueue(prints("large", 500_000, "exit 3") | {"max_retries": 0})
        link.rate = 300_000
        worker = site.start_worker()
        site.wait_for("dead", timeout=30)
        [attempt] = site.attempts("large")
        assert (attempt.exit_code, attempt.stdout_bytes, site.output("large")) == (3, 500_000, b"")
        assert "the output of large #1 is not kept" in worker.log
        site.enqueue(prints("after", 1_000))
        site.wait_for("completed", "after")

    def test_claims_that_are_too_much_for_one_turn_are_made_by_several(
        site: Site, link: Proxy
    ) -> None:
        env = {"LARGE": "x" * 120_000}
        site.enqueue(*({"id": f"job{n}", "command": "true", "env": env} for n in range(4)))
        link.rate = 200_000  # 2.4 s for all
        site.start_worker("--count", "4")
        site.wait_for("completed", timeout=60)
        assert site.sql("SELECT DISTINCT number, outcome FROM queuectl_attempt") == [
            (1, "succeeded")
        ]
