"""A site that takes its connections to PostgreSQL from a pool."""

from tests.acceptance.site import Site
from tests.acceptance.test_tasks import assert_each_ran_once, effect, enqueue

SETTINGS = """
from queuectl_project.settings import *

DATABASES["default"] |= {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False}
DATABASES["default"]["OPTIONS"] |= {"pool": {"min_size": 1, "max_size": 2}}
"""


def test_a_worker_runs_commands_and_tasks_where_connections_come_from_a_pool(site: Site) -> None:
    if not site.is_postgresql:
        return
    (site.directory / "pooled.py").write_text(SETTINGS)
    site.env |= {"PYTHONPATH": str(site.directory), "DJANGO_SETTINGS_MODULE": "pooled"}
    site.enqueue(site.effect("command"))
    keys = enqueue(site, *[effect(site)] * 3)
    worker = site.run_until_empty("--count", "2")
    assert site.counts() == {"completed": 4}, site.describe()
    assert_each_ran_once(site, ["command", *keys])
    assert "Traceback" not in worker.log
