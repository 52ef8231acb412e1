"""Programs that die inside a transaction of theirs, after all it writes: nothing of it remains."""

import signal
from pathlib import Path

from tests.acceptance.databases import MANAGE
from tests.acceptance.site import Site
from tests.acceptance.test_transfer import DATA

PRUNE = """
from jobs.models import Setting
from jobs.worker.maintenance import Maintenance
Maintenance(0)._prune(Setting.objects.policy())
"""
ROWS = """
SELECT (SELECT count(*) FROM queuectl_job), (SELECT count(*) FROM queuectl_attempt),
       (SELECT count(*) FROM queuectl_event)
"""


def rows(site: Site) -> tuple[int, ...]:
    [found] = site.sql(ROWS)
    return found


def die(site: Site, place: str, directory: Path, *command: str) -> None:
    """Run a program that is killed at that place of a run under attack."""
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
        "CHAOS_FAILPOINT": f"{place}:kill9",
        "CHAOS_MARKERS": str(directory),
    }
    done = site._run([*MANAGE, *command], env=env, fresh=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_cancellation_cut_short_has_cancelled_nothing(site: Site, tmp_path: Path) -> None:
    site.enqueue({"id": "a", "command": "true"})
    die(site, "in_cancel", tmp_path, "queuectl", "job", "cancel", "a")
    assert site.states() == {"a": "pending"}
    assert rows(site) == (1, 0, 0)
    site.run("job", "cancel", "a")
    assert site.states() == {"a": "cancelled"}
    assert rows(site) == (1, 0, 1)


def test_an_import_cut_short_after_its_last_row_has_stored_nothing(
    site: Site, tmp_path: Path
) -> None:
    file = str(DATA / "jobs.json")
    die(site, "in_import", tmp_path, "queuectl", "import", file)
    assert rows(site) == (0, 0, 0)
    site.run("import", file)
    assert (len(site.states()), rows(site)[2]) == (11, 1)


def test_a_pruning_cut_short_has_deleted_nothing(site: Site, tmp_path: Path) -> None:
    site.enqueue(*({"id": f"job{n}", "command": "echo said"} for n in range(5)))
    site.run_until_empty()
    site.run("config", "set", "prune-completed-above", "2")
    before = rows(site)
    die(site, "in_prune", tmp_path, "shell", "--no-imports", "-c", PRUNE)
    assert rows(site) == before
    assert site.output("job0") == b"said\n"
    site.manage("shell", "--no-imports", "-c", PRUNE)
    assert rows(site)[:2] == (2, 2)
