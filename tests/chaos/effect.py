"""A job whose every run can be told afterwards, also one that was never reported.

    python -IS effect.py LOG SECONDS CODES [BYTES]

It appends `start` and `end` to LOG, each in one write, and ends with the code of its attempt.
While anything of it lives a lock says so: a run that finds an earlier one alive says `overlap`.
At SIGUSR1 it takes as much memory as it gets, at SIGUSR2 it forks as often as it may.
"""

import fcntl
import os
import signal
import sys
import time

log, seconds, codes, size = [*sys.argv[1:], "0"][:4]
key, attempt = os.environ["QUEUECTL_JOB_ID"], int(os.environ["QUEUECTL_ATTEMPT"])
who = f"{key} {attempt} {os.environ['QUEUECTL_LEASE']} {os.environ.get('CHAOS_WORKER', '-')}"
out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
guard = os.open(f"{log}.{key}", os.O_RDWR | os.O_CREAT, 0o600)


def tell(what: str) -> None:
    at = time.clock_gettime(time.CLOCK_BOOTTIME)
    os.write(out, f"{what} {who} {os.getpid()} {at:.6f}\n".encode())


def take_memory(*_: object) -> None:
    kept = []
    for _ in range(400):
        kept.append(bytearray(b"x" * 2**20))


def fork(*_: object) -> None:
    try:
        for _ in range(200):
            if os.fork() == 0:
                signal.signal(signal.SIGUSR2, signal.SIG_IGN)
                time.sleep(30)
                os._exit(0)
    except OSError:
        pass


signal.signal(signal.SIGUSR1, take_memory)
signal.signal(signal.SIGUSR2, fork)
try:
    fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    tell("overlap")
tell("start")
if int(size):
    unit = key.encode() + bytes(range(256))
    left = (unit * (int(size) // len(unit) + 1))[: int(size)]
    while left:  # a signal may come in between
        left = left[os.write(1, left) :]
if float(seconds):
    time.sleep(float(seconds))
tell("end")
of_attempts = codes.split(",")
sys.exit(int(of_attempts[min(attempt, len(of_attempts)) - 1]))
