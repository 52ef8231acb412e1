"""Starting a command with fewer rights than its worker has: another user, limits, niceness.

posix_spawn can do none of this, so such a command is started by fork and exec. The child has one
thread and does little; what it cannot do it tells its parent, and never runs the command then. Its parent
waits for nothing of this: another process of the new user may stop the child at any moment.
"""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import pwd
import resource
import signal
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from .. import confinement
from ..confinement import Confinement
from . import environment

_PR_SET_NO_NEW_PRIVS = 38
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIMITS = {
    "processes": "RLIMIT_NPROC",
    "open_files": "RLIMIT_NOFILE",
    "file_bytes": "RLIMIT_FSIZE",
    "cpu_seconds": "RLIMIT_CPU",
    "core_bytes": "RLIMIT_CORE",
}


@dataclass(frozen=True)
class Person:
    """A user that commands run as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def is_this_process(self) -> bool:
        return (self.uid, self.gid) == (os.geteuid(), os.getegid())


@dataclass(frozen=True)
class Confined:
    """What holds for the commands of a queue, with its user looked up."""

    rules: Confinement
    person: Person | None

    @property
    def environment(self) -> dict[str, str]:
        """What of a command's environment follows its user."""
        if self.person is None:
            return {}
        name = self.person.name
        return {"HOME": self.person.home, "USER": name, "LOGNAME": name}


class Confinements:
    """What holds for each queue. A user is looked up once; one that is not there, every time."""

    def __init__(self, given: confinement.Given) -> None:
        self._given = given
        self._found: dict[str, Confined | None] = {}

    def of(self, queue: str) -> Confined | None:
        """Raises LookupError for a user or group that this host does not know."""
        name = queue if queue in self._given else confinement.EVERY
        if name not in self._found:
            rules = confinement.of(name, self._given)
            self._found[name] = None if rules is None else Confined(rules, person(rules))
        return self._found[name]


def person(rules: Confinement) -> Person | None:
    """The user that rules ask for; None where they do not. Raises LookupError."""
    user, group = rules.user, rules.group
    if user is None:
        return None
    entry = _entry(user)
    if entry is None:
        if group is None:
            raise LookupError(f"user {user} has no name here, so its group must be given")
        gid = _gid(group)
        return Person(str(user), int(user), gid, (gid,), "/")
    gid = entry.pw_gid if group is None else _gid(group)
    groups = tuple(os.getgrouplist(entry.pw_name, gid))
    return Person(entry.pw_name, entry.pw_uid, gid, groups, entry.pw_dir or "/")


def _entry(user: str | int) -> pwd.struct_passwd | None:
    """None for a number without a name."""
    try:
        return pwd.getpwnam(user) if isinstance(user, str) else pwd.getpwuid(user)
    except (KeyError, ValueError):  # of a name with a NUL in it
        if isinstance(user, int):
            return None
        raise LookupError(f"no such user: {user}") from None


def _gid(group: str | int) -> int:
    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise LookupError(f"no such group: {group}") from None


def unknown(given: confinement.Given, queues: Iterable[str] = ()) -> list[str]:
    """For which of these queues, or of all, this host lacks the user or group; a sentence each."""
    return [said for queue in queues or given if isinstance(said := _user_of(queue, given), str)]


def forbidden(given: confinement.Given, queues: Iterable[str] = ()) -> list[str]:
    """Commands of which of these queues, or of all, this process may not start; a sentence each."""
    if os.geteuid() == 0:
        return []
    found = [(queue, _user_of(queue, given)) for queue in queues or given]
    return [
        f"commands of queue {queue!r} shall run as {who.name!r}, which takes a worker started by root"
        for queue, who in found
        if isinstance(who, Person) and not who.is_this_process
    ]


def _user_of(queue: str, given: confinement.Given) -> Person | str | None:
    """The user of a queue's commands, or why there is none."""
    try:
        confined = Confinements(given).of(queue)
    except LookupError as error:
        return f"commands of queue {queue!r} cannot start: {error}"
    return confined.person if confined else None


def unconfined(given: confinement.Given, queues: Iterable[str] = ()) -> bool:
    """Whether commands of some of these queues, or of any, keep the worker's own user."""
    asked = list(queues) or [confinement.EVERY, *given]
    rules = [confinement.of(queue, given) for queue in asked]
    return any(found is None or found.user is None for found in rules)


def spawn(
    confined: Confined, cwd: str, program: str, argv: Sequence[str], env: Mapping[str, str],
    *, stdout: int, stderr: int, defaulted: Collection[int],
) -> tuple[int, int]:  # fmt: skip
    """Start a command in a session of its own under these rules; returns its pid, and a descriptor for
    `refusal`. Raises OSError where there is no process to be had.
    """
    # Whatever takes memory is made before the fork: a limit of memory holds for the child too.
    strings = _array(argv), _array([f"{name}={value}" for name, value in env.items()])
    search, runner = env.get("PATH", os.defpath), os.getpid()
    reading, writing = os.pipe()
    # What the child is sent before it hears signals as a command does has to wait.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, defaulted)
    try:
        pid = os.fork()
        if pid == 0:
            _become(
                confined, cwd, program, search, strings, runner, writing, stdout, stderr, defaulted
            )
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid, reading


def refusal(reading: int) -> OSError | None:
    """Why a process that has ended never became the command, its file name what could not be done; None if
    it did, or was killed on the way. Closes the descriptor.
    """
    with open(reading, "rb") as file:
        said = file.read()
    if not said:
        return None
    number, why, step = said.decode("utf-8", "surrogateescape").split("\0", 2)
    return OSError(int(number), why or os.strerror(int(number)), step)


def _array(words: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    """A vector for execve. Raises ValueError for a NUL, which would cut a word short."""
    encoded = [os.fsencode(word) for word in words]
    if any(b"\0" in word for word in encoded):
        raise ValueError("embedded null byte")
    return (ctypes.c_char_p * (len(encoded) + 1))(*encoded, None)


def _become(
    confined: Confined, cwd: str, program: str, search: str, strings: tuple[object, object],
    runner: int, telling: int, stdout: int, stderr: int, defaulted: Iterable[int],
) -> NoReturn:  # fmt: skip
    """The child, between fork and exec. Each step names itself before it is taken."""
    step = ""
    try:
        os.setsid()
        for number in defaulted:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        _close_but(telling)
        for coming in _confine(confined, cwd):
            step = coming
        step = program
        found = environment.program(program, search)
        path, memory = os.fsencode(found), confined.rules.memory_bytes
        if memory is not None:
            step = f"memory_bytes {memory}"
            _limit(resource.RLIMIT_AS, memory)
        step = found
        if os.getppid() != runner:  # its job is given up, or will be
            os._exit(127)
        _LIBC.execve(path, *strings)
        raise OSError(ctypes.get_errno(), "")
    except BaseException as error:
        number = getattr(error, "errno", None) or errno.EINVAL
        why = getattr(error, "strerror", None) or ""
        # No more than there is room for: nobody reads before this process has ended.
        os.write(telling, f"{number}\0{why}\0{step[:4096]}".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(127)


def _close_but(telling: int) -> None:
    """While the child is stopped, nobody is to take it for its worker, by the lock or a socket."""
    for name in os.listdir("/dev/fd"):
        if int(name) > 2 and int(name) != telling:
            with suppress(OSError):  # the listing's own is closed by now
                os.close(int(name))


def _confine(confined: Confined, cwd: str) -> Iterable[str]:
    """Give up rights one after the other; yields what comes next. Raises OSError."""
    rules, who = confined.rules, confined.person
    if rules.nice is not None:
        yield f"nice {rules.nice}"
        _be_nice(rules.nice)
    if rules.umask is not None:
        os.umask(rules.umask)
    # Before the user changes: the kernel looks then whether it has too many processes already.
    for name, number in _LIMITS.items():
        if (value := getattr(rules, name)) is not None:
            yield f"{name} {value}"
            _limit(getattr(resource, number), value)
    if who and not who.is_this_process:
        yield f"user {who.name}"
        _switch(who)
    yield cwd
    _enter(cwd, who)
    if rules.no_new_privs:
        yield "no_new_privs"
        _give_up_new_privileges()


def _be_nice(wanted: int) -> None:
    """A worker that is nicer already stays so, unless root asks."""
    if os.geteuid() != 0:
        wanted = max(wanted, os.getpriority(os.PRIO_PROCESS, 0))
    os.setpriority(os.PRIO_PROCESS, 0, wanted)


def _limit(number: int, value: int) -> None:
    """Soft and hard limit; one that is lower already stays."""
    hard = resource.getrlimit(number)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(number, (value, value))


def _switch(who: Person) -> None:
    for fd in (1, 2):
        os.fchown(fd, who.uid, who.gid)  # or /dev/stdout and /dev/stderr could not be opened
    os.setgroups(who.groups)
    os.setgid(who.gid)
    os.setuid(who.uid)


def _enter(cwd: str, who: Person | None) -> None:
    """The directory asked for; else the user's home, or the root where there is none it may enter."""
    if cwd or who is None:
        os.chdir(cwd or ".")
        return
    try:
        os.chdir(who.home)
    except OSError:
        os.chdir("/")


def _give_up_new_privileges() -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, "")
    if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "")
