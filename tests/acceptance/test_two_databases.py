"""A site whose queue is in another database than its own data: the setting DATABASE alone says so."""

import json
import shlex
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from tests.acceptance.site import Site

pytestmark = pytest.mark.one_database

SETTINGS = """
from queuectl_project.settings import *

DATABASES["default"]["ATOMIC_REQUESTS"] = True
DATABASES["queue"] = {**DATABASES["default"], "NAME": DATABASES["default"]["NAME"] + ".queue"}
QUEUECTL = {**QUEUECTL, "DATABASE": "queue", "START_WORKERS_FROM_WEB": True}
DATABASE_ROUTERS = ["split.AllInOne"]

class AllInOne:
    def db_for_read(self, model, **hints):
        return "default"

    def allow_migrate(self, db, app_label, **hints):
        return db == "default"
"""
ENQUEUE = """
import json
from jobs import operations
from tests.task_functions import add

operations.enqueue({"id": "one", "command": "true"})
operations.enqueue({"id": "two", "command": "true", "queue": "new"})
task = add.enqueue(2, 3).id
found = [operations.find(key).key for key in ("one", "two", task)]
print(json.dumps([task, found, add.get_result(task).status]))
"""
LOOK = """
import json, sys
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client
from jobs.models import Job
from jobs.operations.enqueue import PYTHON, copy
from tests.task_functions import add

def count(alias):
    tables = [f"queuectl_{name}" for name in ("job", "attempt", "worker", "queue", "setting", "event")]
    with connections[alias].cursor() as cursor:
        return [cursor.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables]

user = get_user_model().objects.create_superuser("boss", password="x")
client = Client(headers={"host": "localhost"})
client.force_login(user)
job = Job.objects.get(key="one")
urls = ("/admin/queuectl/job/", "/admin/queuectl/job/one/change/", "/jobs/one/", "/")
pages = {url: client.get(url, follow=True) for url in urls}
copy(job, PYTHON)
print(json.dumps({
    "rows": {alias: count(alias) for alias in ("default", "queue")},
    "result": add.get_result(sys.stdin.read()).return_value,
    "pages": {url: [page.status_code, "one" in page.content.decode()] for url, page in pages.items()},
    "attempts": job.history.count(),
    "worker": job.history.get().worker.name,
}))
"""
PAGE = """
import json, logging
from django.contrib.auth import get_user_model
from django.test import Client

logging.disable()
client = Client(headers={"host": "localhost"})
client.force_login(get_user_model().objects.create_superuser("boss", password="x"))
print(json.dumps(client.get("/", follow=True).content.decode()))
"""
PRESS = """
import json
from types import SimpleNamespace
from unittest.mock import patch
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client
from jobs.worker import detach

client, inside = Client(headers={"host": "localhost"}), {}
client.force_login(get_user_model().objects.create_superuser("boss", password="x"))

def start(*args):
    inside.update((alias, connections[alias].in_atomic_block) for alias in connections)
    return SimpleNamespace(pid=1)

with patch.object(detach, "start", start):
    assert client.post("/workers/start/", {"count": "1"}).status_code == 302
print(json.dumps(inside))
"""
MIGRATE = "python manage.py migrate --database queue"


@pytest.fixture
def site(site: Site) -> Site:
    (site.directory / "split.py").write_text(SETTINGS)
    site.env |= {"PYTHONPATH": str(site.directory), "DJANGO_SETTINGS_MODULE": "split"}
    return site


def python(site: Site, code: str, given: str = "") -> Any:
    return json.loads(site.manage("shell", "--no-imports", "-c", code, input=given).stdout)


def test_what_is_said_of_missing_tables_makes_them_where_the_queue_is(site: Site) -> None:
    for words in (("status",), ("worker", "start")):
        refused = site.run(*words, check=False)
        assert refused.returncode == 1 and f"run: {MIGRATE}\n" in refused.stderr
    assert f"run: {MIGRATE}\n" in site.manage("check", "--database=queue").stderr
    assert f"run: {MIGRATE}<" in python(site, PAGE)
    site.manage(*shlex.split(MIGRATE)[2:], "--verbosity=0")
    site.run("status")


def test_a_worker_is_started_in_no_transaction_of_the_request(site: Site) -> None:
    site.manage("migrate", "--verbosity=0", "--database=queue")
    assert python(site, PRESS) == {"default": False, "queue": False}


def test_a_queue_in_another_database_needs_the_setting_and_nothing_else(site: Site) -> None:
    site.manage("migrate", "--verbosity=0", "--database=queue")
    assert "no issues" in site.manage("check", "--database=queue", "--database=default").stdout
    task, found, status = python(site, ENQUEUE)
    assert (found, status) == (["one", "two", task], "READY")
    site.run("config", "set", "max-retries", "7")
    site.run_until_empty("--name", "only")
    told = python(site, LOOK, task)
    assert told["result"] == 5
    assert told["rows"] == {"default": [0] * 6, "queue": [4, 3, 1, 2, 1, 1]}
    assert (told["attempts"], told["worker"]) == (1, "only")
    assert list(told["pages"].values()) == [[200, True]] * len(told["pages"]), told


def test_a_long_writer_of_the_sites_own_database_holds_up_no_claim(site: Site) -> None:
    """Though each claim asks there who is disabled."""
    more = 'QUEUECTL["HOLD_JOBS_OF_DISABLED_USERS"] = True\n'
    (site.directory / "split.py").write_text(SETTINGS + more)
    for name in ("default", "queue"):
        site.manage("migrate", "--verbosity=0", f"--database={name}")
    site.run("enqueue", '{"id": "one", "command": "true"}')
    name = python(site, "import json; from django.db import connection as c; "
                        "print(json.dumps(str(c.settings_dict['NAME'])))")  # fmt: skip
    with closing(sqlite3.connect(name, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        site.run_until_empty()
        assert time.monotonic() - began < 10
        writer.execute("ROLLBACK")
    assert json.loads(site.run("job", "show", "one", "--json").stdout)["state"] == "completed"
