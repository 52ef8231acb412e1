from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import timedelta
from pathlib import Path

from .. import clock, conf, dialect, operations, stats, validation
from ..exceptions import QueueCTLError
from ..models import StopMode, Worker
from ..validation import visible
from ..wording import age, count
from ..worker import detach, saying, supervisor
from . import door
from .arguments import add_json, span
from .printing import Printer

MOST_SLOTS = 4096


def build(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    starting = verbs.add_parser(
        "start", help="run jobs", description="Run jobs until told to stop."
    )
    starting.add_argument(
        "--count", type=_slots, default=1, metavar="N", help="jobs at once (default: 1)"
    )
    starting.add_argument(
        "-q",
        "--queue",
        action="append",
        default=[],
        metavar="QUEUE",
        help="serve these queues only",
    )
    starting.add_argument("--name", default="", help="what to call the worker")
    starting.add_argument(
        "--until-empty", action="store_true", help="end when nothing is left to run"
    )
    starting.add_argument("--detach", action="store_true", help="go on in the background")
    starting.add_argument("--log", metavar="FILE", help="with --detach: where its log goes")
    starting.set_defaults(verb=start)
    stopping = verbs.add_parser(
        "stop", help="stop workers", description="Stop workers, on any host."
    )
    stopping.add_argument("name", nargs="*", help="of a worker (default: all)")
    stopping.add_argument("--now", action="store_true", help="interrupt what runs")
    stopping.add_argument("--timeout", type=span, metavar="SPAN", help="wait no longer than this")
    stopping.add_argument("--no-wait", action="store_true", help="ask, and do not wait")
    stopping.set_defaults(verb=stop)
    listing = verbs.add_parser(
        "list", help="live workers", description="Live workers and what they run."
    )
    add_json(listing)
    listing.set_defaults(verb=list_workers, reads=True)


def _slots(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = MOST_SLOTS + 1
    if number > MOST_SLOTS or not text.lstrip("-").isdigit() or not text.isascii():
        raise ArgumentTypeError(
            f"{validation.shown(text)} is not a whole number from 1 to {MOST_SLOTS}"
        )
    return number


def start(options: Namespace, printer: Printer) -> int:
    if options.count < 1:
        raise QueueCTLError("Worker count must be at least 1")
    plan = supervisor.Plan(
        slots=options.count,
        queues=tuple(dict.fromkeys(validation.queue(name) for name in options.queue)),
        name=validation.worker_name(options.name) if options.name else "",
        until_empty=options.until_empty,
    )
    if options.log and not options.detach:
        raise QueueCTLError("--log goes with --detach", hint="in the foreground, redirect stderr")
    if options.detach:
        return _detach(plan, options.log, printer)
    with saying.waiting_for_nobody():
        said = Printer(saying.instead(printer.out), saying.instead(printer.err))
        return _run(plan, said)


def _run(plan: supervisor.Plan, printer: Printer) -> int:
    detach.warn_of_surroundings(plan, printer.narrate)

    def announce(name: str) -> None:
        printer.line(f"Started {plan.slots} worker(s)")
        printer.out.flush()
        if sys.stdin is not None and sys.stdin.isatty():
            printer.narrate("Ctrl-C stops it; what runs may finish first.")

    return supervisor.run(plan, announce)


def _detach(plan: supervisor.Plan, log: str | None, printer: Printer) -> int:
    started = detach.start(plan, Path(log) if log else None)
    printer.line(f"Started {plan.slots} worker(s)")
    printer.narrate(f"pid {started.pid}, log {started.log}; stop it with: queuectl worker stop")
    return door.DONE


def stop(options: Namespace, printer: Printer) -> int:
    mode = StopMode.NOW if options.now else StopMode.DRAIN
    # Before they are asked: an idle one has stopped a few milliseconds after.
    alive = {worker.id for worker in stats.live_workers(dialect.now())}
    asked = operations.stop_workers(door.actor(), names=options.name, mode=mode)
    unknown = _unknown(options.name, asked, printer)
    for worker in asked:
        if worker.id not in alive:
            printer.narrate(
                f"{visible(worker.name)} is dead; the next live worker takes over its jobs"
            )
    asked = [worker for worker in asked if worker.id in alive]
    if not asked:
        if not unknown:
            printer.line("No workers are running")
        return unknown
    printer.line("Stopping workers gracefully..." if not options.now else "Stopping workers now...")
    printer.out.flush()
    if options.no_wait:
        return unknown
    left = _wait_for_end(asked, options)
    if left:
        names = ", ".join(worker.name for worker in left)
        raise QueueCTLError(
            f"{count(len(left), 'worker')} did not stop in time: {names}",
            hint="interrupt what runs with: queuectl worker stop --now",
        )
    printer.line("All workers stopped")
    return unknown


def _unknown(names: list[str], asked: list[Worker], printer: Printer) -> int:
    """Say which names no worker has; the others are asked all the same."""
    known = {worker.name for worker in asked}
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    for name in unknown:
        door.complain(
            printer,
            f"No worker {validation.shown(name)} is running",
            "see those that are with: queuectl worker list",
            "not_found",
        )
    return door.REFUSED if unknown else door.DONE


def _wait_for_end(asked: list[Worker], options: Namespace) -> list[Worker]:
    settings = conf.get()
    grace = 0.0 if options.now else settings.GRACE_SECONDS
    patience = grace + settings.KILL_SECONDS + 5 if options.timeout is None else options.timeout
    until = clock.monotonic() + patience
    ids = [worker.id for worker in asked]
    while left := list(Worker.objects.live().filter(id__in=ids)):
        if clock.monotonic() > until:
            return left
        clock.pause(0.1)
    return []


def list_workers(options: Namespace, printer: Printer) -> int:
    now = dialect.now()
    workers = [stats.worker_object(worker, now) for worker in stats.live_workers(now)]
    if printer.as_json:
        printer.json(workers)
        return door.DONE
    if not workers:
        printer.line("No workers are running")
        return door.DONE
    columns = ["NAME", "HOST", "PID", "SLOTS", "QUEUES", "HEARTBEAT", "STATE", "RUNS"]
    rows = [
        (
            worker["name"],
            worker["host"],
            worker["pid"],
            f"{len(worker['jobs'])}/{worker['slots']}",
            ", ".join(worker["queues"]) or "all",
            f"{age(timedelta(seconds=worker['heartbeat_age_seconds']))} ago",
            "draining" if worker["draining"] else "live",
            ", ".join(worker["jobs"][:5]) or "-",
        )
        for worker in workers
    ]
    if printer.is_terminal:
        printer.table(columns, rows, stretch=["NAME", "RUNS"])
    else:
        printer.columns(columns, rows)
    return door.DONE
