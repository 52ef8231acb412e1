from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import datetime, timedelta
from typing import Any

from .. import dialect, operations, stats, validation
from ..exceptions import InvalidField
from ..models import Queue
from ..wording import age
from . import door
from .arguments import add_json, span
from .listing import tell_of_more
from .printing import Printer


def build(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = verbs.add_parser(
        "list", help="queues and what waits", description="Queues and what waits."
    )
    add_json(listing)
    listing.set_defaults(verb=list_queues, reads=True)
    pausing = verbs.add_parser(
        "pause", help="claim no job of it", description="Claim no job of a queue."
    )
    pausing.add_argument("name", help="a queue that has been used")
    pausing.add_argument("--reason", default="", help="why; shown wherever the queue is")
    pausing.add_argument("--until", metavar="WHEN", help="a time, or a span such as 2h")
    pausing.set_defaults(verb=pause)
    resuming = verbs.add_parser(
        "resume", help="claim its jobs again", description="Claim its jobs again."
    )
    resuming.add_argument("name", help="a paused queue")
    resuming.set_defaults(verb=resume)


def list_queues(options: Namespace, printer: Printer) -> int:
    snapshot = stats.snapshot(cap=stats.CAP)
    if printer.as_json:
        printer.json(stats.snapshot_object(snapshot)["queues"])
        return door.DONE
    if not snapshot.queues:
        printer.line("No queues have been used")
        return door.DONE
    shown = Queue.objects.filter(name__in=[queue.name for queue in snapshot.queues])
    paused = {queue.name: _pause(queue) for queue in shown if queue.is_paused(snapshot.at)}
    columns = ["QUEUE", "STATE", "PENDING", "PROCESSING", "FAILED", "DEAD", "OLDEST", "NOTE"]
    rows: list[list[Any]] = [
        [
            queue.name,
            "PAUSED" if queue.paused else "active",
            queue.pending,
            queue.processing,
            queue.failed,
            queue.dead,
            age(queue.oldest_pending),
            paused.get(queue.name, "" if queue.served else "no live worker serves it"),
        ]
        for queue in snapshot.queues
    ]
    if printer.is_terminal:
        printer.table(columns, rows, stretch=["NOTE"])
    else:
        printer.columns(columns, rows)
    tell_of_more(snapshot, printer)
    return door.DONE


def _pause(queue: Queue) -> str:
    reason = f": {queue.paused_reason}" if queue.paused_reason else ""
    until = f", until {stats.rfc3339(queue.paused_until)}" if queue.paused_until else ""
    return f"by {queue.paused_by}{reason}{until}"


def pause(options: Namespace, printer: Printer) -> int:
    queue = operations.pause(
        options.name,
        door.actor(),
        reason=options.reason,
        until=_until(options.until, dialect.now()),
    )
    until = f" until {stats.rfc3339(queue.paused_until)}" if queue.paused_until else ""
    printer.line(f"Queue '{queue.name}' paused{until}")
    return door.DONE


def _until(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    if text[:1].isdigit() and text[-1:] in "smhdw":
        try:
            return now + timedelta(seconds=span(text))
        except (ArgumentTypeError, OverflowError):
            message = f"Invalid until: {validation.shown(text)}"
            raise InvalidField(
                "until", message, hint="until takes a time, or a span such as 2h"
            ) from None
    return validation.moment("until", text)


def resume(options: Namespace, printer: Printer) -> int:
    queue = operations.resume(options.name, door.actor())
    printer.line(f"Queue '{queue.name}' resumed")
    return door.DONE
