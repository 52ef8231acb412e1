"""More than five hundred commands over the files of Python's library, while workers are killed."""

import gzip
import hashlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.acceptance.site import ROOT, Site, Worker, alive, moment, signal_all, wait_gone
from tests.support import wait_until

PAGE = ROOT / "docs" / "workload.md"
LIBRARY = Path(sysconfig.get_path("stdlib"))
SOURCES = [*sorted(LIBRARY.glob("*.py")), *sorted(LIBRARY.glob("encodings/*.py"))][:175]
PACKAGES = ("asyncio", "email", "json")
"""Each archived by a command that runs while its worker, or a part of that, is killed."""
CAUSES = (
    ("its command runner died",),
    # Told by the next ledger process of its worker, or by a neighbour who was faster.
    ("its ledger process died", "none of its processes is left"),
    ("none of its processes is left",),
)


@dataclass(frozen=True)
class Task:
    """A job that writes one file, and what that file must hold."""

    id: str
    command: str
    output: Path
    is_right: Callable[[bytes], bool]
    queue: str = "default"
    priority: int = 0

    def line(self) -> str:
        job = {"id": self.id, "command": self.command, "max_retries": 0}
        return json.dumps(job | {"queue": self.queue, "priority": self.priority}) + "\n"


def whole(output: Path, command: str) -> str:
    """A command for which `output` is there completely or not at all, however it ends.

    Runs share no file: when a whole worker is killed, what it had started goes on for a while.
    """
    target = shlex.quote(str(output))
    return f'part={target}.$$; {command} && mv "$part" {target}'


def tasks_of(source: Path, folder: Path) -> list[Task]:
    """Compress, checksum and round trip: none needs another's output."""
    name = source.relative_to(LIBRARY).as_posix().replace("/", ".")
    text, quoted = source.read_bytes(), shlex.quote(str(source))
    checksum = f"{hashlib.sha256(text).hexdigest()}  {source}\n".encode()

    def task(verb: str, command: str, is_right: Callable[[bytes], bool]) -> Task:
        output = folder / f"{name}.{verb}"
        return Task(f"{verb}-{name}", whole(output, command), output, is_right)

    round_trip = f'gzip -c {quoted} | gunzip > "$part" && cmp "$part" {quoted}'
    return [
        task("gz", f'gzip -c {quoted} > "$part"', lambda data: gzip.decompress(data) == text),
        task("sha256", f'sha256sum {quoted} > "$part"', lambda data: data == checksum),
        task("copy", round_trip, lambda data: data == text),
    ]


def archive_of(package: str, folder: Path, gate: Path) -> Task:
    """First in a queue of its own, and running until the gate is there."""
    output = folder / f"{package}.tar.gz"
    tar = f'tar -czf "$part" -C {shlex.quote(str(LIBRARY))} --exclude=__pycache__ {package}'
    command = f"until test -e {shlex.quote(str(gate))}; do sleep 0.05; done; {tar}"
    files = {
        file.relative_to(LIBRARY).as_posix(): file.read_bytes()
        for file in (LIBRARY / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    return Task(
        f"archive-{package}",
        whole(output, command),
        output,
        lambda data: unpacked(data) == files,
        queue=package,
        priority=9,
    )


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        files = ((member.name, tar.extractfile(member)) for member in tar if member.isfile())
        return {name: file.read() for name, file in files if file}


def wrong_outputs(tasks: list[Task]) -> list[str]:
    return [
        task.id
        for task in tasks
        if not task.output.exists() or not task.is_right(task.output.read_bytes())
    ]


def runner_of(worker: Worker, task: Task) -> psutil.Process:
    """The runner that started the command of this job."""
    commands = worker.site.commands(task.id)
    [runner] = [r for r in worker.runners() if not set(commands).isdisjoint(r.children())]
    return runner


def kill(processes: list[psutil.Process]) -> None:
    """All in one moment: none sees another die."""
    assert all(map(alive, processes))
    signal_all(processes, signal.SIGSTOP)
    signal_all(processes, signal.SIGKILL)
    wait_gone(processes, 5)


def attempts_by_job(site: Site) -> dict[str, list[SimpleNamespace]]:
    rows = site.sql(
        "SELECT j.key, a.number, a.outcome, a.error, a.started_at, a.finished_at "
        "FROM queuectl_attempt a JOIN queuectl_job j ON j.id = a.job_id ORDER BY j.id, a.number"
    )
    found: dict[str, list[SimpleNamespace]] = {}
    for key, number, outcome, error, *times in rows:
        began, ended = map(moment, times)
        attempt = SimpleNamespace(
            number=number, outcome=outcome, error=error, began=began, ended=ended
        )
        found.setdefault(key, []).append(attempt)
    return found


def assert_one_after_another(attempts: list[SimpleNamespace]) -> None:
    """Another attempt only where the one before was cut short, and not before that was over."""
    *earlier, last = attempts
    assert last.outcome == "succeeded", attempts
    assert {attempt.outcome for attempt in earlier} <= {"lost", "interrupted"}, attempts
    numbers = [attempt.number for attempt in attempts]
    assert numbers == sorted(set(numbers)), attempts
    moments = [at for attempt in attempts for at in (attempt.began, attempt.ended)]
    assert moments == sorted(moments), attempts


def test_hundreds_of_commands_over_real_files_are_done_right_though_workers_are_killed(
    quick: Site, tmp_path: Path
) -> None:
    folder, gate = tmp_path / "out", tmp_path / "gate"
    folder.mkdir()
    archives = [archive_of(package, folder, gate) for package in PACKAGES]
    tasks = [*(task for source in SOURCES for task in tasks_of(source, folder)), *archives]
    assert len(tasks) >= 500

    workers = [
        quick.spawn_worker("--count", "4", "-q", "default", "-q", task.queue) for task in archives
    ]
    for worker in workers:
        wait_until(lambda w=worker: "Started" in w.output, timeout=20, message=quick.describe)
    one, two, three = workers
    ledger, all_parts = two.ledger(), three.all_parts()

    said = quick.queuectl("enqueue", "-", input="".join(task.line() for task in tasks))
    assert said.stdout == f"{len(tasks)} jobs enqueued successfully\n"
    for task in archives:
        wait_until(lambda key=task.id: quick.commands(key), message=quick.describe)
    runner = runner_of(one, archives[0])
    for done, victims in ((50, [runner]), (150, [ledger]), (250, all_parts)):
        wait_until(
            lambda done=done: quick.counts()["completed"] >= done,
            timeout=30,
            message=quick.describe,
        )
        kill(victims)
        left = len(tasks) - quick.counts()["completed"]
        assert left > len(archives), "all was done before: the kill shows nothing"
    assert three.wait(5) == -signal.SIGKILL
    successor = quick.start_worker("--count", "4")
    gate.touch()

    quick.wait_for("completed", timeout=60)
    assert len(quick.states()) == len(tasks)
    assert wrong_outputs(tasks) == []
    attempts = attempts_by_job(quick)
    assert attempts.keys() == {task.id for task in tasks}
    for of_one_job in attempts.values():
        assert_one_after_another(of_one_job)
    for task, causes in zip(archives, CAUSES, strict=True):
        of_one_job = attempts[task.id]
        assert [attempt.outcome for attempt in of_one_job] == ["lost", "succeeded"]
        assert of_one_job[0].error.endswith(causes), "it was not cut short by its kill"
    for worker in (one, two, successor):
        assert worker.stop() == 0
    wait_until(lambda: quick.processes() == [], message=lambda: str(quick.processes()))


# The page


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


def session() -> list[tuple[str, str]]:
    """Every command of the page, with what it prints there."""
    typed = r"^\$ (.*)\n((?:(?!\$ ).*\n)*)"
    return re.findall(typed, "".join(blocks("console")), flags=re.MULTILINE)


def without_figures(text: str) -> str:
    return re.sub(r"\d+", "N", text)


@pytest.mark.one_database
def test_the_session_of_the_page_prints_what_it_says(site: Site, tmp_path: Path) -> None:
    folder, rule = tmp_path / "workload", "-- the next command --"
    folder.mkdir()
    [program] = blocks("python")
    (folder / "jobs.py").write_text(program)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    project = {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "queuectl_project.settings"}
    said = subprocess.run(
        ["bash"],
        input="".join(f"{command}\necho '{rule}'\n" for command, _ in session()),
        capture_output=True,
        text=True,
        timeout=90,
        cwd=folder,
        env=site.env | project | {"PATH": path},
    )
    printed = said.stdout.split(f"{rule}\n")
    assert len(printed) == len(session()) + 1, said.stderr
    for (command, shown), real in zip(session(), printed, strict=False):
        assert without_figures(real) == without_figures(shown), f"{command}\n{said.stderr}"
    counts = site.counts()
    assert counts["completed"] == counts.total() >= 400
    ends = dict(site.sql('SELECT name, "end" FROM queuectl_worker'))  # type: ignore[arg-type]
    assert ends["two"] == "its supervisor died", "it was not killed"
