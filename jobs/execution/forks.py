"""What a task forked and that comes back from the task: it ends there, as any forked Python would."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from traceback import print_exception


def end_if_forked(home: int, raised: BaseException | None = None) -> None:
    """Return in the process `home`; end any other, which has a copy of all that is home's to do.

    Its exit code is 0, that of a SystemExit, or 1 after any other exception, told on stderr. What
    was registered with `atexit` is home's too.
    """
    if os.getpid() == home:
        return
    code = 1
    try:
        code = _exit_code(raised)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
    finally:
        os._exit(code)


def _exit_code(raised: BaseException | None) -> int:
    if raised is None:
        return 0
    if not isinstance(raised, SystemExit):
        print_exception(raised)
        return 1
    if raised.code is None or isinstance(raised.code, int):
        return (raised.code or 0) & 0xFF
    sys.stderr.write(f"{raised.code}\n")
    return 1
