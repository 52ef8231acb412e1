"""Where the log of a worker in the background goes."""

import os
import stat
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from jobs.exceptions import WorkerRefused
from jobs.worker import detach
from jobs.worker.supervisor import Plan

pytestmark = pytest.mark.one_database

PLAN = Plan(slots=1)


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says a word, and never becomes ready."""

    def spawn(plan: Plan, *, stdout: Any, stderr: Any) -> Any:
        assert os.get_blocking(stdout.fileno())
        stdout.write(b"no database\n")
        return Mock()

    def wait(worker: Any) -> None:
        raise WorkerRefused("The worker did not become ready")

    monkeypatch.setattr(detach, "spawn", spawn)
    monkeypatch.setattr(detach, "wait_until_ready", wait)


def refused(log: Path) -> WorkerRefused:
    with pytest.raises(WorkerRefused) as caught:
        detach.start(PLAN, log)
    return caught.value


def test_a_new_log_is_its_owners_alone_and_an_old_one_is_added_to(tmp_path: Path) -> None:
    log, old = tmp_path / "worker.log", os.umask(0)
    try:
        assert refused(log).hint == "no database"
    finally:
        os.umask(old)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert refused(log).hint == "no database"
    assert log.read_bytes() == b"no database\n" * 2


@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_the_logs_place_is_refused_by_name_and_not_followed(
    tmp_path: Path, there: bool
) -> None:
    victim, link = tmp_path / "victim", tmp_path / "worker.log"
    if there:
        victim.write_bytes(b"mine")
    link.symlink_to(victim)
    refusal = refused(link)
    assert str(refusal) == f"The log {link} is a link, which is not followed"
    assert "without --detach" in refusal.hint
    assert victim.exists() == there and (not there or victim.read_bytes() == b"mine")


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    assert str(refused(tmp_path)) == f"Cannot write the log {tmp_path}: Is a directory"
    missing = tmp_path / "no" / "worker.log"
    assert str(refused(missing)) == f"Cannot write the log {missing}: No such file or directory"


def test_a_fifo_is_written_if_somebody_reads_it_and_never_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert str(refused(fifo)).startswith(f"Cannot write the log {fifo}: ")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    assert refused(fifo).hint == ""
    assert os.read(reader, 100) == b"no database\n"
    os.close(reader)
