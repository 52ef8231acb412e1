from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from datetime import datetime
from typing import Any

from .. import dialect, operations, stats
from ..exceptions import QueueCTLError
from ..models import Attempt, Job, Stream
from ..operations import Actor
from ..redaction import redacted
from ..states import JobState
from ..validation import visible
from ..wording import ICONS, count, when
from . import door
from .arguments import add_json, add_yes, whole
from .printing import Printer

ASK_ABOVE = 20
WIDE = 110
"""Columns of a terminal that has room for everything."""


def build(parser: ArgumentParser) -> None:
    add_verbs(parser.add_subparsers(title="commands", metavar="COMMAND", required=True))


def add_verbs(verbs: Any, *, listed: bool = True) -> None:
    """The verbs of one job. Unlisted they still work, without their group."""

    def add(
        name: str, text: str, verb: Callable[[Namespace, Printer], int], many: bool = True
    ) -> ArgumentParser:
        texts = {"help": text} if listed else {}
        parser: ArgumentParser = verbs.add_parser(
            name, description=text.capitalize() + ".", **texts
        )
        parser.add_argument(
            "id", nargs="+" if many else None, help="an id, or the beginning of one"
        )
        parser.set_defaults(verb=verb, reads=verb in (show, output))
        return parser

    add_json(add("show", "everything about a job and its attempts", show, many=False))
    output_parser = add(
        "output", "what a job printed, or a task returned or raised", output, many=False
    )
    output_parser.add_argument("--stdout", action="store_true", help="standard output only")
    output_parser.add_argument("--stderr", action="store_true", help="standard error only")
    output_parser.add_argument(
        "--attempt", type=whole, metavar="N", help="of attempt N (default: the last)"
    )
    output_parser.add_argument("--raw", action="store_true", help="the stored bytes as they are")
    add("retry", "bring dead jobs back", retry)
    add("cancel", "stop jobs: waiting ones at once, running ones are killed", cancel)
    add("run-now", "start scheduled or failed jobs now", run_now)
    add_yes(add("discard", "delete jobs that are not running", discard))


def retry(options: Namespace, printer: Printer) -> int:
    return each(options.id, operations.retry, "Job '{}' moved back to queue for retry", printer)


def run_now(options: Namespace, printer: Printer) -> int:
    return each(options.id, operations.run_now, "Job '{}' runs now", printer)


def cancel(options: Namespace, printer: Printer) -> int:
    def stop(job: Job, actor: Actor) -> None:
        after, key = operations.cancel(job, actor), visible(job.key)
        if after.state == JobState.CANCELLED:
            printer.line(f"Job '{key}' cancelled")
        else:
            printer.line(f"Job '{key}' is running; its worker has been asked to stop it")

    return each(options.id, stop, "", printer)


def discard(options: Namespace, printer: Printer) -> int:
    confirm(len(options.id), "discard", options)
    return each(options.id, operations.discard, "Job '{}' discarded", printer)


def each(ids: list[str], do: Callable[[Job, Actor], Any], said: str, printer: Printer) -> int:
    """Do it for every id; what is refused is said, and the rest is done all the same."""
    refused = 0
    for text in dict.fromkeys(ids):
        try:
            job = operations.find(text)
            do(job, door.actor())
        except QueueCTLError as error:
            door.complain(printer, str(error), error.hint, error.code)
            refused += 1
            continue
        if said:
            printer.line(said.format(visible(job.key)))
    return door.REFUSED if refused else door.DONE


def confirm(number: int, action: str, options: Namespace) -> None:
    """Ask before many are changed. Raises QueueCTLError when the answer is no, or nobody can answer."""
    if number <= ASK_ABOVE or options.yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise QueueCTLError(
            f"This would {action} {count(number, 'job')}", hint="confirm with --yes"
        )
    try:
        answer = input(f"{action.capitalize()} {count(number, 'job')}? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise QueueCTLError("Nothing was changed")


def output(options: Namespace, printer: Printer) -> int:
    job = operations.find(options.id)
    if options.stdout and options.stderr:
        raise QueueCTLError("Cannot use --stdout and --stderr together")
    number = _attempt(job, options.attempt)
    wanted = (
        [Stream.STDOUT] if options.stdout else [Stream.STDERR] if options.stderr else list(Stream)
    )
    found = {stream: stats.output(job, number, stream) for stream in wanted}
    if options.raw:
        for chunks in found.values():
            for _, data in chunks:
                sys.stdout.buffer.write(data)
        return door.DONE
    if len(wanted) == 1:
        if not found[wanted[0]]:
            printer.line(f"(no {wanted[0].name.lower()} output)")
        _print_stream(found[wanted[0]], printer)
        return door.DONE
    last = Attempt.objects.filter(job=job, number=number).first()
    left = stats.left_by_task(job, last) if last else []
    if not (any(found.values()) or left):
        printer.line("(no output available)")
    for index, stream in enumerate(stream for stream in wanted if found[stream]):
        printer.line(("\n" if index else "") + f"=== {stream.name} ===")
        _print_stream(found[stream], printer)
    for index, (name, text) in enumerate(left):
        printer.line(("\n" if index else "") + f"=== {name.upper()} ===")
        _print_stream([(0, text.encode("utf-8", "replace"))], printer)
    return door.DONE


def _attempt(job: Job, asked: int | None) -> int:
    if asked is None:
        return job.runs
    if not 1 <= asked <= job.runs:
        raise QueueCTLError(
            f"Job '{job.key}' has no attempt {asked}",
            hint=f"it has had {count(job.runs, 'attempt')}; see: queuectl job show {shlex.quote(job.key)}",
        )
    return asked


def _print_stream(chunks: list[tuple[int, bytes]], printer: Printer) -> None:
    at, last = 0, b"\n"
    for offset, data in chunks:
        if offset > at:
            printer.line(
                ("" if last.endswith(b"\n") else "\n") + f"[… {offset - at:,} bytes left out …]"
            )
        printer.text(data)
        at, last = offset + len(data), data
    if not last.endswith(b"\n"):
        printer.line()


def show(options: Namespace, printer: Printer) -> int:
    job, now = operations.find(options.id), dialect.now()
    attempts = stats.attempts(job)
    if printer.as_json:
        last = attempts[-1] if attempts else None
        printer.json(
            {
                **stats.job_object(job, last),
                "result": stats.returned(job),
                "history": [stats.attempt_object(a) for a in attempts],
            }
        )
        return door.DONE
    mark = f"{ICONS[JobState(job.state)]} " if printer.is_terminal else ""
    facts: list[tuple[str, Any]] = [
        ("Job", job.key),
        ("State", f"{mark}{job.state}" + (f" ({detail})" if (detail := when(job, now)) else "")),
        ("Command", redacted(job.title)),
        ("Queue", f"{job.queue}, priority {job.rank}"),
        ("Retries", job.retries),
        ("Enqueued", f"{stats.rfc3339(job.created_at)} by {job.enqueued_by or 'unknown'}"),
        ("Run at", stats.rfc3339(job.run_at)),
        (
            "Due",
            stats.rfc3339(job.due_at)
            if job.state in (JobState.SCHEDULED, JobState.FAILED)
            else None,
        ),
        ("Started", stats.rfc3339(job.started_at)),
        ("Finished", stats.rfc3339(job.finished_at)),
        ("Timeout", job.time_limit),
        ("Directory", job.cwd),
        ("Variables", ", ".join(job.variables)),
        ("Unique key", job.unique_key),
        ("Cancel", "asked for" if job.cancel_requested_at and not job.is_final else None),
        ("Error", job.last_error),
    ]
    for name, value in facts:
        if value:
            printer.line(f"{name + ':':<12}{visible(str(value))}")
    if attempts:
        printer.line()
        _attempts(attempts, printer, now)
    return door.DONE


def _attempts(attempts: list[Attempt], printer: Printer, now: datetime) -> None:
    columns = ["#", "OUTCOME", "STARTED", "RAN", "EXIT", "CPU", "MEMORY", "ERROR"]
    rows = [_attempt_row(attempt) for attempt in attempts]
    if not printer.is_terminal:
        return printer.columns(columns, rows)
    if printer.width < WIDE:
        keep = [index for index, name in enumerate(columns) if name not in ("CPU", "MEMORY")]
        columns, rows = [columns[i] for i in keep], [[row[i] for i in keep] for row in rows]
    printer.table(columns, rows, stretch=["ERROR"])


def _attempt_row(a: Attempt) -> list[Any]:
    exit_text = "-" if a.exit_code is None else str(a.exit_code)
    if a.signal is not None:
        from ..execution.shell import signal_name

        exit_text = signal_name(a.signal)
    return [
        a.number,
        a.outcome,
        f"{a.started_at:%Y-%m-%d %H:%M:%S}" if a.started_at else "-",
        "-" if a.seconds is None else f"{a.seconds:.3f}s",
        exit_text,
        "-" if a.cpu_seconds is None else f"{a.cpu_seconds:.3f}s",
        "-" if a.peak_memory_bytes is None else f"{a.peak_memory_bytes / 1_048_576:.0f} MB",
        a.error or "-",
    ]
