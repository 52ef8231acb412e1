"""Workers of this version and of the one before it, on one database, across one migration."""

import json
import sys
import time
from pathlib import Path

from tests.acceptance.databases import ROOT
from tests.acceptance.old_version import BEFORE, MIGRATION, old_version
from tests.acceptance.site import Site
from tests.acceptance.test_kills import SAME_HOST, kill_at_once
from tests.acceptance.test_tasks import ENQUEUE, call, effect

KILLED_LATE = 1.0
"""Between a look at the clock and the death of a worker, beside other load."""


def enqueue_by(root: Path, site: Site, *jobs: dict[str, object]) -> None:
    lines = "".join(f"{json.dumps(job)}\n" for job in jobs)
    program = [sys.executable, str(root / "manage.py"), "queuectl", "enqueue", "-"]
    site._text(program, input=lines, cwd=root, fresh=True)


def enqueue_tasks_by(root: Path, site: Site, *calls: list[object]) -> list[str]:
    program = [sys.executable, str(root / "manage.py"), "shell", "--no-imports", "-c", ENQUEUE]
    return site._text(program, input=json.dumps(calls), cwd=root, fresh=True).stdout.split()


def test_two_versions_share_a_migrated_database_without_a_double_run_or_a_loss(
    quick: Site, tmp_path: Path
) -> None:
    roots = {"new": ROOT, "old": old_version(tmp_path / "old")}
    workers = {
        name: quick.start_worker("--name", name, "--count", "2", root=root)
        for name, root in roots.items()
    }
    ours, theirs = ([f"{who}{n}" for n in range(12)] for who in ("ours", "theirs"))
    quick.enqueue(*(quick.effect(key, 0.3) for key in ours))
    enqueue_by(roots["old"], quick, *(quick.effect(key, 0.3) for key in theirs))
    quick.wait_for("completed", timeout=30)
    assert sorted(effect.job for effect in quick.effects("start")) == sorted([*ours, *theirs])
    query = (
        "SELECT DISTINCT w.name FROM queuectl_attempt a JOIN queuectl_worker w "
        "ON w.id = a.worker_id JOIN queuectl_job j ON j.id = a.job_id WHERE j.key LIKE %s"
    )
    # The old code's jobs come last, when both have been at work.
    assert quick.sql(query, ["theirs%"]) != [] != quick.sql(query, ["ours%"])
    assert {name for who in ("ours%", "theirs%") for [name] in quick.sql(query, [who])} == {
        "new",
        "old",
    }
    for dies, lives in (("old", "new"), ("new", "old")):
        assert workers[lives].stop() == 0
        quick.enqueue(quick.effect(dies, 60, later=0.1))
        quick.wait_for_start(dies)
        workers[lives] = quick.start_worker("--name", lives, root=roots[lives])
        killed = time.monotonic()
        kill_at_once(workers[dies])
        [again] = quick.wait_for_start(dies, attempt=2)
        assert again.at - killed <= SAME_HOST + KILLED_LATE
        quick.wait_for("completed")
        assert quick.outcomes(dies) == ["lost", "succeeded"]
        if dies == "old":
            workers[dies] = quick.start_worker("--name", dies, root=roots[dies])
    assert workers["old"].stop() == 0


def test_a_migration_is_applied_under_a_worker_of_the_old_version_and_one_of_the_new_joins_it(
    quick: Site, tmp_path: Path
) -> None:
    root = old_version(tmp_path / "old")
    quick.manage("migrate", "queuectl", BEFORE, "--verbosity=0")
    old = quick.start_worker("--name", "old", "--count", "6", root=root)
    tasks = enqueue_tasks_by(
        root,
        quick,
        effect(quick, 14),
        call("fail_twice", str(tmp_path / "runs"), backoff=3),
        effect(quick, 60),
    )
    again = {"id": "again", "command": "test $QUEUECTL_ATTEMPT = 2", "backoff_base": 14}
    commands = [quick.effect("spans", 14), quick.effect("ended", 60)]
    enqueue_by(root, quick, *commands, again)
    spans, retried, ended = tasks
    quick.wait_for_start("spans", "ended", spans, ended)
    quick.wait_for("failed", "again", retried)
    quick.manage("migrate", "queuectl", "--verbosity=0")
    states = quick.states()
    assert states.pop(retried) != "completed"
    assert states == {
        **dict.fromkeys((spans, ended, "spans", "ended"), "processing"),
        "again": "failed",
    }, "the migration came too late to say anything"
    new = quick.start_worker("--name", "new", "--count", "2")
    quick.run("job", "cancel", "ended", ended)
    later = [f"later{n}" for n in range(6)]
    quick.enqueue(*(quick.effect(key, 0.3) for key in later[::2]))
    enqueue_by(root, quick, *(quick.effect(key, 0.3) for key in later[1::2]))
    quick.wait_for("completed", "again", "spans", spans, retried, *later, timeout=30)
    quick.wait_for("cancelled", "ended", ended)
    assert quick.outcomes("again") == ["failed", "succeeded"]
    assert quick.outcomes(retried) == ["failed", "failed", "succeeded"]
    for key in ("spans", spans, *later):
        assert quick.outcomes(key) == ["succeeded"]
    for key in ("ended", ended):
        assert quick.outcomes(key) == ["cancelled"]
    ran = sorted(start.job for start in quick.effects("start"))
    assert ran == sorted(("spans", "ended", spans, ended, *later))
    assert [worker.stop() for worker in (old, new)] == [0, 0]


def test_a_worker_does_not_start_while_a_migration_is_not_applied(quick: Site) -> None:
    quick.manage("migrate", "queuectl", BEFORE, "--verbosity=0")
    worker = quick.spawn_worker()
    assert worker.wait(20) == 1
    assert f"migrations not applied: {MIGRATION}" in worker.log
    assert "python manage.py migrate" in worker.log
    assert "Traceback" not in worker.log
    assert quick.worker_rows() == []
