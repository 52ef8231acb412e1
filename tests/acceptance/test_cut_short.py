"""Programs that die inside a transaction of theirs, after all it writes: nothing of it remains.

Nor does a file of what they had read, if it was SIGTERM that ended them.
"""

import os
import signal
from pathlib import Path

from tests.acceptance.databases import MANAGE
from tests.acceptance.site import Site
from tests.acceptance.test_transfer import DATA
from tests.support import wait_until

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


def end_by_sigterm(site: Site, place: str, directory: Path, *command: str) -> int:
    """Run a program that is told to end when it is at that place; its exit code."""
    site.env |= {
        "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
        "CHAOS_FAILPOINT": f"{place}:stop",
        "CHAOS_MARKERS": str(directory),
    }
    process = site.spawn(*command)
    marker = directory / f"{place}-stop"
    pid = int(wait_until(lambda: marker.exists() and marker.read_text()))
    for number in (signal.SIGTERM, signal.SIGCONT):
        os.kill(pid, number)
    process.communicate(timeout=20)
    return process.returncode


def test_an_import_that_is_told_to_end_in_its_transaction_stores_nothing_and_leaves_no_file(
    site: Site, tmp_path: Path
) -> None:
    markers = tmp_path / "markers"
    markers.mkdir()
    assert end_by_sigterm(site, "in_import", markers, "import", str(DATA / "jobs.json")) == 130
    assert rows(site) == (0, 0, 0)
    assert list(Path(site.env["TMPDIR"]).iterdir()) == []


def test_an_export_that_is_told_to_end_leaves_no_file(site: Site, tmp_path: Path) -> None:
    site.enqueue({"id": "a", "command": "true"})
    markers, out = tmp_path / "markers", tmp_path / "out"
    markers.mkdir()
    out.mkdir()
    assert end_by_sigterm(site, "in_export", markers, "export", str(out / "all")) == 130
    assert list(out.iterdir()) == []


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
