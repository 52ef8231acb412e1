"""What people get wrong: one clear sentence, the right exit code, and nothing is stored."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.acceptance.databases import ROOT, Databases
from tests.acceptance.site import Site
from tests.acceptance.typist import Typist

TABLES = ("output", "attempt", "job", "queue", "worker", "event", "setting")


@pytest.fixture(scope="module")
def one_site(site_databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(site_databases, tmp_path_factory.mktemp("bad input"))
    yield site
    site.close()


@pytest.fixture(scope="module")
def one_typist(one_site: Site) -> Iterator[Typist]:
    typist = Typist(ROOT, one_site.env)
    yield typist
    typist.close()


@pytest.fixture
def shared(one_site: Site) -> Iterator[Site]:
    """One site for many: what is refused leaves no row behind, and is asked to prove it."""
    yield one_site
    left = {}
    for table in TABLES:
        left[table] = one_site.sql(f"SELECT count(*) FROM queuectl_{table}")[0][0]
        one_site.sql(f"DELETE FROM queuectl_{table}")
    assert left == dict.fromkeys(TABLES, 0)


@pytest.fixture
def typist(shared: Site, one_typist: Typist) -> Typist:
    return one_typist


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


def job(**fields: object) -> str:
    return json.dumps({"command": "true", **fields})


# What is typed, the first line of the answer, and what the second must name.
ENQUEUE = {
    "not JSON": ("{'id': 'a'}", "Error: Invalid JSON format", "column 2"),
    "truncated": ('{"id": "a", "command": "tr', "Error: Invalid JSON format", "column"),
    "comma at the end": ('{"command": "true",}', "Error: Invalid JSON format", "column"),
    "two documents": (job() + job(), "Error: Invalid JSON format", "column"),
    "byte order mark": ("\ufeff" + job(), None, None),
    "duplicate keys": (
        '{"command": "true", "command": "false"}',
        "Error: Invalid JSON format",
        "'command'",
    ),
    "NaN": ('{"command": "true", "timeout": NaN}', "Error: Invalid JSON format", "NaN"),
    "infinite": ('{"command": "true", "timeout": 1e999}', "Error: Invalid JSON format", "1e999"),
    "5,000 digits": (
        '{"command": "true", "priority": %s}' % ("9" * 5000),
        "Error: Invalid JSON format",
        "digits",
    ),
    "nesting bomb": ("[" * 100_000, "Error: Invalid JSON format", "nested"),
    "nested env": (
        job(env={"A": [[[[]]]]}),
        'Error: Invalid env: "A"',
        "env takes",
    ),
    "no command": ('{"id": "a"}', "Error: Job must have a 'command' field", '"command"'),
    "command is null": ('{"command": null}', "Error: Invalid command: null", "command takes"),
    "command is a number": ('{"command": 42}', "Error: Invalid command: 42", "command takes"),
    "command is a list": ('{"command": ["ls"]}', 'Error: Invalid command: ["ls"]', "command takes"),
    "command is empty": (job(command=""), 'Error: Invalid command: ""', "command takes"),
    "command is spaces": (job(command=" \n"), r'Error: Invalid command: " \n"', "command takes"),
    "command with NUL": (
        r'{"command": "echo a\u0000b"}',
        r'Error: Invalid command: "echo a\u0000b"',
        "NUL",
    ),
    "lone surrogate": (r'{"command": "echo \ud800"}', None, "command takes"),
    "command and argv": (
        job(argv=["true"]),
        "Error: A job takes 'command' or 'argv', not both",
        "",
    ),
    "argv is empty": ('{"argv": []}', "Error: Invalid argv: []", "argv takes"),
    "argv of numbers": ('{"argv": [1]}', "Error: Invalid argv: [1]", "argv takes"),
    "misspelled field": (job(comand="x"), 'Error: Unknown field "comand"', "'command'"),
    "unknown field": (job(zzzzzz=1), 'Error: Unknown field "zzzzzz"', "known fields"),
    "lease": (job(lease="x"), 'Error: Unknown field "lease"', ""),
    "id is a number": (job(id=12), "Error: Invalid id: 12", "id takes"),
    "id is empty": (job(id=""), 'Error: Invalid id: ""', "id takes"),
    "id with a newline": (job(id="a\nb"), r'Error: Invalid id: "a\nb"', "printable"),
    "id with ESC": (job(id="a\x1b[31m"), r'Error: Invalid id: "a\u001b[31m"', "printable"),
    "id with C1": (job(id="a\x9b31m"), r'Error: Invalid id: "a\x9b31m"', "printable"),
    "id that turns text round": (job(id="a\u202eb"), r'Error: Invalid id: "a\u202eb"', "printable"),
    "id with a leading dash": (job(id="-rf"), 'Error: Invalid id: "-rf"', "'-'"),
    "id with a space at its end": (job(id="a "), 'Error: Invalid id: "a "', "space"),
    "id of 129 characters": (job(id="a" * 129), None, "128"),
    "queue with a space": (job(queue="a b"), 'Error: Invalid queue: "a b"', "queue takes"),
    "queue all": (job(queue="all"), 'Error: Invalid queue: "all"', "'all'"),
    "priority high": (job(priority="high"), 'Error: Invalid priority: "high"', "-1000 to 1000"),
    "priority as text": (job(priority="5"), 'Error: Invalid priority: "5"', "-1000 to 1000"),
    "priority 1.5": (job(priority=1.5), "Error: Invalid priority: 1.5", "-1000 to 1000"),
    "priority true": (job(priority=True), "Error: Invalid priority: true", "-1000 to 1000"),
    "priority 1001": (job(priority=1001), "Error: Invalid priority: 1001", "-1000 to 1000"),
    "priority 2^63": (job(priority=2**63), f"Error: Invalid priority: {2**63}", "-1000 to 1000"),
    "max_retries -1": (job(max_retries=-1), "Error: Invalid max_retries: -1", "0 to 100"),
    "timeout 0": (job(timeout=0), "Error: Invalid timeout: 0", "seconds"),
    "backoff_base 0": (job(backoff_base=0), "Error: Invalid backoff_base: 0", "1 to 100"),
    "run_at tomorrow": (job(run_at="tomorrow"), 'Error: Invalid run_at: "tomorrow"', "a time such"),
    "run_at 30 February": (
        job(run_at="2030-02-30T00:00:00Z"),
        'Error: Invalid run_at: "2030-02-30T00:00:00Z"',
        "a time such",
    ),
    "run_at 24:61": (job(run_at="2030-01-01T24:61:00Z"), None, "a time such"),
    "run_at is a number": (job(run_at=0), "Error: Invalid run_at: 0", "a time such"),
    "run_at in year 1": (job(run_at="0001-01-01T00:00:00+14:00"), None, "a time such"),
    "run_at in year 9999": (job(run_at="9999-12-31T23:00:00-14:00"), None, "a time such"),
    "run_at in 50 years": (job(run_at="2090-01-01T00:00:00Z"), None, "within ten years"),
    "run_at and delay": (job(run_at="2030-01-01", delay=1), None, ""),
    "cwd is relative": (job(cwd="here"), 'Error: Invalid cwd: "here"', "absolute"),
    "env is a list": (job(env=["A=1"]), 'Error: Invalid env: ["A=1"]', "env takes"),
    "env name with =": (job(env={"A=B": "1"}), 'Error: Invalid env: "A=B"', "env takes"),
    "env of the worker's": (job(env={"QUEUECTL_LEASE": "1"}), None, "QUEUECTL_"),
    "an item of an array": (f"[{job()}, {job(priority=9999)}]", None, "-1000 to 1000"),
}


@pytest.mark.parametrize("name", ENQUEUE)
def test_a_job_that_is_wrong_is_refused_by_name(typist: Typist, name: str) -> None:
    typed, sentence, names = ENQUEUE[name]
    # A program's arguments end at 128 KiB, so a long one comes by stdin, as a line.
    if len(typed) > 100_000:
        code, first, more = refusal(typist.type("enqueue", "-", input=typed))
        sentence = sentence and sentence.replace("Error: ", "Error: line 1: ")
    else:
        code, first, more = refusal(typist.type("enqueue", typed))
    assert code == 1
    if sentence is not None:
        assert first == sentence
    assert (names or "") in first + more


@pytest.mark.parametrize("door", [Site.queuectl, Site.manage, Site.run], ids=lambda d: d.__name__)
@pytest.mark.parametrize(
    "typed", ["{'id': 'a'}", '{"id": "a"}', '{"command": "true", "priority": "high"}']
)
def test_every_door_refuses_alike(
    shared: Site, typist: Typist, door: Callable[..., CompletedProcess[str]], typed: str
) -> None:
    result = door(shared, "enqueue", typed, check=False)
    assert refusal(result) == refusal(typist.type("enqueue", typed))


USAGE = {
    "no command": ((), "COMMAND"),
    "an unknown command": (("enqueu",), "enqueu"),
    "an unknown command of a group": (("dlq", "lits"), "lits"),
    "an unknown option": (("status", "--jsno"), "--jsno"),
    "an unknown state": (("list", "--state", "done"), "done"),
    "a missing id": (("job", "show"), "missing"),
    "count 1e3": (("worker", "start", "--count", "1e3"), "1e3"),
    "count nothing": (("worker", "start", "--count", ""), '""'),
    "count 10 million": (("worker", "start", "--count", "10000000"), "10000000"),
    "count in other digits": (("worker", "start", "--count", "٣"), "٣"),
    "a span that is none": (("enqueue", "--in", "soon", "true"), "soon"),
    "a limit that is none": (("list", "--limit", "many"), "many"),
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_ends_with_2_and_names_the_word(typist: Typist, name: str) -> None:
    words, names = USAGE[name]
    result = typist.type(*words)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    first, *more = result.stderr.splitlines()
    assert first.startswith("Error: ")
    assert names in first
    assert "usage: queuectl" in more[0]


REFUSED = {
    "count 0": (("worker", "start", "--count", "0"), "Worker count must be at least 1"),
    "count -1": (("worker", "start", "--count", "-1"), "Worker count must be at least 1"),
    "an id that is not there": (("job", "show", "nobody"), "Job 'nobody' not found"),
    "an id that is SQL": (("job", "show", "' OR 1=1 --"), "Job '' OR 1=1 --' not found"),
    "an id that is a pattern": (("job", "show", "%"), "Job '%' not found"),
    "an id with ESC": (("job", "cancel", "\x1b[2J"), r"Job '\x1b[2J' not found"),
    "an id that is empty": (("job", "cancel", ""), "Job '' not found"),
    "nothing to enqueue": (("enqueue",), "Nothing to enqueue"),
    "words without --": (("enqueue", "echo", "hi"), "A command of several words comes after --"),
    "a missing file": (
        ("enqueue", "--file", "/no/such/file"),
        "Cannot read /no/such/file: No such file or directory",
    ),
    "a directory": (("enqueue", "--file", "/"), "Cannot read /: Is a directory"),
    "a device": (
        ("enqueue", "--file", "/dev/zero"),
        "Cannot read /dev/zero: it is a device, not a file",
    ),
    "priority as an option": (("enqueue", "-p", "5x", "true"), 'Invalid priority: "5x"'),
    "env as an option": (("enqueue", "--env", "A", "true"), 'Invalid --env: "A"'),
    "a setting with text": (
        ("config", "set", "max-retries", "many"),
        "Invalid value type for 'max-retries'",
    ),
    "a setting with 1_0": (("config", "set", "max-retries", "1_0"), None),
    "a setting with nan": (("config", "set", "backoff-base", "nan"), None),
    "a setting with inf": (("config", "set", "worker-poll-interval", "inf"), None),
    "a setting below 0": (("config", "set", "job-timeout", "0"), None),
    "an unknown setting": (("config", "set", "colour", "red"), "Unknown configuration key: colour"),
    "an unknown setting to get": (("config", "get", "colour"), "Unknown configuration key: colour"),
    "no job to retry": (("dlq", "retry"), "Say which jobs: ids, or --all"),
    "a queue name with a space": (("worker", "start", "-q", "a b"), 'Invalid queue: "a b"'),
    "a worker name with a newline": (("worker", "start", "--name", "a\nb"), None),
    "a log without --detach": (("worker", "start", "--log", "x"), "--log goes with --detach"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_ends_with_1_and_says_why(typist: Typist, name: str) -> None:
    words, sentence = REFUSED[name]
    code, first, _ = refusal(typist.type(*words))
    assert code == 1
    if sentence is not None:
        assert first == f"Error: {sentence}"


LINES: dict[str, tuple[bytes, str]] = {
    "invalid UTF-8": (b'{"command": "echo \xff"}\n', "line 1 is not UTF-8"),
    "UTF-16": (job().encode("utf-16"), "line 1 is not UTF-8"),
    "the last of 1,000 is wrong": (
        (job() + "\n").encode() * 999 + job(priority="x").encode(),
        'line 1000: Invalid priority: "x"',
    ),
    "a number": (b"42\n", "line 1: A job must be a JSON object"),
    "null": (b"\n\nnull\n", "line 3: A job must be a JSON object"),
    "an array": (f"[{job()}]".encode(), "line 1: A job must be a JSON object"),
    "131,072 bytes of command": (
        job(command="x" * 131_072).encode(),
        f'line 1: Invalid command: "{"x" * 58}…',
    ),
    "the same id with other content": (
        f"{job(id='a')}\n{job(id='a', priority=1)}".encode(),
        "Job with id 'a' already exists",
    ),
    "a line of 2 MB": (
        b'{"command": "' + b"x" * 2_000_000,
        "line 1 is longer than 1,048,576 bytes",
    ),
    "a nesting bomb": (b"[" * 100_000, "line 1: Invalid JSON format"),
}


@pytest.mark.parametrize("name", LINES)
def test_one_wrong_line_stores_none_of_them(typist: Typist, name: str) -> None:
    lines, sentence = LINES[name]
    code, first, _ = refusal(typist.type("enqueue", "-", input=lines))
    assert (code, first) == (1, f"Error: {sentence}")


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


def test_an_error_is_an_object_on_stderr_with_json(typist: Typist) -> None:
    result = typist.type("enqueue", "--json", job(priority="x"))
    assert (result.returncode, result.stdout) == (1, "")
    error = json.loads(result.stderr)
    assert error["error"] == 'Invalid priority: "x"'
    assert error["code"] == "invalid_field"


# A database that cannot be used

EVERY = (
    ("enqueue", "true"),
    ("status",),
    ("list",),
    ("dlq", "list"),
    ("config", "show"),
    ("worker", "list"),
    ("worker", "stop"),
    ("worker", "start"),
)


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


@pytest.mark.parametrize("words", EVERY[:3], ids=" ".join)
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
    [(words, "missing") for words in EVERY] + [(words, "not writable") for words in EVERY[::7]],
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
