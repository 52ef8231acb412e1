"""Files in and out through the real command line: hostile ones leave nothing, torn ones are named."""

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.databases import MANAGE, ROOT
from tests.acceptance.site import Site
from tests.support import wait_until

DATA = ROOT / "tests" / "data" / "original"
TABLES = ("job", "attempt", "output", "queue", "event", "setting")


def job(key: str, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / "jobs.json").read_text())["later"]
    return found | {"id": key} | fields


def write(path: Path, *jobs: dict[str, Any]) -> Path:
    path.write_text(json.dumps({given["id"]: given for given in jobs}))
    return path


def assert_nothing_is_stored(site: Site) -> None:
    for table in TABLES:
        assert site.sql(f"SELECT count(*) FROM queuectl_{table}") == [(0,)], table
    assert list(Path(site.env["TMPDIR"]).iterdir()) == []


def refused(site: Site, *words: str | Path, **options: Any) -> str:
    """What stands on stderr of a command that ends with 1: two lines at most, and no control."""
    result = site.run(*map(str, words), check=False, **options)
    stderr = result.stderr if isinstance(result.stderr, str) else result.stderr.decode()
    assert (result.returncode, bool(result.stdout)) == (1, False), stderr
    assert "Traceback" not in stderr
    lines = [line for line in stderr.splitlines() if not line.startswith("read ")]
    assert len(lines) <= 2
    assert all(line.isprintable() for line in lines)
    return stderr


def spools(site: Site) -> list[Path]:
    """What imports that read at this moment have put aside."""
    return list(Path(site.env["TMPDIR"]).glob("queuectl-import-*/*"))


def test_the_originals_queue_moves_here_works_on_and_moves_back(site: Site, tmp_path: Path) -> None:
    assert site.run("import", str(DATA / "config.json")).stdout == "4 settings imported\n"
    dry = site.run("import", "--dry-run", str(DATA / "jobs.json"))
    assert dry.stdout == "11 jobs would be imported; nothing was stored\n"
    assert site.states() == {}
    result = site.run("import", str(DATA / "jobs.json"))
    assert (result.stdout, result.stderr) == ("11 jobs imported\n", "")
    again = site.run("import", str(DATA / "jobs.json"))
    assert again.stdout == "0 jobs imported, 11 already there with the same content\n"
    assert "Max retries (2) exceeded" in site.run("dlq", "list").stdout
    assert site.run("job", "output", "unicode").stdout == "=== STDOUT ===\ncafé ☃\n"
    assert site.run("config", "get", "max-retries").stdout == "5\n"

    site.run("job", "cancel", "slow")
    site.run("job", "run-now", "retrying")
    worker = site.start_worker("--count", "2")
    site.wait_for("completed", "later")
    site.wait_for_runs("retrying", 2)
    worker.stop()

    target = tmp_path / "back.json"
    assert site.run("export", "--format", "original", str(target)).stdout == (
        f"11 jobs exported to {target}\n"
    )
    back = json.loads(target.read_text())
    assert list(back) == list(json.loads((DATA / "jobs.json").read_text()))
    assert back["later"]["state"] == "completed"
    assert back["slow"]["state"] == "dead"
    assert back["slow"]["error_message"] == "Cancelled on request"
    assert back["retrying"]["attempts"] == 2
    config = site.run("export", "--config")
    assert config.stdout == (DATA / "config.json").read_text()


def test_an_import_wakes_idle_workers(quick: Site, tmp_path: Path) -> None:
    quick.run("config", "set", "worker-poll-interval", "60")
    quick.start_worker()
    quick.enqueue({"id": "first", "command": "true"})
    quick.wait_for("completed", "first")
    quick.run("import", str(write(tmp_path / "jobs.json", job("second"))))
    quick.wait_for("completed", "second", timeout=10)


def test_a_file_of_ours_moves_a_queue_with_its_history(site: Site, tmp_path: Path) -> None:
    site.enqueue(
        {"id": "ok", "command": r"printf '\0\377é'"},
        {
            "id": "bad",
            "argv": ["sh", "-c", "echo no >&2; exit 3"],
            "max_retries": 1,
            "backoff_base": 1,
        },
    )
    site.run_until_empty()
    target = tmp_path / "all.jsonl"
    site.run("export", str(target))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    other = (
        Site(site.databases, tmp_path / "other") if (tmp_path / "other").mkdir() is None else site
    )
    try:
        result = other.run("import", "--json", str(target))
        found = json.loads(result.stdout)
        assert (found["jobs"], found["attempts"], found["skipped"]) == (2, 3, 0)
        assert other.states() == {"ok": "completed", "bad": "dead"}
        assert other.output("ok") == b"\0\xff\xc3\xa9"
        assert other.outcomes("bad") == site.outcomes("bad") == ["failed", "failed"]
        other.run("dlq", "retry", "bad")
        other.run_until_empty()
        assert [a.number for a in other.attempts("bad")] == [1, 2, 3, 4]
    finally:
        other.close()


def test_stdin_and_stdout_are_files_too(site: Site) -> None:
    text = (DATA / "jobs.json").read_text()
    assert site.run("import", "-", input=text).stdout == "11 jobs imported\n"
    result = site.run("export", "--format", "original")
    assert list(json.loads(result.stdout)) == list(json.loads(text))
    assert result.stderr == "11 jobs exported\n"
    last = site.run("export").stdout.splitlines()[-1]
    assert json.loads(last) == {"end": {"jobs": 11}}
    assert "empty" in refused(site, "import", "-")


def test_what_is_wrong_is_left_out_and_told(site: Site, tmp_path: Path) -> None:
    file = write(tmp_path / "jobs.json", job("a"), job("b", priority="high"), job("c"))
    assert 'job "b" (line 1): Invalid priority: "high"' in refused(site, "import", file)
    assert_nothing_is_stored(site)
    result = site.run("import", "--continue", str(file))
    assert result.stdout == "2 jobs imported, 1 skipped\n"
    assert result.stderr.startswith('Skipped job "b" (line 1): Invalid priority: "high"')
    other = write(tmp_path / "other.json", job("d"), job("a", command="false"))
    assert "Job with id 'a' already exists" in refused(site, "import", other)
    assert set(site.states()) == {"a", "c"}


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"#!/bin/sh\necho\n",
    "array": b"[]",
    "torn": (DATA / "jobs.json").read_bytes()[:3000],
    "byte order mark": b"\xef\xbb\xbf" + (DATA / "jobs.json").read_bytes(),
    "UTF-16": (DATA / "jobs.json").read_text().encode("utf-16"),
    "Latin-1": b'{"a": {"id": "\xe9"}}',
    "nesting bomb": b'{"a": ' + b"[" * 100_000,
    "a 70 MB line": b'{"a": {"id": "' + b"x" * 70_000_000 + b'"}}',
    "NUL": b"\0" * 1_000_000,
    "control characters": json.dumps({"\x1b[2J\u202e": 1}).encode(),
    "NaN": b'{"a": {"id": NaN}}',
    "wrong setting": b'{"max_retries": 5, "LD_PRELOAD": 1}',
    "newer version": b'{"format": "queuectl", "version": 99}\n',
    "ours, torn": b'{"format": "queuectl", "version": 1}\n',
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.one_database
def test_a_hostile_file_is_refused_in_a_sentence(site: Site, tmp_path: Path, name: str) -> None:
    file = tmp_path / "hostile"
    file.write_bytes(HOSTILE[name])
    refused(site, "import", file)
    assert_nothing_is_stored(site)


@pytest.mark.one_database
def test_what_is_no_file_is_refused_without_waiting(site: Site, tmp_path: Path) -> None:
    (tmp_path / "to zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    for path in ("/dev/zero", tmp_path, tmp_path / "to zero", tmp_path / "loop", tmp_path / "fifo",
                 tmp_path / "none", "/dev/tty"):  # fmt: skip
        refused(site, "import", path, timeout=20)
    assert_nothing_is_stored(site)


@pytest.mark.one_database
def test_a_pipe_is_read_to_its_end(site: Site, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    holder = os.open(fifo, os.O_RDWR)
    process = site.spawn("import", str(fifo))

    data = (DATA / "jobs.json").read_bytes()
    for start in range(0, 5000, 500):
        os.write(holder, data[start : start + 500])
        time.sleep(0.02)
    wait_until(lambda: spools(site))
    os.write(holder, data[5000:])
    os.close(holder)
    assert process.communicate(timeout=30)[0] == "11 jobs imported\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_import_cut_short_stores_nothing(site: Site, tmp_path: Path, number: int) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    holder = os.open(fifo, os.O_RDWR)
    process = site.spawn("import", str(fifo))
    os.write(holder, (DATA / "jobs.json").read_bytes()[:5000])
    wait_until(lambda: spools(site))
    process.send_signal(number)
    code = process.wait(20)
    os.close(holder)
    assert code == (-number if number == signal.SIGKILL else 130)
    stdout, stderr = process.communicate()
    assert (stdout, "Traceback" in stderr) == ("", False), stderr
    assert site.states() == {}
    if number != signal.SIGKILL:
        assert_nothing_is_stored(site)
    site.run("import", str(DATA / "jobs.json"))


def test_kill_in_the_transaction_takes_it_back(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "many.json"
    file.write_text(json.dumps({f"j{i}": job(f"j{i}", stdout="x" * 50) for i in range(8_000)}))
    process = site.spawn("import", str(file))
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("stored ") and "100 %" not in line:
            break
    process.kill()
    process.communicate()
    stored = len(site.states())
    assert stored in (0, 8_000)
    result = site.run("import", str(file))
    assert result.stdout.startswith("8,000 jobs imported" if not stored else "0 jobs imported")
    assert site.sql("SELECT count(*) FROM queuectl_attempt") == [(8_000,)]
    assert site.sql("SELECT count(*) FROM queuectl_event") == [(1,)]


# Out


def leftovers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.one_database
def test_an_export_replaces_a_file_and_follows_no_link(site: Site, tmp_path: Path) -> None:
    site.enqueue({"id": "a", "command": "true"})
    out = tmp_path / "out"
    out.mkdir()
    target, victim = out / "all.jsonl", tmp_path / "victim"
    target.write_text("before")
    target.chmod(0o644)
    site.run("export", str(target))
    assert '"a"' in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    target.unlink()
    victim.write_text("precious")
    target.symlink_to(victim)
    assert "symbolic link" in refused(site, "export", target)
    assert (victim.read_text(), leftovers(out)) == ("precious", ["all.jsonl"])


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (lambda path: path, "it is a directory"),
        (lambda path: path / "none" / "all", "No such file or directory"),
        (lambda path: "/dev/null", "no ordinary file"),
        (lambda path: path / ("x" * 300), "File name too long"),
        (lambda path: "/proc/all", "Cannot write"),
    ],
)
@pytest.mark.one_database
def test_an_export_that_cannot_be_written_leaves_nothing(
    site: Site, tmp_path: Path, target: Callable[[Path], Path | str], why: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert why in refused(site, "export", target(out))
    assert leftovers(out) == []


@pytest.mark.one_database
def test_a_full_disk_leaves_no_part_of_an_export(site: Site, tmp_path: Path) -> None:
    site.enqueue(*({"id": f"j{i}", "command": f"true {'x' * 100_000}"} for i in range(20)))
    out = tmp_path / "out"
    out.mkdir()
    (out / "all").write_text("before")
    command = [
        "sh",
        "-c",
        'ulimit -f 2048; exec "$@"',
        "sh",
        *MANAGE,
        "queuectl",
        "export",
        str(out / "all"),
    ]
    result = subprocess.run(
        command, cwd=ROOT, env=site.env, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1, result.stderr
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert (leftovers(out), (out / "all").read_text()) == (["all"], "before")


@pytest.mark.one_database
def test_a_reader_that_goes_away_ends_an_export(site: Site) -> None:
    site.enqueue(*({"id": f"j{i}", "command": "x" * 1000} for i in range(2000)))
    command = ["sh", "-c", '"$@" | head -c 100', "sh", *MANAGE, "queuectl", "export"]
    result = subprocess.run(
        command, cwd=ROOT, env=site.env, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in result.stderr
    assert "Error" not in result.stderr
