"""The machine itself: power, disks, memory, and the numbers of processes it allows."""

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import psycopg

from tests.acceptance.site import Worker, alive, signal_all
from tests.chaos import fleet
from tests.chaos.faults.kinds import (
    POSTGRESQL,
    SQLITE,
    Arena,
    fault,
    killed,
    one,
    victims,
    wait_until_busy,
)  # fmt: skip
from tests.chaos.place import Group
from tests.support import wait_until

# Power and disks


@fault(
    "power-loss", "F49 F52", "loses", "interrupts", "away", holds=2, aims=False, needs=("disk",)
)  # fmt: skip
def power_loss(arena: Arena, _: str) -> Iterator[str]:
    """What was not on the disk is gone, and with it every process."""
    assert arena.disk is not None
    before = _acknowledged(arena.calls)
    with suppress(AssertionError):  # at the end of a run the client has nothing left to ask
        wait_until(lambda: _acknowledged(arena.calls) >= before + 3, timeout=5)
    everything = [p for p in arena.site.processes() if alive(p)]
    signal_all(everything, signal.SIGSTOP)
    arena.disk.lose_power()
    yield f"{_start_again(arena, everything)} processes"


@fault(
    "read-only-disk", "F59", "loses", "interrupts", "away", holds=1, on=SQLITE, aims=False,
    needs=("disk",),
)  # fmt: skip
def read_only_disk(arena: Arena, _: str) -> Iterator[str]:
    """The file system finds an error and takes no more writes; then the machine is started again."""
    assert arena.disk is not None
    wait_until(lambda: _acknowledged(arena.calls) >= 1, timeout=20)
    # Nobody is in fdatasync then: what that acknowledges in the very moment Linux may lose. Plain
    # appends to a file did, in 7 of 150 tries.
    everything = [p for p in arena.site.processes() if alive(p)]
    signal_all(everything, signal.SIGSTOP)
    wait_until(lambda: all(map(_stands, everything)), timeout=10)
    arena.disk.refuse_writes()
    signal_all(everything, signal.SIGCONT)
    # One that is about to start finds no place for its lock file, and says so.
    before = [worker for worker in arena.fleet.workers.values() if "Started" in worker.output]
    with suppress(AssertionError):
        wait_until(lambda: any(worker.poll() is not None for worker in before), timeout=3)
    if ended := [worker.args for worker in before if worker.poll() is not None]:
        arena.fleet.complaints.append(f"on a read-only disk ended {ended}")
    yield f"{_start_again(arena, [p for p in arena.site.processes() if alive(p)])} processes"


def _stands(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    return True


def _start_again(arena: Arena, everything: list[psutil.Process]) -> int:
    """Every process ends, and the disk is mounted anew; how many there were."""
    assert arena.disk is not None
    killed(everything)
    while left := arena.site.processes():
        killed(left)  # what one of them had started between the look and its end
    # Nobody looks for the lock file of one that had been declared dead a moment before.
    arena.killed.update(arena.fleet.workers)
    for name in list(arena.fleet.workers):
        arena.fleet.forget(name).wait(10)
    if arena.client is not None:
        arena.client.wait(10)
    if arena.cluster is not None:
        arena.cluster.crash()
    arena.disk.unmount()
    arena.disk.mount()
    if arena.cluster is not None:
        arena.cluster.start_again()
    return len(everything)


def _acknowledged(calls: Path) -> int:
    return calls.read_text().count('"phase": "ok"') if calls.exists() else 0


@fault("disk-full", "F58", "away", on=SQLITE, holds=3, aims=False, needs=("disk",))
def disk_full(arena: Arena, _: str) -> Iterator[str]:
    assert arena.disk is not None
    with arena.disk.filled() as size:
        yield f"{size} bytes more"


@fault(
    "server-disk-full", "F48", "away", "interrupts", "loses", on=POSTGRESQL, holds=3, aims=False,
    needs=("disk",),
)  # fmt: skip
def server_disk_full(arena: Arena, _: str) -> Iterator[str]:
    """A server without room refuses first; then its log needs a file more, and it ends all it does."""
    assert arena.disk is not None and arena.cluster is not None
    before = [(name, w, _deaths_told(w)) for name, w in arena.fleet.workers.items()]
    # Before: after a recovery the first that connects has a file to write.
    own = psycopg.connect(arena.site.database_url, autocommit=True)
    with closing(own), arena.disk.filled() as size:
        refused, ended = _finds_no_room(own), ""
        if refused:
            time.sleep(REFUSES_SECONDS)
            ended = _ends_for_want_of_a_log(own)
        yield f"{size} bytes more, then {refused} and {ended}" if refused and ended else ""
    arena.cluster.come_back()
    for name, worker, told in before:
        if _deaths_told(worker) > told:
            arena.fleet.complaints.append(f"{name}'s ledger died of a server without room")


def _deaths_told(worker: Worker) -> int:
    """How often its supervisor has seen a ledger die; one that begins anew since it was given up is not."""
    return worker.log.count("the ledger process died")


REFUSES_SECONDS = 3


def _finds_no_room(connection: psycopg.Connection) -> str:
    """What the server says to somebody who stores more than there is room for; that needs no log."""
    more = "CREATE TEMP TABLE more AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)"
    try:
        connection.execute(more)
    except psycopg.errors.DiskFull:
        return "a statement was refused"
    return ""


def _ends_for_want_of_a_log(connection: psycopg.Connection) -> str:
    """Files of the log that are kept to be used again are used up; the next cannot be made."""
    for number in range(LOG_FILES):
        try:
            connection.execute("SELECT pg_logical_emit_message(false, 'chaos', 'x')")
            connection.execute("SELECT pg_switch_wal()")
        except psycopg.OperationalError:
            return f"the server ended after {number} files of its log"
    return ""


LOG_FILES = 100


@fault("file-size-limit", "F59", "stands", on=SQLITE, holds=4, needs=("limits",))
def file_size_limit(arena: Arena, name: str) -> Iterator[str]:
    """One worker's ledger may make no file longer than a page: its writes fail, as on a bad disk."""
    found = victims(lambda: fleet.ledgers(arena.fleet.workers[name]))
    before = {p.pid: resource.prlimit(p.pid, resource.RLIMIT_FSIZE) for p in found}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield f"ledger {[*before]}" if before else ""
    finally:
        for pid, limits in before.items():
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    ended = [p.pid for p in found if not alive(p)]
    if ended:
        arena.fleet.complaints.append(f"{name}'s ledger {ended} died of a write that failed")


# Memory and numbers of processes

COMMAND_MEMORY, WORKER_MEMORY, FORKS = 48 * 2**20, 24 * 2**20, 20


@fault("out-of-memory-command", "F18", "fails", needs=("memory",))
def out_of_memory_command(arena: Arena, name: str) -> Iterator[str]:
    """A command takes more memory than it may have, and the kernel kills it."""
    yield from _out_of_memory(arena, lambda: fleet.effects(arena.site, name))


@fault("out-of-memory-task", "F18", "fails", needs=("memory",))
def out_of_memory_task(arena: Arena, name: str) -> Iterator[str]:
    """A task does so: its runner dies with it."""
    worker = arena.fleet.workers[name]
    yield from _out_of_memory(arena, lambda: fleet.task_runners(worker, busy=True))


def _out_of_memory(arena: Arena, find: fleet.Find) -> Iterator[str]:
    with Group("memory", COMMAND_MEMORY) as group:
        hog = one(arena, find)
        group.take(hog)
        signal_all(hog, signal.SIGUSR1)
        with suppress(AssertionError):
            wait_until(lambda: group.killed() or not any(map(alive, hog)), timeout=10)
        yield f"{hog[0].pid} killed" if group.killed() else ""


@fault(
    "out-of-memory-worker", "F19", "loses", "interrupts", "fails", "overlaps", needs=("memory",)
)  # fmt: skip
def out_of_memory_worker(arena: Arena, name: str) -> Iterator[str]:
    """A worker and its jobs have so little together that the kernel kills the largest, one by one.

    Where all of the worker was among them, nobody is left to end a command that was not.
    """
    worker = arena.fleet.workers[name]
    with Group("memory", WORKER_MEMORY) as group:
        hog = one(arena, lambda: fleet.effects(arena.site, name))
        group.take([*fleet.parts(worker), *fleet.commands(arena.site, name)])
        arena.fleet.ledger_deaths[name] += 1
        signal_all(hog, signal.SIGUSR1)
        with suppress(AssertionError):
            wait_until(lambda: not any(map(alive, hog)), timeout=10)
        yield f"{group.killed()} killed" if group.killed() else ""
    if worker.poll() is not None:
        arena.killed.add(name)
        arena.fleet.forget(name)


@fault("fork-bomb", "F32", "others-flow", holds=3, needs=("pids",))
def fork_bomb(arena: Arena, name: str) -> Iterator[str]:
    """A command forks until it may no more; what it forked goes with it."""
    wait_until_busy(arena, name)
    with Group("pids", FORKS) as group:
        bomb = one(arena, lambda: fleet.effects(arena.site, name))
        group.take(bomb)
        signal_all(bomb, signal.SIGUSR2)
        with suppress(AssertionError):
            wait_until(group.refused, timeout=5)
        yield f"{group.refused()} forks refused" if group.refused() else ""
