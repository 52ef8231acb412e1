"""Starting the processes of a worker: by fork, or afresh where a fork would not be clean.

A fork is clean while the process has one thread and no database connection. A host whose
`ready()` made some gets fresh interpreters instead, see `birth`.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, NoReturn

from .. import conf, dialect
from ..execution import deaf, processes
from . import birth, saying

logger = logging.getLogger(__name__)


def start_runner(
    index: int, slots: int, sock: socket.socket, *, page: int, lock: int,
    close: Sequence[socket.socket],
) -> int:  # fmt: skip
    """Start a command runner at the end of a socket; returns its pid."""
    what = {"role": "runner", "index": index, "slots": slots, "page": page}
    return _start(what, [sock], lock, close)


def start_task_runner(
    index: int, sock: socket.socket, *, page: int, bell: int, worker: str, lock_path: str, lock: int,
    close: Sequence[socket.socket],
) -> int:  # fmt: skip
    """Start a task runner at the end of a socket; returns its pid."""
    what = {
        "role": "tasks",
        "index": index,
        "page": page,
        "bell": bell,
        "worker": worker,
        "lock_path": lock_path,
        "lock": lock,
    }
    return _start({**what, "supervisor": os.getpid()}, [sock], lock, close)


def start_ledger(
    options: Any, control: socket.socket, runners: Sequence[socket.socket], *, page: int, lock: int,
    close: Sequence[socket.socket],
) -> int:  # fmt: skip
    """Start a ledger process; returns its pid."""
    what = {"role": "ledger", "options": asdict(options), "page": page}
    return _start(what, [control, *runners], lock, close)


def _start(
    what: dict[str, Any], sockets: list[socket.socket], lock: int, close: Sequence[socket.socket]
) -> int:
    if threading.active_count() == 1 and not dialect.in_use() and sys.platform == "linux":
        return _fork(what, sockets, close)
    shared = [what[name] for name in ("page", "bell") if name in what]
    return _spawn(what, [sock.fileno() for sock in sockets], [*shared, lock], lock)


def _fork(
    what: dict[str, Any], sockets: list[socket.socket], close: Sequence[socket.socket]
) -> int:
    for stream in (sys.stdout, sys.stderr):
        # Whoever read it may be gone, or its disk full: a process is needed all the same.
        with suppress(OSError, ValueError):
            stream.flush()
    pid = os.fork()
    if pid == 0:
        # An end of a socket left open here would hide the death of whoever is at the other.
        for sock in close:
            sock.close()
        _run(what, sockets)
    return pid


def _spawn(what: dict[str, Any], fds: list[int], others: list[int], lock: int) -> int:
    near, far = socket.socketpair()
    with near, far:
        passed = [*fds, *others, far.fileno()]
        told = {
            **what, "fds": fds, "lock": lock, "environment": far.fileno(),
            "dumpable": conf.get().DUMPABLE,
        }  # fmt: skip
        for fd in passed:
            os.set_inheritable(fd, True)
        try:
            pid = os.posix_spawn(sys.executable, birth.program(told), birth.bare())
        finally:
            for fd in passed:
                os.set_inheritable(fd, False)
        far.close()
        birth.give(near, os.environb)
    return pid


def _run(what: dict[str, Any], sockets: list[socket.socket]) -> NoReturn:
    """The life of a child. It hears of the end from its sockets, not from signals to a group."""
    code = 1
    try:
        os.setsid()
        if not conf.get().DUMPABLE:
            birth.conceal()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if what["role"] == "tasks":
            deaf.be_deaf()
            saying.wait_again()
        else:
            saying.wait_for_nobody()
            for number in deaf.USUAL:
                signal.signal(number, signal.SIG_IGN)
        code = _live(what, sockets)
    except BaseException:
        logger.exception("the %s process of a worker failed", what["role"])
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


def _live(what: dict[str, Any], sockets: list[socket.socket]) -> int:
    from . import ledger_process, runner, task_runner, turns
    from .page import Page

    page = Page(what["page"])
    if what["role"] == "runner":
        return runner.main(sockets[0], what["slots"], page.sign(what["index"]))
    if what["role"] == "tasks":
        # For what a task starts.
        os.environ[processes.MARK] = processes.mark_of(what["lock_path"], os.getpid())
        names = ("worker", "supervisor", "bell", "lock")
        return task_runner.main(sockets[0], what["index"], page, *(what[name] for name in names))
    return ledger_process.main(sockets[0], sockets[1:], page, turns.Options(**what["options"]))


def be_born(what: dict[str, Any]) -> None:
    """The life of a child that was started afresh."""
    import django

    for name in ("lock", "page", "bell"):
        if name in what:
            os.set_inheritable(what[name], False)
    sockets = [socket.socket(fileno=fd) for fd in what["fds"]]
    for sock in sockets:
        sock.set_inheritable(False)
    django.setup()
    dialect.close()
    _run(what, sockets)
