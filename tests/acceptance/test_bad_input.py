"""What people get wrong, in real processes: one clear sentence, the right exit code, no row left.

Here are a few of each kind; the whole table is in tests/bad_input.py, for every surface in process.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.acceptance.databases import ROOT, Databases
from tests.acceptance.site import CONSOLE, Site
from tests.bad_input import COMMANDS, Command, job

TABLES = ("output", "attempt", "job", "queue", "worker", "event", "setting")


@pytest.fixture(scope="module")
def one_site(site_databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(site_databases, tmp_path_factory.mktemp("bad input"))
    yield site
    site.close()


@pytest.fixture
def shared(one_site: Site) -> Iterator[Site]:
    """One site for many: what is refused leaves no row behind, and is asked to prove it."""
    yield one_site
    left = {}
    for table in TABLES:
        left[table] = one_site.sql(f"SELECT count(*) FROM queuectl_{table}")[0][0]
        one_site.sql(f"DELETE FROM queuectl_{table}")
    assert left == dict.fromkeys(TABLES, 0)


def refusal(result: CompletedProcess[str]) -> tuple[int, str, str]:
    """The exit code, the first line on stderr, and what comes after it."""
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", result.stderr), "control characters"
    first, *more = result.stderr.splitlines()
    assert len(more) <= 1, result.stderr
    assert len(result.stderr) < 600, result.stderr
    assert first.startswith("Error: ")
    return result.returncode, first, "".join(more)


NAMED = {command.name: command for command in COMMANDS}
REFUSED = (
    Command("id with ESC", ("enqueue", job(id="a\x1b[31m")), r'Invalid id: "a\u001b[31m"'),
    Command("id with C1", ("enqueue", job(id="a\x9b31m")), r'Invalid id: "a\x9b31m"'),
    Command("lone surrogate", ("enqueue", r'{"command": "echo \ud800"}'), "Invalid command"),
    Command("bytes that are no text", ("enqueue", "echo \udcff"), r'"echo \udcff"'),
    Command("nesting bomb", ("enqueue", "-"), "Invalid JSON format", stdin=b"[" * 100_000),
    Command("invalid UTF-8", ("enqueue", "-"), "line 1 is not UTF-8", stdin=b'{"command": "\xff"}'),
    *(
        NAMED[name]
        for name in (
            "the last of 1,000 lines", "a line of 2 MB", "a device", "show of ESC", "count 0",
            "an unknown setting", "a worker's name", "import of a torn file",
        )
    ),
)  # fmt: skip


@pytest.mark.parametrize("command", REFUSED, ids=str)
def test_what_is_wrong_ends_with_1_and_one_sentence(shared: Site, command: Command) -> None:
    code, first, more = refusal(shared.queuectl(*command.words, input=command.stdin, check=False))
    assert code == 1
    assert command.says in first + more


USAGE = ("an unknown command", "an unknown option", "count in other digits", "a missing id")


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_ends_with_2_and_names_the_word(shared: Site, name: str) -> None:
    result = shared.queuectl(*NAMED[name].words, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    first, *more = result.stderr.splitlines()
    assert first.startswith("Error: ")
    assert NAMED[name].says in first
    assert "usage: queuectl" in more[0]


@pytest.mark.parametrize("door", [Site.queuectl, Site.manage, Site.run], ids=lambda d: d.__name__)
def test_every_door_refuses_alike(shared: Site, door: Callable[..., CompletedProcess[str]]) -> None:
    typed = job(priority="high")
    result = door(shared, "enqueue", typed, check=False, fresh=True)
    assert refusal(result) == refusal(shared.queuectl("enqueue", typed, check=False))


def test_a_command_of_131071_bytes_is_taken_whole_and_runs(site: Site) -> None:
    command = "echo hi #" + "x" * (131_071 - 9)
    site.run("enqueue", "-", input=job(id="long", command=command))
    site.run_until_empty()
    assert site.output("long") == b"hi\n"


def test_the_same_job_again_says_so_and_another_with_its_id_is_refused(site: Site) -> None:
    site.run("enqueue", job(id="a", priority=1))
    again = site.run("enqueue", job(priority=1, id="a"))
    assert again.stdout == "Job 'a' is already there with the same content; nothing was stored\n"
    code, first, _ = refusal(site.run("enqueue", job(id="a", priority=2), check=False))
    assert (code, first) == (1, "Error: Job with id 'a' already exists")
    assert site.sql("SELECT key, priority FROM queuectl_job") == [("a", 1)]


def test_what_is_not_for_the_sender_to_say_is_ignored_with_a_warning(site: Site) -> None:
    result = site.run("enqueue", job(id="a", state="completed", attempts=7))
    assert result.stdout == "Job 'a' enqueued successfully\n"
    assert re.findall(r"^Warning: '(\w+)'", result.stderr, re.M) == ["state", "attempts"]
    assert (site.job("a").state, site.job("a").attempts) == ("pending", 0)


def test_an_error_is_an_object_on_stderr_with_json(shared: Site) -> None:
    result = shared.queuectl("enqueue", "--json", job(priority="x"), check=False)
    assert (result.returncode, result.stdout) == (1, "")
    error = json.loads(result.stderr)
    assert error["error"] == 'Invalid priority: "x"'
    assert error["code"] == "invalid_field"


# A database that cannot be used

# By a command of each kind: one that writes, one that reads, and those with processes of their own.
EVERY = (("enqueue", "true"), ("status",), ("worker", "start"), ("worker", "stop"))


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_a_database_without_tables_is_named_with_the_remedy(
    shared: Site, site_databases: Databases, words: tuple[str, ...]
) -> None:
    url = site_databases.new(migrated=False)
    try:
        result = shared.run(*words, check=False, env={"DATABASE_URL": url})
    finally:
        site_databases.drop(url)
    assert (result.returncode, result.stdout) == (1, "")
    assert "Traceback" not in result.stderr
    assert "tables" in result.stderr
    assert "run: python manage.py migrate" in result.stderr


@pytest.mark.parametrize("words", EVERY[:1], ids=" ".join)
def test_a_postgresql_that_does_not_answer_is_one_sentence(
    shared: Site, words: tuple[str, ...]
) -> None:
    url = "postgres://someone:hunter2@127.0.0.1:1/queue"
    result = shared.run(*words, check=False, env={"DATABASE_URL": url})
    assert (result.returncode, result.stdout) == (1, "")
    assert "Traceback" not in result.stderr
    assert "hunter2" not in result.stderr
    first, *more = result.stderr.splitlines()
    assert first.startswith("Error: The database cannot be used: ")
    assert len(more) <= 1


@pytest.mark.parametrize(
    ("words", "where"),
    [(words, "missing") for words in EVERY[::2]] + [(EVERY[0], "not writable")],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_sqlite_file_that_cannot_be_made_is_one_sentence(
    shared: Site, words: tuple[str, ...], where: str, tmp_path: Path
) -> None:
    missing = tmp_path / "missing"
    place = missing if where == "missing" else "/proc"
    url = f"sqlite:///{place}/queue.sqlite3"
    result = shared.run(*words, check=False, env={"DATABASE_URL": url}, timeout=15)
    assert (result.returncode, result.stdout) == (1, "")
    assert "Traceback" not in result.stderr
    assert "Error: " in result.stderr
    assert not missing.exists(), "a slip of the pen became a directory"


# Where what is said goes


@pytest.mark.one_database
@pytest.mark.parametrize("command", ["status", "list --json", "export"])
def test_a_full_disk_behind_stdout_is_a_sentence(site: Site, command: str) -> None:
    site.enqueue({"command": "true"})
    result = shell(site, f"{shlex.join(CONSOLE)} {command} > /dev/full")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: Cannot write to stdout: No space left on device"
    )
    assert "Traceback" not in result.stderr


@pytest.mark.one_database
def test_without_stdout_a_command_does_its_work_all_the_same(site: Site) -> None:
    result = shell(site, f"{shlex.join(CONSOLE)} enqueue --id a true >&-")
    assert (result.returncode, result.stderr) == (0, "")
    assert site.states() == {"a": "pending"}


def shell(site: Site, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env=site.env, capture_output=True, text=True, timeout=60
    )
