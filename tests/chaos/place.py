"""Where a run takes place: its databases, and what of them can be broken."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.acceptance.databases import Databases, databases
from tests.postgres import Cluster, own_cluster
from tests.support import wait_until

_EXT4_SHUTDOWN, _WITHOUT_FLUSH = 0x8004587D, 2
IMAGE_BYTES = {"sqlite": 32 * 2**20, "postgresql": 512 * 2**20}


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

    def unmount(self) -> None:
        """Once nobody has a file of it open."""
        wait_until(lambda: _tries("umount", self.path), timeout=20, message="the disk is in use")


@dataclass(frozen=True)
class There:
    source: Databases
    cluster: Cluster | None
    disk: Disk | None


@contextmanager
def place(database: str, *, disk: bool = False) -> Iterator[There]:
    with TemporaryDirectory(prefix="queuectl-chaos-") as name, ExitStack() as stack:
        directory, own = Path(name), None
        directory.chmod(0o755)
        if disk:
            own = Disk(directory / "image", directory / "disk", IMAGE_BYTES[database])
            stack.callback(own.unmount)
            directory = own.path
        if database == "sqlite":
            yield There(stack.enter_context(databases("", directory)), None, own)
            return
        cluster = stack.enter_context(own_cluster(directory if disk else None))
        source = stack.enter_context(databases(cluster.url, directory))
        yield There(source, cluster, own)


def _do(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def _tries(*command: object) -> bool:
    return subprocess.run([str(word) for word in command], capture_output=True).returncode == 0
