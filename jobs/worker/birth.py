"""The first moments of a process of a worker that is started afresh, with this file for a program.

Until it has closed itself every process of the same user may read its environment, so it is started
without the site's, and gets that over a socket, which nobody can open through /proc. Nothing but
Python's own library is imported before then: a package of the site may need its environment.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

_PR_SET_DUMPABLE = 4

GIVE_SECONDS = 5.0
"""An environment that is longer than a socket holds is taken within this time."""

_NEEDED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
_NEEDED_OF = ("PYTHON", "LC_", "LD_", "DYLD_", "MALLOC_", "GLIBC_")
_END = b"\0\0"


def conceal() -> None:
    """Close this process's memory, environment and descriptors to others of the same user.

    Nor does it leave a core file. Linux only; inherited by fork, ended by exec. Root sees all the same.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def program(what: Mapping[str, Any]) -> list[str]:
    """The arguments of a process that is to become this. Not `-m`, which would import our package."""
    told = {**what, "home": __name__.rpartition(".")[0]}
    return [sys.executable, "-P", __file__, json.dumps(told)]


def bare() -> dict[str, str]:
    """What an interpreter needs to start as this one did."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _NEEDED or name.startswith(_NEEDED_OF)
    }
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def give(sock: socket.socket, environment: Mapping[bytes, bytes]) -> None:
    """Send an environment to a child. One that is gone, or does not take it in time, is left to die."""
    pairs = [name + b"=" + value for name, value in environment.items()]
    sock.settimeout(GIVE_SECONDS)
    with suppress(OSError):
        sock.sendall(b"\0".join(pairs) + _END)


def _take(sock: socket.socket) -> None:
    """Replace this process's environment. Where it does not arrive whole the parent has died: so do we."""
    told = b""
    with sock:
        while not told.endswith(_END):
            piece = sock.recv(65_536)
            if not piece:
                sys.exit(1)
            told += piece
    pairs = (pair.partition(b"=") for pair in told.removesuffix(_END).split(b"\0"))
    os.environb.clear()
    os.environb.update({name: value for name, _, value in pairs if name})
    time.tzset()


def main() -> None:
    what = json.loads(sys.argv[1])
    if not what["dumpable"]:
        conceal()
    _take(socket.socket(fileno=what["environment"]))
    import_module(f"{what['home']}.child").be_born(what)


if __name__ == "__main__":
    main()
