"""A worker whose output nobody takes: a terminal under Ctrl-S, a pager, a collector of logs that hangs."""

import fcntl
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.acceptance.databases import MANAGE, ROOT
from tests.acceptance.site import ON_LINUX, Site
from tests.acceptance.test_stopping import Terminal, assert_nothing_is_left
from tests.support import wait_until

pytestmark = pytest.mark.skipif(not ON_LINUX, reason="the size of a pipe is set on Linux")


class Unread:
    """A pipe without room for another byte."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 4096)
        self.fill()

    def fill(self) -> None:
        if select.select([], [self.writing], [], 0)[1]:
            os.write(self.writing, b"x" * 4096)

    def read(self) -> str:
        os.set_blocking(self.reading, False)
        with suppress(BlockingIOError):
            return os.read(self.reading, 65_536).decode()
        return ""

    def close(self) -> None:
        for fd in (self.reading, self.writing):
            os.close(fd)


@pytest.fixture
def unread() -> Iterator[Unread]:
    pipe = Unread()
    yield pipe
    pipe.close()


def kill_runner_of(site: Site, key: str) -> None:
    [effect] = site.wait_for_start(key, timeout=20)
    psutil.Process(effect.pid).parent().kill()


@pytest.mark.parametrize("settings", ["quick", "threaded"])
def test_a_worker_that_nobody_reads_replaces_a_runner_that_dies_and_stops_when_told(
    site: Site, unread: Unread, settings: str
) -> None:
    site.hurry()
    site.env["DJANGO_SETTINGS_MODULE"] = f"tests.acceptance.{settings}"
    worker = subprocess.Popen(
        [*MANAGE, "worker", "start"],
        cwd=ROOT,
        env=site.env,
        stdout=unread.writing,
        stderr=unread.writing,
        start_new_session=True,
    )
    try:
        site.enqueue(site.effect("a", 60, later=0.1), site.effect("b", 0.1))
        kill_runner_of(site, "a")
        site.wait_for("completed", timeout=20)
        assert site.outcomes("a") == ["lost", "succeeded"]
        unread.read()
        site.enqueue(site.effect("c", 60, later=0.1))
        kill_runner_of(site, "c")
        said = ""

        def is_told() -> bool:
            nonlocal said
            said += unread.read()
            return "left out here" in said and "a command runner died" in said

        wait_until(is_told, timeout=20, message=lambda: said)
        unread.fill()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    finally:
        worker.kill()
        worker.wait()
    assert_nothing_is_left(site)


def test_a_worker_at_a_terminal_that_stands_still_works_on(site: Site) -> None:
    terminal = Terminal(site, *MANAGE, "worker", "start")
    wait_until(lambda: terminal.shows("Started 1 worker(s)"), message=lambda: str(terminal.shown))
    try:
        terminal.type("\x13")
        site.enqueue(site.effect("a", 60, later=0.1))
        kill_runner_of(site, "a")
        site.wait_for("completed", timeout=20)
        assert site.outcomes("a") == ["lost", "succeeded"]
        assert not terminal.shows("runner died"), "the terminal did not stand still"
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(10) == 0
    finally:
        terminal.close()
        terminal.process.kill()
        terminal.process.wait()
    assert_nothing_is_left(site)
