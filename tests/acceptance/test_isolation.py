"""What a command sees of its worker and of the queue, and that no secret of it is stored."""

import os
import shutil

import pytest

from tests.acceptance.site import Site
from tests.acceptance.test_tasks import call, enqueue

UID = 61_334
CANARY = "canary-123456789012"
# Root may look into every process; a container's root, without these, meets what any other user does.
LOOKING = "-sys_ptrace,-perfmon,-sys_admin"
UNPRIVILEGED = ("setpriv", f"--bounding-set={LOOKING}", f"--inh-caps={LOOKING}")
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="takes root and setpriv"
)
LOOK = """
worker=$(ps -o ppid= -p $PPID | tr -d ' ')
for pid in $worker $(ps -o pid= --ppid $worker); do
  [ $pid = $$ ] && continue
  echo seen
  readlink /proc/$pid/fd/* /proc/$pid/cwd
  cat /proc/$pid/environ
  head -c 1 /proc/$pid/mem
done 2>/dev/null
true
"""


@needs_root
@pytest.mark.one_database
def test_a_command_sees_nothing_of_its_worker_and_as_another_user_nothing_of_the_queue(
    site: Site,
) -> None:
    file = site.database_url.removeprefix("sqlite:///")
    site.hurry(CONFINE={"other": {"user": UID, "group": UID}})
    tasks = enqueue(site, call("noop"))
    grab = f"cat {file}; cat {file}-wal; echo x >> {file}; cat {file}.workers/*.lock; ls {file}.workers"
    site.enqueue(
        {"id": "same", "command": LOOK, "priority": -10},
        {"id": "other", "command": f"{grab}; kill -9 $PPID; id -u", "queue": "other"},
    )
    worker = site.run_until_empty(before=UNPRIVILEGED)
    assert site.job(tasks[0]).state == "completed", "a task runner was there to be looked at"
    # Supervisor, ledger, a runner and a task runner, and of none of them anything but that it is there.
    assert site.output_rows("same") == b"seen\n" * 4
    stdout = site.output("other", "--stdout").decode()
    assert stdout == f"{UID}\n", worker.log
    stderr = site.output("other", "--stderr").decode()
    assert stderr.count("denied") + stderr.count("not permitted") >= 4
    assert worker.log.count("this worker runs as root, and so do its commands") == 1


SCAN = f"""
end=$(( $(date +%s) + 5 ))
while [ $(date +%s) -lt $end ]; do
  grep -lsa worker/birth /proc/[0-9]*/cmdline
  grep -Hsao {CANARY} /proc/[0-9]*/environ
done
true
"""


@needs_root
@pytest.mark.one_database
def test_a_process_that_is_started_afresh_shows_no_secret_of_its_site_not_even_at_first(
    site: Site,
) -> None:
    """A command that kills its runner sees another being born, which exec makes open to all of its user."""
    site.hurry()
    site.env |= {
        "DJANGO_SETTINGS_MODULE": "tests.acceptance.threaded",
        "SECRET_OF_THE_SITE": CANARY,
    }
    kill = "sleep 0.5; kill -9 $PPID"
    site.enqueue({"id": "scan", "command": SCAN}, {"id": "kill", "command": kill})
    worker = site.run_until_empty("--count", "2", before=UNPRIVILEGED)
    seen = site.output_rows("scan").decode()
    assert "cmdline" in seen, f"nothing was seen being born\n{worker.log}"
    assert CANARY not in seen
    assert site.states() == {"scan": "completed", "kill": "dead"}


def test_no_secret_that_is_masked_reaches_the_database(site: Site) -> None:
    site.hurry(MASK=["canary-[0-9]{12}"])
    halves = "printf canary-123; sleep 0.1; printf 456789012; echo"
    job = {"env": {"HALVES": halves}, "command": 'eval "$HALVES"; eval "$HALVES" >&2; exit 3'}
    site.enqueue({"id": "teller", **job, "max_retries": 0})
    [task] = enqueue(site, call("fail", f"{CANARY[:-6]}{CANARY[-6:]}", max_retries=0))
    # Its arguments are what was asked for, and stay; what it says of them must not.
    site.run_until_empty()
    assert site.outcomes("teller") == site.outcomes(task) == ["failed"]
    stars = "*" * len(CANARY)
    assert site.output_rows("teller") == f"{stars}\n{stars}\n".encode()
    dump = "".join(
        str(site.sql(f"SELECT {columns} FROM {table}"))
        for table, columns in {
            "queuectl_job": "last_error, result", "queuectl_attempt": "error, traceback",
            "queuectl_output": "data", "queuectl_event": "*",
        }.items()
    )  # fmt: skip
    assert CANARY not in dump and dump.count(stars) >= 4
    assert site.job(task).last_error == f"ValueError: {stars}"
