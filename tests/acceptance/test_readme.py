"""The sessions of the README and of the pages, typed as they stand there.

docs/workload.md has a test of its own, test_workload.py.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.databases import ROOT
from tests.acceptance.site import CONSOLE, Site
from tests.support import wait_until

PAGES = ("README.md", "docs/files.md", "docs/backup.md")


def blocks(page: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: what stands after the fence, and what is inside."""
    text = (ROOT / page).read_text()
    return re.findall(r"^```([^\n]*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[tuple[str, str]]:
    """Every command of a console block, with what it prints there."""
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.MULTILINE)


def as_shown(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


class Reader:
    """Somebody who follows a page, in a directory of their own inside the project."""

    def __init__(self, site: Site) -> None:
        self.site, self.directory = site, site.directory / "reader"
        self.directory.mkdir()
        (self.directory / "manage.py").symlink_to(ROOT / "manage.py")
        if not site.is_postgresql:
            file = site.database_url.removeprefix("sqlite:///")
            (self.directory / "queuectl.sqlite3").symlink_to(file)
        path = os.pathsep.join((str(Path(CONSOLE[0]).parent), os.environ["PATH"]))
        self.env = site.env | {"PYTHONPATH": str(ROOT), "PATH": path}

    def follow(self, page: str) -> None:
        for kind, text in blocks(page):
            language, _, name = kind.partition(" ")
            if kind == "console":
                for command, printed in commands(text):
                    self.type(command, printed)
            elif language == "json":
                (self.directory / name).write_text(text)

    def type(self, command: str, printed: str) -> None:
        program, *words = shlex.split(command)
        assert program == "queuectl"
        if words[:2] == ["worker", "start"]:
            self.work(words[2:], printed)
            return
        result = self.queuectl(*words)
        # On a terminal both stand there: what is said about the data comes before or after it.
        said = as_shown(result.stderr), as_shown(result.stdout)
        assert as_shown(printed) in (said[0] + said[1], said[1] + said[0]), command
        assert (result.returncode != 0) == printed.startswith("Error: "), command

    def queuectl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.site.queuectl(*words, check=False, cwd=self.directory, env=self.env)

    def work(self, words: list[str], printed: str) -> None:
        worker = self.site.start_worker(*words)
        assert worker.output == printed
        if "--until-empty" in words:
            assert worker.wait(20) == 0
        else:
            wait_until(lambda: ("completed",) in self.site.sql("SELECT state FROM queuectl_job"))

    def run(self, block: str) -> None:
        """A block of shell, as one script."""
        result = subprocess.run(
            ["sh", "-eu", "-c", block],
            cwd=self.directory,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, f"{block}\n{result.stdout}{result.stderr}"


@pytest.fixture
def reader(site: Site) -> Reader:
    return Reader(site)


@pytest.mark.parametrize("page", PAGES)
def test_the_sessions_of_a_page_print_what_it_says(reader: Reader, page: str) -> None:
    assert any(kind == "console" for kind, _ in blocks(page))
    reader.follow(page)


def test_no_other_page_has_a_session() -> None:
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} | {"README.md"}
    having = {page for page in pages if any(kind == "console" for kind, _ in blocks(page))}
    assert having - {"docs/workload.md"} == set(PAGES)


def test_a_backup_brings_back_what_was_there(reader: Reader) -> None:
    """The blocks of the page, one after the other: copy, go on, restore."""
    site, database = reader.site, "postgresql" if reader.site.is_postgresql else "sqlite"
    scripts = [text for kind, text in blocks("docs/backup.md") if kind == f"bash {database}"]
    assert len(scripts) >= 2
    for program in ("pg_dump", "pg_restore") if site.is_postgresql else ("sqlite3",):
        refuse_unless_fit(program, site)
    reader.queuectl("enqueue", "--id", "before", "true")
    for script in scripts[:-1]:
        reader.run(script)
    reader.queuectl("enqueue", "--id", "after", "true")
    assert set(site.states()) == {"before", "after"}
    reader.run(scripts[-1])
    assert site.states() == {"before": "pending"}
    reader.queuectl("enqueue", "--id", "again", "true")
    assert set(site.states()) == {"before", "again"}


def refuse_unless_fit(program: str, site: Site) -> None:
    """Skip, saying so, where the machine has not the program the page names, or an older one."""
    if shutil.which(program) is None:
        pytest.skip(f"no {program} on this machine")
    if site.is_postgresql:
        [(server,)] = site.sql("SHOW server_version_num")
        said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        client = re.search(r"\) (\d+)", said)
        if client is None or int(client[1]) < int(server) // 10_000:
            pytest.skip(f"{said.strip()} is older than the server")


def test_settings_of_the_page_are_understood(tmp_path: Path) -> None:
    """The options for SQLite that operating.md gives a site of its own do what it says."""
    [text] = [text for kind, text in blocks("docs/operating.md") if kind == "python"]
    script = f"""
import django
from django.conf import settings
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "{tmp_path}/own.sqlite3"}}}}
{text}
settings.configure(DATABASES=DATABASES)
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    print(cursor.execute("PRAGMA journal_mode").fetchone()[0])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == "wal\n", result.stderr
