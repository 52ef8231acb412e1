"""Where a scenario plays: environments, databases, sizes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .databases import Database
from .environments import HERE, QUEUECTL, ROOT, Peer
from .measuring import Figures, two_digits
from .processes import Failed, Finished, run

QUICK_SIZE = 200
SMALLEST, LARGEST = 300, 400_000
CONSOLE = "from jobs.cli.console import main; main()"


Skip = Callable[[str, str], None]


@dataclass
class Stage:
    """What every scenario is given."""

    directory: Path
    pairs: int
    size: int | None
    """Jobs of a drain; None: as many as are about `seconds` of work."""

    seconds: float
    quick: bool
    python: Path
    """That of QueueCTL's environment."""

    databases: Mapping[str, Database]
    redis: Path | None
    peers: Mapping[str, tuple[Peer, Path]]
    """Those that are installed, with their Pythons."""

    skip: Skip
    """Told what could not be measured, and why."""

    _sizes: dict[tuple[str, ...], int] = field(default_factory=dict)

    # Programs

    def program(self, *words: object, url: str, peer: Peer = QUEUECTL) -> dict[str, Any]:
        """What a queue's program answers. Raises Failed with the end of its workers' log."""
        log, tally = self.directory / "worker.log", self.directory / "tally"
        for file in (log, tally):
            file.unlink(missing_ok=True)
        place = HERE / "peers" / peer.name
        command = [self._python(peer), place / "program.py", *map(str, words)]
        try:
            finished = run(command, environment=self.environment(url, peer), cwd=self.directory)
        except Failed as failure:
            raise Failed(f"{peer.title}: {failure}{_end_of(log)}") from None
        return dict(json.loads(finished.output.splitlines()[-1]))

    def queuectl(self, *words: str, url: str, stdin: str = "") -> Finished:
        """The command line, timed as a process."""
        command = [str(self.python), "-c", CONSOLE, *words]
        return run(command, environment=self.environment(url), cwd=self.directory, stdin=stdin)

    def environment(self, url: str, peer: Peer = QUEUECTL) -> dict[str, str]:
        """Little of ours: the same for every queue, whatever shell the harness was started from."""
        roots = [HERE / "peers" / peer.name, HERE / "arena"]
        if peer is QUEUECTL:
            roots.append(ROOT)
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | {
            "PYTHONPATH": os.pathsep.join(map(str, roots)),
            "DJANGO_SETTINGS_MODULE": "settings",
            "BENCH_DATABASE": url,
            "BENCH_REDIS": str(self.redis),
            "BENCH_TALLY": str(self.directory / "tally"),
            "BENCH_LOG": str(self.directory / "worker.log"),
        }

    def _python(self, peer: Peer) -> Path:
        return self.python if peer is QUEUECTL else self.peers[peer.name][1]

    # What there is

    def database(self, name: str) -> Database | None:
        """None for Redis, which the peer empties itself."""
        if name == "redis":
            if self.redis is None:
                raise Failed("Redis could not be started")
            return None
        if name not in self.databases:
            raise Failed("PostgreSQL could not be started")
        return self.databases[name]

    def can_run_tasks(self) -> bool:
        try:
            run(
                [self.python, "-c", "import django; django.setup(); import jobs.backend, tasks"],
                environment=self.environment(f"sqlite://{self.directory / 'none.sqlite3'}"),
                cwd=self.directory,
            )
        except Failed as failure:
            self.skip("Django tasks on QueueCTL", str(failure))
            return False
        return True

    # Sizes

    def some(self, usual: int, quick: int) -> int:
        return quick if self.quick else usual

    def calibrated(self, key: tuple[str, ...], side: Callable[[int], Figures]) -> int:
        """How many jobs are about so many seconds of work, found by doing fewer first."""
        if self.size or self.quick:
            return self.size or QUICK_SIZE
        if key not in self._sizes:
            number, speed = SMALLEST, side(SMALLEST)["rate"]
            while number / speed < min(1.0, self.seconds / 4) and number < LARGEST / 10:
                number *= 5
                speed = side(number)["rate"]
            self._sizes[key] = max(SMALLEST, min(LARGEST, two_digits(speed * self.seconds)))
        return self._sizes[key]


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    said = [line.strip() for line in lines if line.strip()]
    return f" (its log ends: {said[-1][:200]})" if said else ""
