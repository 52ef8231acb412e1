"""Whose process is whose: finding and killing what a command, or a runner, left behind.

Linux tells through /proc. Elsewhere only process groups are known, and these functions find nothing.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property

MARK = "QUEUECTL_LEASE"
"""In the environment of every command: tells which attempt a stray process belongs to.

What a task starts has the path of its worker's lock file there and the pid of its runner, see `mark_of`.
"""

RSS_UNIT = 1024 if os.uname().sysname == "Linux" else 1
"""Bytes in one of what the system counts memory in."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_COUNTED_LATE = 1_048_576  # the kernel counts pages per CPU, and adds them up late
_TICKS = os.sysconf("SC_CLK_TCK")


def become_subreaper() -> None:
    """Orphans among our descendants become our children, and not init's. Linux only.

    The attribute is not inherited by fork: each process that wants it asks for itself.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


_own_peak = 0


def above_own_peak(peak_memory: int) -> bool:
    """Whether a process had more memory, in bytes, than this one, which spawned it, ever had.

    Not what getrusage says where /proc tells: that includes the peak of whoever spawned this process.
    """
    global _own_peak
    if peak_memory > _own_peak:  # it only grows, and reading it has its cost
        _own_peak = _read_own_peak()
    return peak_memory > _own_peak


def _read_own_peak() -> int:
    with suppress(OSError), open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024 + _COUNTED_LATE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process once its parent is gone, or now if it is gone already. Linux only."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    group: int
    session: int
    born: int = field(default=0, compare=False)
    """In clock ticks since the machine was started: tells it from a later one with its pid."""

    def was_born_by(self, moment: float) -> bool:
        """`moment`: in seconds of `clock.monotonic`, which counts from there as well."""
        return self.born <= moment * _TICKS


def processes() -> dict[int, Process]:
    """Every process of this machine that can be seen; zombies are left out."""
    found = {}
    for pid in _pids():
        process = _process(pid)
        if process is not None:
            found[pid] = process
    return found


def _process(pid: int) -> Process | None:
    with suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name is in parentheses and may hold anything, parentheses too.
            fields = file.read().rpartition(b")")[2].split()
        # One whose main thread alone has ended looks like a zombie, too, and goes on.
        if fields[0] not in (b"Z", b"X") or int(fields[17]) > 1:
            parent, group, session = map(int, fields[1:4])
            return Process(pid, parent, group, session, int(fields[19]))
    return None


def _pids() -> Iterator[int]:
    with suppress(FileNotFoundError):
        yield from (int(name) for name in os.listdir("/proc") if name.isdigit())


def lease_of(pid: int) -> str | None:
    """The attempt a process belongs to, by the mark in its environment; None where it has none."""
    for entry in _environment(pid).split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == MARK.encode():
            return value.decode("ascii", "replace")
    return None


def mark_of(lock: str, runner: int) -> str:
    """The mark of what a task runner starts: its worker's lock file, and which of the worker's it is."""
    return f"{lock}#{runner}"


def _is_marked(pid: int, marks: Container[str]) -> bool:
    """Whether a process has one of these marks, or is of a task of a worker with one of these lock files."""
    mark = lease_of(pid) or ""
    return mark in marks or mark.rpartition("#")[0] in marks


def _environment(pid: int) -> bytes:
    """As the process began with it; nothing where it may not be read.

    Even root may read that of another user's process only with CAP_SYS_PTRACE, which few containers
    have. So it reads as that user.
    """
    try:
        for path in _environ_files(pid):
            with suppress(FileNotFoundError, ProcessLookupError):
                if found := _read(path):
                    return found
    except OSError:
        pass
    return b""


def _environ_files(pid: int) -> Iterator[str]:
    """The process's own and, since a main thread that has ended has none, those of its other threads."""
    yield f"/proc/{pid}/environ"
    for thread in os.listdir(f"/proc/{pid}/task"):
        if int(thread) != pid:
            yield f"/proc/{pid}/task/{thread}/environ"


def _read(path: str) -> bytes:
    with suppress(PermissionError), open(path, "rb") as file:
        return file.read()
    with _as_owner_of(path), open(path, "rb") as file:
        return file.read()


@contextmanager
def _as_owner_of(path: str) -> Iterator[None]:
    """Only for a process of one thread: elsewhere the others change with it. Raises OSError."""
    owner, mine = os.stat(path), (os.geteuid(), os.getegid())
    if mine[0] != 0 or owner.st_uid == 0:
        raise PermissionError(path)
    os.setegid(owner.st_gid)
    try:
        os.seteuid(owner.st_uid)
        yield
    finally:
        os.seteuid(mine[0])
        os.setegid(mine[1])


def descendants(of: Iterable[int], among: dict[int, Process]) -> set[int]:
    """The given processes that live, and everything below them."""
    return _below((pid for pid in of if pid in among), _by_parent(among))


def _by_parent(among: dict[int, Process]) -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for process in among.values():
        children.setdefault(process.parent, []).append(process.pid)
    return children


def _below(of: Iterable[int], children: dict[int, list[int]]) -> set[int]:
    found, todo = set(), list(of)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, [])
    return found


def strays(known: Iterable[int], among: dict[int, Process]) -> set[int]:
    """Children of this process that it did not start itself: orphans it has adopted."""
    me, mine = os.getpid(), set(known)
    return {p.pid for p in among.values() if p.parent == me and p.pid not in mine}


class Look:
    """The processes of this machine at one moment, the first at which somebody asks for a family.

    However many ask, the machine is searched once. What appears later is not in it, so who ends something
    takes a new one until nothing is left.
    """

    def __init__(self, known: Iterable[int]) -> None:
        """`known`: the children that this process started itself."""
        self._known = known

    def family(self, pid: int, lease: str, ended: float | None = None) -> set[int]:
        """All processes of one command: below it, in its session, or adopted and marked as its own.

        `ended`: when its main process did, if it has. From then on its number may come to be another's,
        so of a session only who was born before, has the mark, or came to us is known to be its own.
        """
        found = set(self._sessions.get(pid, ()))
        if ended is None:
            found |= {pid} & self._among.keys()
        else:
            found = {p for p in found if self._is_known(p, lease, ended)}
        return _below(found | {*self._adopted.get(lease, ())}, self._children)

    def _is_known(self, pid: int, lease: str, ended: float) -> bool:
        process = self._among[pid]
        came = process.parent == os.getpid() and pid not in self._known
        return came or process.was_born_by(ended) or lease_of(pid) == lease

    def send(self, pid: int, lease: str, number: int, ended: float | None = None) -> set[int]:
        """Each of a family hears of it once: the group as a whole, who has left it one by one.

        None whose pid is another's by now. Returns the family.
        """
        family = self.family(pid, lease, ended)
        seen = eldest_first(family, self._among)
        members = [process for process in seen if process.group == pid]
        # While a member lives the kernel gives the number of its group to nobody else. Without /proc, who
        # lives is not known.
        ours = any(now.group == pid for now in map(_now, members) if now)
        if ended is None or ours or not self._among:
            send_group(pid, number)
        send_seen((process for process in seen if process.group != pid), number)
        return family

    @cached_property
    def _among(self) -> dict[int, Process]:
        return processes()

    @cached_property
    def _children(self) -> dict[int, list[int]]:
        return _by_parent(self._among)

    @cached_property
    def _sessions(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for process in self._among.values():
            found.setdefault(process.session, []).append(process.pid)
        return found

    @cached_property
    def _adopted(self) -> dict[str | None, list[int]]:
        """By the lease they are marked with."""
        found: dict[str | None, list[int]] = {}
        for stray in strays(self._known, self._among):
            found.setdefault(lease_of(stray), []).append(stray)
        return found


def kill_marked(marks: Container[str], known: Container[int] = ()) -> int:
    """SIGKILL every process with one of these marks, or known, and all below it; how many were found.

    A lock file stands for the marks of all task runners of its worker.
    """
    among = processes()
    among.pop(os.getpid(), None)
    found = descendants((pid for pid in among if pid in known or _is_marked(pid, marks)), among)
    send((process.pid for process in eldest_first(found, among)), signal.SIGKILL)
    return len(found)


def eldest_first(found: Iterable[int], among: dict[int, Process]) -> list[Process]:
    """In the order in which to kill: a shell whose child dies first goes on to its next command."""
    return sorted((among[pid] for pid in found), key=lambda process: (process.born, process.pid))


def send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def send_seen(seen: Iterable[Process], number: int) -> None:
    """To each that still lives; not to another that has its pid by now."""
    for process in seen:
        if _now(process) is not None:
            send([process.pid], number)


def _now(process: Process) -> Process | None:
    """As it is now; None if it is gone, also where another has its pid."""
    found = _process(process.pid)
    return found if found is not None and found.born == process.born else None


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def send_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def kill_strays(
    known: Iterable[int], sessions: Container[int] = (), marks: Container[str] = ()
) -> int:
    """SIGKILL every adopted orphan and all below it; returns how many were found.

    None in these sessions or with these marks. Orphans of those killed come to us in turn: call it again
    until it returns 0.
    """
    among = processes()
    guilty = [
        pid
        for pid in strays(known, among)
        if among[pid].session not in sessions and lease_of(pid) not in marks
    ]
    found = descendants(guilty, among)
    send_seen(eldest_first(found, among), signal.SIGKILL)
    return len(found)
