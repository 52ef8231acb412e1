"""Something to look at: sample jobs, a worker with two slots, and the web server."""

from __future__ import annotations

import os
import secrets
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from .. import operations
from ..exceptions import QueueCTLError
from ..models import Job
from ..wording import count
from ..worker import detach
from ..worker.supervisor import Plan
from . import door, web
from .printing import Printer

USER, PASSWORD_FILE = "admin", ".admin_password"
HOST, PORT, SLOTS = "127.0.0.1", 5000, 2

COUNTING = 'for i in $(seq 1 30); do printf "\\033[36mstep %d of 30\\033[0m\\n" "$i"; sleep 1; done'
FLAKY = (
    'test "$QUEUECTL_ATTEMPT" -ge 3 || { echo "attempt $QUEUECTL_ATTEMPT: not yet" >&2; exit 75; }'
)
SAMPLES: tuple[dict[str, object], ...] = (
    {"id": "hello", "command": "echo Hello World"},
    {"id": "count-to-30", "command": COUNTING, "priority": 8},
    {"id": "disk-usage", "argv": ["df", "-h", "."]},
    {"id": "flaky", "command": FLAKY},
    {"id": "always-fails", "command": "echo 'no route to host' >&2; exit 7", "max_retries": 2},
    {"id": "no-such-program", "command": "no-such-command-xyz", "max_retries": 0},
    {"id": "too-slow", "command": "sleep 60", "timeout": 3, "max_retries": 0},
    {"id": "both-streams", "command": "echo to stdout; echo to stderr >&2"},
    {"id": "urgent", "command": "echo first in line", "priority": 100},
    {"id": "in-ten-minutes", "command": "echo ten minutes later", "delay": 600},
)
CHECKSUMS: tuple[dict[str, object], ...] = tuple(
    {"id": f"checksum-{n}", "command": f"seq {n}000 | cksum", "queue": "batch"}
    for n in range(1, 21)
)


def build(parser: ArgumentParser) -> None:
    parser.set_defaults(verb=run)


def run(options: Namespace, printer: Printer) -> int:
    _refuse_elsewhere()
    password = _admin()
    made = sum(r.created for r in operations.enqueue_many([*SAMPLES, *CHECKSUMS], door.actor()))
    port = web.free_port(HOST, PORT)
    printer.line(
        f"{count(made, 'sample job')} queued"
        if made
        else "The sample jobs are there already; none was added"
    )
    printer.line(f"A worker with {SLOTS} slots is starting")
    printer.out.flush()

    door.end_when_told()
    worker = detach.spawn(Plan(slots=SLOTS, name="demo"))
    try:
        with suppress(KeyboardInterrupt):
            detach.wait_until_ready(worker)
            web.serve(HOST, port, lambda: _invite(printer, port, password))
        printer.narrate(
            "\nStopping the worker; what runs may finish first. Ctrl-C again cuts it short."
        )
    finally:
        with suppress(KeyboardInterrupt):
            detach.end(worker)
        detach.end(worker)
    return door.DONE


def _refuse_elsewhere() -> None:
    if not settings.DEBUG:
        raise QueueCTLError(
            "The demo is for development only", hint="set DEBUG=on, or use: make demo"
        )
    keys = [str(sample["id"]) for sample in SAMPLES]
    if Job.objects.exists() and not Job.objects.filter(key__in=keys).exists():
        raise QueueCTLError(
            "This database holds other jobs already",
            hint="point DATABASE_URL at an empty one for the demo",
        )


def _admin() -> str:
    """The admin user's password: generated once, kept where only this user can read it."""
    from django.contrib.auth import get_user_model

    path = Path(getattr(settings, "BASE_DIR", ".")) / PASSWORD_FILE
    users = get_user_model()._default_manager
    user = users.filter(**{get_user_model().USERNAME_FIELD: USER}).first()
    if user is not None and path.exists():
        return path.read_text().strip()
    if user is not None:
        return "(as you set it)"
    password = secrets.token_urlsafe(12)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{password}\n")
    users.create_superuser(USER, "admin@example.org", password)
    return password


def _invite(printer: Printer, port: int, password: str) -> None:
    moved = "" if port == PORT else f"   (port {PORT} is taken)"
    for line in (
        "",
        "Try in another terminal:",
        "  .venv/bin/queuectl status",
        "  .venv/bin/queuectl job output count-to-30",
        "  .venv/bin/queuectl dlq retry always-fails",
        "Ctrl-C ends it all.",
        "",
        f"http://{HOST}:{port}/{moved}",
        f"user {USER}, password {password}",
    ):
        printer.line(line)
    printer.out.flush()
