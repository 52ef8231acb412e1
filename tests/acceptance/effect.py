"""A job whose runs can be told afterwards.

    python -IS effect.py LOG SECONDS [SECONDS_OF_LATER_ATTEMPTS [EXIT_CODE]]

It appends a line to LOG when it starts and one when it ends. While anything of it lives, its
child too, a lock says so: an attempt that finds an earlier one still alive appends `overlap`.
"""

import fcntl
import os
import sys
import time

log, first, later, code = [*sys.argv[1:], *("", "", "")][:4]
job, attempt = os.environ["QUEUECTL_JOB_ID"], os.environ["QUEUECTL_ATTEMPT"]
out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
guard = os.open(f"{log}.{job}", os.O_RDWR | os.O_CREAT, 0o600)


def tell(what: str) -> None:
    line = f"{what} {job} {attempt} {os.getpid()} {time.monotonic():.6f}\n"
    os.write(out, line.encode())


try:
    fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    tell("overlap")
os.set_inheritable(guard, True)
tell("start")
seconds = first if attempt == "1" else later or first
if float(seconds):
    child = os.posix_spawn("/bin/sleep", ["sleep", seconds], os.environ)
    os.waitpid(child, 0)
tell("end")
sys.exit(int(code or 0))
