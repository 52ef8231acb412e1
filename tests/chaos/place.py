"""Where a run takes place: its databases, what of them can be broken, and what this machine allows."""

import errno
import fcntl
import mmap
import os
import secrets
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg

from tests.acceptance.databases import Databases, databases
from tests.chaos.history import Step, now
from tests.postgres import Cluster, can_be_copied, free_port, own_cluster
from tests.support import wait_until

_EXT4_SHUTDOWN, _WITHOUT_FLUSH = 0x8004587D, 2
IMAGE_BYTES = {"sqlite": 32 * 2**20, "postgresql": 512 * 2**20}
JOB_BYTES = 10_000
"""Room for one more job with its attempts and output."""


class Disk:
    """A file system of its own in a file, to be filled, or to lose its power. Only root may."""

    def __init__(self, image: Path, path: Path, size: int) -> None:
        self.image, self.path = image, path
        with image.open("wb") as file:
            file.truncate(size)
        # Not its own choice of 1 KiB blocks: there SQLite writes to holes of its mapped index, and a
        # full disk is a SIGBUS.
        _do("mkfs.ext4", "-q", "-b", "4096", image)
        path.mkdir()
        self.mount()

    def mount(self) -> None:
        _do("mount", "-o", "loop", self.image, self.path)
        self.path.chmod(0o755)

    def flush(self) -> None:
        """What was set up before the run is safe."""
        _do("sync", "-f", self.path)

    def lose_power(self) -> None:
        """From now on nothing reaches it any more, the journal neither."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _EXT4_SHUTDOWN, struct.pack("I", _WITHOUT_FLUSH))
        finally:
            os.close(fd)

    def refuse_writes(self) -> None:
        """As after an error that the file system has found: it can be read, and no more."""
        _do("mount", "-o", "remount,abort", self.path)

    @contextmanager
    def filled(self) -> Iterator[int]:
        """So many bytes are taken that nobody finds a free block, root neither, until it is over."""
        filler, chunk = self.path / "filler", 2**26
        try:
            with filler.open("wb") as file:
                while chunk >= 4096:
                    try:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, chunk)
                    except OSError as error:
                        if error.errno != errno.ENOSPC:
                            raise
                        chunk //= 2
                size = os.fstat(file.fileno()).st_size
            yield size
        finally:
            filler.unlink()

    def unmount(self) -> None:
        """Once nobody has a file of it open, and no namespace of a process that ends has it mounted.

        Mounted again before that it would be the same file system, in the state it was left in.
        """
        wait_until(lambda: _tries("umount", self.path), timeout=20, message="the disk is in use")
        wait_until(self._is_free, timeout=20, message="the disk is mounted in another namespace")

    def _is_free(self) -> bool:
        command = ["losetup", "-j", str(self.image)]
        return not subprocess.run(command, capture_output=True, check=True).stdout


class Clocks:
    """The time of day of programs, each by a file that says how far ahead of ours it is.

    By a few lines of C that are loaded into them. Not libfaketime, which says no to `time.sleep`
    once the time has jumped. Clocks that count from the boot are as they were.
    """

    HOST = "host"

    def __init__(self, directory: Path, *, server: bool) -> None:
        self.directory, self.server = directory, server
        directory.mkdir()
        directory.chmod(0o755)
        self.library = directory / "clock.so"
        source = Path(__file__).with_name("clock.c")
        _do("cc", "-shared", "-fPIC", "-O1", "-o", self.library, source, "-ldl")
        self.steps: list[Step] = []
        """How far ahead the database's clock was, and from when on."""

    @property
    def ahead(self) -> int:
        return int(self.steps[-1].ahead) if self.steps else 0

    def env(self, program: str) -> dict[str, str]:
        """What a program has to be started with. Those of one host have one clock."""
        file = self._file(program)
        if not file.exists():
            file.write_bytes(struct.pack("q", 0))
        return {"LD_PRELOAD": str(self.library), "CHAOS_CLOCK": str(file)}

    def set_database(self, seconds: int) -> None:
        self._write(self._file("server"), seconds)
        self.steps.append(Step(now(), seconds))

    def set(self, program: str, seconds: int) -> None:
        self._write(self._file(program), seconds)

    def _file(self, program: str) -> Path:
        return self.directory / (program if self.server else self.HOST)

    def _write(self, file: Path, seconds: int) -> None:
        with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 8) as memory:
            memory[:] = struct.pack("q", seconds)


class Group:
    """A control group with a limit, for processes that are put into it and taken out again."""

    LIMITS = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max", "pids.max")}

    def __init__(self, controller: str, limit: int) -> None:
        self.controller = controller
        old = Path("/sys/fs/cgroup") / controller
        self.is_old = old.is_dir()
        root = old if self.is_old else Path("/sys/fs/cgroup")
        self.path = root / f"queuectl-chaos-{secrets.token_hex(4)}"
        self.home = root / _own_group(controller if self.is_old else "").lstrip("/")
        self.path.mkdir()
        try:
            (self.path / self.LIMITS[controller][not self.is_old]).write_text(str(limit))
        except OSError:
            self.path.rmdir()
            raise

    def take(self, processes: Iterable[psutil.Process]) -> None:
        for process in processes:
            self._move(process.pid, self.path)

    def killed(self) -> int:
        """How many the kernel has killed for want of memory."""
        return self._figure("memory.oom_control" if self.is_old else "memory.events", "oom_kill")

    def refused(self) -> int:
        """How many forks it has refused."""
        return self._figure("pids.events", "max")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _ in range(100):
            for pid in (self.path / "cgroup.procs").read_text().split():
                self._move(int(pid), self.home)
            with suppress(OSError):
                self.path.rmdir()
                return
            time.sleep(0.05)  # what was killed is in it until it is reaped

    def _move(self, pid: int, where: Path) -> None:
        with suppress(ProcessLookupError):
            (where / "cgroup.procs").write_text(str(pid))

    def _figure(self, file: str, name: str) -> int:
        lines = (self.path / file).read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.split()[0] == name), 0)


def _own_group(controller: str) -> str:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path
    return "/"


class Pooler:
    """PgBouncer before a server, in transaction mode: no connection keeps what its session set."""

    def __init__(self, cluster: Cluster, directory: Path, size: int) -> None:
        self.cluster, self.size = cluster, size
        self.directory = directory / f"pooler-{secrets.token_hex(4)}"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir()
        self.port = free_port()
        users = self.directory / "users"
        # Its parents may be closed to the account it runs as: it is handed what it reads.
        users.write_text(f'"queuectl" "{self.cluster.password}"\n')
        (self.directory / "ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={self.cluster.port}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = plain\nauth_file = {users}\npool_mode = transaction\n"
            f"default_pool_size = {self.size}\n"
        )
        self._start()
        return self

    def through(self, url: str) -> str:
        return url.replace(f":{self.cluster.port}/", f":{self.port}/")

    def restart(self) -> None:
        self.__exit__(None, None, None)
        self._start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def _start(self) -> None:
        account: dict[str, Any] = dict(self.cluster.account)
        if account:
            for path in (self.directory, *self.directory.iterdir()):
                os.chown(path, account["user"], account["group"])
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [_pgbouncer(), self.directory / "ini"], stdout=log, stderr=log, **account
            )
        wait_until(self._answers, timeout=10, message="PgBouncer does not answer")

    def _answers(self) -> bool:
        with suppress(psycopg.Error), psycopg.connect(self.through(self.cluster.url)):
            return True
        return False


def _pgbouncer() -> str:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") or ""


# What this machine allows

OWN_PIDS = ("unshare", *(() if os.geteuid() == 0 else ("-Ur",)), "-pf", "--mount-proc")
"""Before a command line: it is process 1 of a space of its own."""


def _allows_group(controller: str, limit: int) -> bool:
    with suppress(OSError), Group(controller, limit):
        return True
    return False


ABLE: dict[str, tuple[str, Callable[[], bool]]] = {
    "disk": (
        "root, to mount a disk",
        lambda: os.geteuid() == 0 and bool(shutil.which("mkfs.ext4")),
    ),
    "clocks": ("a C compiler", lambda: bool(shutil.which("cc"))),
    "memory": ("control groups for memory", lambda: _allows_group("memory", 2**26)),
    "pids": ("control groups for processes", lambda: _allows_group("pids", 10)),
    "limits": ("root, to limit others", lambda: os.geteuid() == 0),
    "own-pids": ("spaces for processes", lambda: _tries(*OWN_PIDS, "true")),
    "pooler": ("PgBouncer", lambda: bool(_pgbouncer())),
    "standby": ("pg_basebackup", can_be_copied),
}
"""What a fault may need, and whether it is there."""


@cache
def lacks(need: str) -> str:
    """What of a need this machine has not; "" where it has all."""
    words, is_there = ABLE[need]
    with suppress(OSError):
        if is_there():
            return ""
    return words


@dataclass(frozen=True)
class There:
    source: Databases
    cluster: Cluster | None = None
    disk: Disk | None = None
    clocks: Clocks | None = None


@contextmanager
def place(database: str, needs: Iterable[str] = (), jobs: int = 0) -> Iterator[There]:
    """Databases, on a disk of their own, which so many jobs do not fill, and with clocks of their own
    where those are needed.
    """
    with TemporaryDirectory(prefix="queuectl-chaos-") as name, ExitStack() as stack:
        directory, disk, clocks, needs = Path(name), None, None, set(needs)
        directory.chmod(0o755)
        if "clocks" in needs:
            clocks = Clocks(directory / "clocks", server=database == "postgresql")
        if "disk" in needs:
            size = IMAGE_BYTES[database] + jobs * JOB_BYTES
            disk = Disk(directory / "image", directory / "disk", size)
            stack.callback(disk.unmount)
            directory = disk.path
        if database == "sqlite":
            yield There(stack.enter_context(databases("", directory)), None, disk, clocks)
            return
        env = clocks.env("server") if clocks else {}
        cluster = stack.enter_context(own_cluster(directory if disk else None, env))
        source = stack.enter_context(databases(cluster.url, directory))
        yield There(source, cluster, disk, clocks)


def _do(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def _tries(*command: object) -> bool:
    return subprocess.run([str(word) for word in command], capture_output=True).returncode == 0
