"""The workers of a run. One that died is followed by another, with a name of its own."""

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.acceptance.site import MARK, Site, Worker, alive, environ, started_with
from tests.chaos.inside import BUSY_TASK_RUNNER, TASK_RUNNER
from tests.chaos.place import Clocks
from tests.chaos.proxy import Proxy
from tests.support import wait_until


class Fleet:
    def __init__(
        self,
        site: Site,
        *,
        slots: int,
        server: tuple[str, int] | None,
        clocks: Clocks | None = None,
    ) -> None:
        self.site, self.slots, self.server, self.clocks = site, slots, server, clocks
        self.proxies: dict[str, Proxy] = {}
        self.workers: dict[str, Worker] = {}
        """Those that should live, by name."""

        self.ledger_deaths: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.started = 0

    def start(
        self, place: str, *, before: Sequence[str] = (), queue: str = "default", **env: str
    ) -> str:
        """A worker in a place of the fleet; its name, new each time."""
        self.started += 1
        name = f"{place}-{self.started}"
        usual = self.site.env
        self.site.env = usual | {"CHAOS_WORKER": name} | self.env(name) | env
        try:
            arguments = ("--count", str(self.slots), "--name", name, "--queue", queue)
            self.workers[name] = self.site.spawn_worker(*arguments, before=before)
        finally:
            self.site.env = usual
        return name

    def env(self, name: str) -> dict[str, str]:
        """The clock of that program, and how it reaches a database that is a server."""
        clock = self.clocks.env(name) if self.clocks else {}
        return clock | self._through_proxy(name)

    def _through_proxy(self, name: str) -> dict[str, str]:
        if self.server is None:
            return {}
        proxy = self.proxies[name] = Proxy(self.server)
        url = self.site.database_url.replace(f":{self.server[1]}/", f":{proxy.port}/")
        return {"DATABASE_URL": url}

    def wait_ready(self, names: Iterable[str], timeout: float = 90) -> None:
        for name in names:
            worker = self.workers[name]
            wait_until(
                lambda w=worker: "Started" in w.output or w.poll() is not None,  # type: ignore[misc]
                timeout=timeout,
                message=lambda w=worker: f"it did not start:\n{w.output}{w.log}",  # type: ignore[misc]
            )

    def forget(self, name: str) -> Worker:
        """It was told to end, or killed: its end is no complaint."""
        return self.workers.pop(name)

    def revive(self, size: int) -> None:
        """As many workers as there should be; one that ended unasked is a complaint."""
        for name, worker in list(self.workers.items()):
            if worker.poll() is not None:
                self.complaints.append(f"{name} ended by itself with {worker.returncode}")
                del self.workers[name]
        lived = {name.partition("-")[0] for name in self.workers}
        for place in (f"w{n}" for n in range(1, size + 1)):
            if place not in lived:
                self.start(place)

    def tired(self) -> list[str]:
        """Those whose ledger has died more than twice."""
        return [name for name in self.workers if self.ledger_deaths[name] > 2]

    def in_place(self, number: int) -> str:
        """The name of the worker that is at that place now."""
        return next(name for name in self.workers if name.startswith(f"w{number}-"))

    def stop(self) -> None:
        for worker in self.workers.values():
            worker.terminate()
        for name, worker in self.workers.items():
            with suppress(TimeoutError):
                if (code := worker.wait(30)) != 0:
                    self.complaints.append(f"{name} was asked to stop and ended with {code}")
        self.workers.clear()

    def close(self) -> None:
        for proxy in self.proxies.values():
            proxy.close()


def parts(worker: Worker) -> list[psutil.Process]:
    """Its processes, the supervisor first; none of its commands."""
    return [worker.supervisor(), *ledgers(worker), *runners(worker), *task_runners(worker)]


def ledgers(worker: Worker) -> list[psutil.Process]:
    return _called("queuectl-ledger", worker)


def runners(worker: Worker) -> list[psutil.Process]:
    return _called("queuectl-runner", worker)


def task_runners(worker: Worker, *, busy: bool = False) -> list[psutil.Process]:
    """All, or those that are inside a task."""
    inside = _called(BUSY_TASK_RUNNER, worker)
    return inside if busy else inside + _called(TASK_RUNNER, worker)


Find = Callable[[], list[psutil.Process]]


def effects(site: Site, name: str) -> list[psutil.Process]:
    """Commands that can be told to misbehave, and live long enough to hear it."""
    return [p for p in commands(site, name) if _catches(p, signal.SIGUSR2)]


def _catches(process: psutil.Process, number: int) -> bool:
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def commands(site: Site, name: str = "") -> list[psutil.Process]:
    """What runs of jobs live, of one worker or of all."""
    who = (f"CHAOS_WORKER={name}",) if name else ()
    found = started_with(f"{MARK}={site.mark}", *who)
    return [p for p in found if "QUEUECTL_JOB_ID" in environ(p) and alive(p)]


def _called(name: str, worker: Worker) -> list[psutil.Process]:
    try:
        children = worker.supervisor().children()
        return [child for child in children if alive(child) and _name(child.pid) == name]
    except psutil.NoSuchProcess:
        return []


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
