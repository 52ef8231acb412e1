"""One command from its start to its outcome. The only room that spawns what a job asks for."""

from __future__ import annotations

import errno
import logging
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from resource import struct_rusage

from ..masks import Patterns
from ..outcome import Kind, Obstacle, Outcome
from ..work import Work
from . import confine, environment, masking, processes
from .output import Capture

logger = logging.getLogger(__name__)

LINGER_SECONDS = 2.0
"""What a command leaves behind when it exits may hold its pipes, or finish, this long."""

FRESH_SECONDS = 0.1
"""So long the number of a process that has ended is nobody else's: to go through all others takes longer."""

READ_BYTES, PIPE_BYTES = 65_536, 1_048_576
"""Taken at once; the most a pipe may hold."""

# Python ignores SIGPIPE, a runner handles others, and who started the worker may have ignored some, as
# a shell without job control does for what it starts with `&`. A command gets the defaults.
_DEFAULTED = [
    number
    for number in signal.valid_signals()
    if number < 32 and number not in (signal.SIGKILL, signal.SIGSTOP)
]
_GO_ONLY = getattr(os, "O_PATH", os.O_RDONLY)
_SHORT = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class NotStarted(Exception):
    """The command could not be started; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every command of a runner."""

    shell: str
    base_env: Mapping[str, str]
    output_limit: int
    kill_seconds: float
    confinements: confine.Confinements | None = None
    masks: Patterns = ()


def start(work: Work, rules: Rules, now: float) -> Command:
    """Start a command in a session of its own, stdin from /dev/null. Raises NotStarted."""
    pipes: list[int] = []
    try:
        confined = rules.confinements and rules.confinements.of(work.queue)
        base = {**rules.base_env, **confined.environment} if confined else rules.base_env
        env = environment.of(work, base)
        argv = [rules.shell, "-c", work.command or ""] if work.argv is None else list(work.argv)
        for _ in range(2):
            pipes += os.pipe()
        hearing = None
        if confined:
            pid, hearing = confine.spawn(
                confined, work.cwd, argv[0], argv, env,
                stdout=pipes[1], stderr=pipes[3], defaulted=_DEFAULTED,
            )  # fmt: skip
        else:
            program = environment.program(argv[0], env.get("PATH", os.defpath))
            pid = _spawn(work.cwd, program, argv, env, pipes[1], pipes[3])
    except (OSError, ValueError, LookupError) as error:
        for fd in pipes:
            os.close(fd)
        raise NotStarted(_not_started(work, error, rules.masks)) from None
    os.close(pipes[1])
    os.close(pipes[3])
    return Command(work, pid, pipes[0], pipes[2], rules, now, hearing)


def _spawn(
    cwd: str, program: str, argv: list[str], env: dict[str, str], stdout: int, stderr: int
) -> int:
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, stdout, 1),
        (os.POSIX_SPAWN_DUP2, stderr, 2),
    ]
    home = None
    if cwd:
        # posix_spawn takes no directory. A runner has one thread, so it can go there itself and come back,
        # also to one that it may not list.
        home = os.open(".", _GO_ONLY)
    try:
        if cwd:
            os.chdir(cwd)
        return os.posix_spawn(
            program,
            argv,
            env,
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=_DEFAULTED,
        )
    finally:
        if home is not None:
            os.fchdir(home)
            os.close(home)


def _not_started(work: Work, error: Exception, masks: Patterns) -> Outcome:
    said, obstacle = str(error), None
    if isinstance(error, OSError):
        what = error.filename if isinstance(error.filename, str) else (work.argv or [""])[0]
        said = os.strerror(error.errno) if error.errno else str(error)
        if error.errno == errno.ENOENT and error.strerror:
            said = error.strerror
        said += f": {what}" if what else ""
        obstacle = Obstacle.SHORT if error.errno in _SHORT else None
    said = masking.text(f"Could not start: {said}", masks)
    return Outcome(kind=Kind.NOT_STARTED, error=said, obstacle=obstacle)


class Command:
    """A command that has been started: its process, its two streams, its deadlines.

    The runner feeds it events (`read`, `exited`, `stop`, `tick`) until `finished` is true, and
    then takes its `outcome`. Times are seconds of `clock.monotonic`.
    """

    def __init__(
        self, work: Work, pid: int, stdout: int, stderr: int, rules: Rules, now: float,
        hearing: int | None = None,
    ) -> None:  # fmt: skip
        self.work, self.pid, self.started = work, pid, now
        self._masks = rules.masks
        margin = masking.MARGIN_BYTES if rules.masks else 0
        self.streams = {fd: Capture(rules.output_limit, margin) for fd in (stdout, stderr)}
        self._captures = tuple(self.streams.values())
        self._kill_seconds = rules.kill_seconds
        self._term_at = now + work.timeout if work.timeout else None
        self._ended_by: Kind | None = None
        self._reason = Kind.TIMED_OUT
        self._kill_at: float | None = None
        self._patience_ends: float | None = None
        """When what cannot be killed is waited for no longer."""

        self._hearing = hearing
        self._refusal: OSError | None = None
        """Where to hear why it never ran, and what was heard."""

        self._status: int | None = None
        self._usage: struct_rusage | None = None
        self._ended: float | None = None
        self.finished = self.watched = False
        """`watched`: whether its runner waits for what its streams say."""

        for fd in self.streams:
            os.set_blocking(fd, False)

    def __repr__(self) -> str:
        return f"<Command {self.work.key} #{self.work.number} pid {self.pid}>"

    # What happens to it

    def read(self, fd: int) -> bool:
        """Take what a stream has to give, one piece; False once it has ended and is closed."""
        with suppress(BlockingIOError):
            if not self._take(fd):
                self.close(fd)
                return False
        return True

    def drain(self) -> None:
        """Take what the streams have to give by now, up to what a pipe holds; close those that have ended."""
        for fd in list(self.streams):
            for _ in range(PIPE_BYTES // READ_BYTES):
                with suppress(BlockingIOError):
                    if self._take(fd):
                        continue
                    self.close(fd)
                break

    def close(self, fd: int) -> None:
        del self.streams[fd]
        os.close(fd)

    def exited(self, status: int, usage: struct_rusage, now: float) -> None:
        """Its main process is gone; what it left behind has a little longer."""
        self._status, self._usage, self._ended = os.waitstatus_to_exitcode(status), usage, now
        if self._kill_at is None:
            self._kill_at = now + LINGER_SECONDS
        if self._hearing is not None:
            self._refusal, self._hearing = confine.refusal(self._hearing), None

    def stop(self, reason: Kind, now: float, grace: float = 0.0) -> None:
        """End it after `grace` seconds by SIGTERM and then SIGKILL; the first reason to act counts."""
        if self._ended_by is None and (self._term_at is None or now + grace < self._term_at):
            self._term_at, self._reason = now + grace, reason

    # What it does about it

    def deadline(self) -> float | None:
        """When `tick` next has something to do."""
        return self._term_at if self._is_running() else self._kill_at

    def _is_running(self) -> bool:
        """Its main process lives, and nobody has begun to end it."""
        return self._ended is None and self._ended_by is None

    def tick(self, now: float, look: processes.Look) -> None:
        """Enforce what is due: SIGTERM to the whole family, SIGKILL to what is left of it.

        `look`: one that nobody asked before all that has happened to the command was told.
        """
        if self._is_running() and self._term_at is not None and now >= self._term_at:
            self._ended_by, self._kill_at = self._reason, now + self._kill_seconds
            look.send(self.pid, self.work.lease, signal.SIGTERM)
        if self._kill_at is not None and now >= self._kill_at:
            left = self.kill(look)
            # Killed is not gone: a process that was forking meanwhile is found by the next look.
            self._kill_at = now + 0.05
            self._patience_ends = self._patience_ends or now + self._kill_seconds + 1
            if self._ended is not None and (not left or now >= self._patience_ends):
                if left:
                    # Not ours to kill, as a setuid program's, or inside an uninterruptible call.
                    logger.error("what a command left cannot be killed: %s", sorted(left))
                self._finish(now, look)
        elif self._ended is not None and self._may_finish(look):
            self._finish(now, look)

    def kill(self, look: processes.Look) -> set[int]:
        """SIGKILL to the whole family at once; returns it."""
        return look.send(self.pid, self.work.lease, signal.SIGKILL, self._ended)

    def _may_finish(self, look: processes.Look) -> bool:
        """Nothing is left to wait for: both streams have ended, and so has what must not outlive it.

        What a successful command left behind without holding its streams does not delay its
        outcome; after a failure a retry follows, and must not meet it.
        """
        if self.streams:
            return False
        if self._ended_by is not None:
            return not look.family(self.pid, self.work.lease, self._ended)
        return self._status == 0 or not processes.group_lives(self.pid)

    def _finish(self, now: float, look: processes.Look) -> None:
        self.drain()
        for fd in list(self.streams):
            self.close(fd)
        if self._ended is None or now < self._ended + FRESH_SECONDS:
            processes.send_group(self.pid, signal.SIGKILL)
        elif processes.group_lives(self.pid):  # ours, or another's by now
            self.kill(look)
        self.finished = True

    def _take(self, fd: int) -> bool:
        """Move one piece from a stream to its capture; False at its end. Raises BlockingIOError: not yet."""
        piece = os.read(fd, READ_BYTES)
        if piece:
            self.streams[fd].add(piece)
        return bool(piece)

    # What came of it

    def outcome(self) -> Outcome:
        """The evidence, once it has finished."""
        code = self._status
        assert code is not None and self._usage is not None
        if self._refusal and self._ended_by is None:
            return _not_started(self.work, self._refusal, self._masks)
        stdout, stderr = (masking.stream(capture, self._masks) for capture in self._captures)
        kind = self._ended_by or (Kind.SUCCEEDED if code == 0 else Kind.FAILED)
        return Outcome(
            kind=kind,
            error=self._sentence(kind, code, _last_line(stderr.tail or stderr.head)),
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            started=self.started,
            ended=self._ended,
            cpu_seconds=self._usage.ru_utime + self._usage.ru_stime,
            peak_memory_bytes=_peak_memory(self._usage),
            stdout=stdout,
            stderr=stderr,
        )

    def _sentence(self, kind: Kind, code: int, said: str) -> str:
        match kind:
            case Kind.SUCCEEDED:
                return ""
            case Kind.TIMED_OUT:
                return f"Job timed out after {self.work.timeout:g} seconds"
            case Kind.CANCELLED:
                return "Cancelled while it ran"
            case Kind.INTERRUPTED:
                return "Interrupted: its worker had to stop it"
        how = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal_name(-code)})"
        return f"{said} ({how})" if said else f"Command failed with {how}"


def _peak_memory(usage: struct_rusage) -> int | None:
    """Bytes; None where it was no more than this process has itself.

    A spawned process begins with its parent's memory, so wait4 cannot tell less than that.
    """
    peak = usage.ru_maxrss * processes.RSS_UNIT
    return peak if processes.above_own_peak(peak) else None


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def _last_line(stream: bytes, limit: int = 300) -> str:
    lines = stream[-4096:].decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip()[:limit] if lines else ""
