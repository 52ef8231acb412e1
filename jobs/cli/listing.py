from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .. import __version__, dialect, stats
from ..models import Job
from ..redaction import redacted
from ..states import JobState
from ..stats import Snapshot
from ..validation import visible
from ..wording import age, count, when
from .arguments import add_json, positive
from .printing import Printer, as_json, state

EXACT = 1_000_000
"""A person at a shell waits a quarter of a second for an exact count of this many."""

ATTENTION = 5
NEWEST = 50


def build_status(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="exit 5 when something needs attention"
    )
    add_json(parser)
    parser.set_defaults(verb=status, reads=True)


def build_list(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--state", choices=list(JobState), metavar="STATE", help=f"one of {', '.join(JobState)}"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="the newest N (a terminal: 50)")
    parser.add_argument("--all", action="store_true", help="all, on a terminal too")
    add_json(parser)
    parser.set_defaults(verb=list_jobs, reads=True)


def build_metrics(parser: ArgumentParser) -> None:
    add_json(parser)
    parser.set_defaults(verb=metrics, reads=True)


def metrics(options: Namespace, printer: Printer) -> int:
    found = stats.metrics(cap=EXACT)
    if printer.as_json:
        printer.json(stats.metrics_object(found))
        return 0
    printer.line("=== Execution Metrics ===")
    printer.line(f"Total Jobs: {found.total_jobs}")
    printer.line(f"Completed: {found.completed}")
    printer.line(f"Failed: {found.failed}")
    printer.line(f"Dead (DLQ): {found.dead}")
    printer.line(f"Success Rate: {found.success_rate:.2f}%")
    printer.line()
    printer.line("=== Execution Time Statistics ===")
    if found.average is None or not found.fastest or not found.slowest:
        printer.line("No execution time data available")
        return 0
    printer.line(f"Average Execution Time: {found.average:.3f}s")
    printer.line(f"Total Execution Time: {found.total:.3f}s")
    for name, (key, took) in (("Fastest", found.fastest), ("Slowest", found.slowest)):
        printer.line(f"{name} Job: {visible(key)} ({took:.3f}s)")
    return 0


def status(options: Namespace, printer: Printer) -> int:
    snapshot = stats.snapshot(cap=EXACT)
    problems = stats.unserved(snapshot) + stats.not_startable(snapshot)
    if printer.as_json:
        printer.json(stats.snapshot_object(snapshot))
    elif printer.is_terminal:
        _status_table(snapshot, printer)
    else:
        _status_lines(snapshot, printer)
    if not printer.as_json:
        for problem in problems:
            printer.line(visible(f"! {problem.text}   {problem.command}"))
    return ATTENTION if options.check and problems else 0


def _status_lines(snapshot: Snapshot, printer: Printer) -> None:
    printer.line("=== Queue Status ===")
    printer.line(f"Total Jobs: {snapshot.total}")
    for name, label in (
        (JobState.PENDING, "Pending"),
        (JobState.PROCESSING, "Processing"),
        (JobState.COMPLETED, "Completed"),
        (JobState.FAILED, "Failed"),
        (JobState.DEAD, "Dead (DLQ)"),
    ):
        printer.line(f"{label}: {snapshot.states[name]}")
    printer.line(f"Active Workers: {snapshot.slots}")
    for name in (JobState.SCHEDULED, JobState.BLOCKED, JobState.CANCELLED):
        printer.line(f"{name.capitalize()}: {snapshot.states[name]}")


def _status_table(snapshot: Snapshot, printer: Printer) -> None:
    workers = count(len(snapshot.workers), "worker")
    busy = f"{snapshot.busy} of {snapshot.slots} slots busy" if snapshot.workers else "none running"
    printer.line(
        f"QueueCTL {__version__}   {dialect.describe()}   {workers}, {busy}   {snapshot.at:%H:%M:%S} UTC"
    )
    shown = [(name, number) for name, number in snapshot.states.items() if number.number]
    printer.table(
        ["STATE", "JOBS"], [(name, number) for name, number in shown] or [("no jobs yet", "")]
    )
    if snapshot.queues:
        printer.line()
        printer.table(
            ["QUEUE", "", "PENDING", "PROCESSING", "FAILED", "DEAD", "OLDEST"],
            [
                (q.name, "PAUSED" if q.paused else "active", q.pending, q.processing, q.failed, q.dead,
                 age(q.oldest_pending))
                for q in snapshot.queues
            ],
        )  # fmt: skip
        tell_of_more(snapshot, printer)


def tell_of_more(snapshot: Snapshot, printer: Printer) -> None:
    """How many queues a list leaves out."""
    if snapshot.left_out.queues:
        printer.narrate(f"and {count(snapshot.left_out.queues, 'more queue')}")


def list_jobs(options: Namespace, printer: Printer) -> int:
    if printer.is_terminal and not options.all:
        return _newest(options.limit or NEWEST, options.state, printer)
    jobs = (
        stats.newest(options.limit, state=options.state)
        if options.limit
        else stats.stream(state=options.state)
    )
    if printer.as_json:
        # One array, streamed: a million jobs take no more memory than one.
        printer.out.write("[")
        for index, job in enumerate(jobs):
            printer.out.write(",\n" if index else "\n")
            printer.out.write(as_json(stats.job_object(job)))
        printer.line("\n]")
        return 0
    found = False
    for job in jobs:
        if not found:
            printer.line(f"\n{'ID':<20} {'State':<12} {'Attempts':<10} {'Command':<40}")
            printer.line("-" * 82)
            found = True
        printer.line(_plain(job))
    if not found:
        printer.line("No jobs found")
    return 0


def _plain(job: Job) -> str:
    return visible(f"{job.key:<20} {job.state:<12} {job.retries:<11} {redacted(job.title)}")


def _newest(limit: int, only: str | None, printer: Printer) -> int:
    jobs = stats.newest(limit + 1, state=only)
    if not jobs:
        printer.line("No jobs found")
        printer.narrate("try one:  queuectl enqueue -- echo hello")
        return 0
    now = dialect.now()
    rows = [
        (job.key, state(job), job.retries, when(job, now), job.queue, redacted(job.title))
        for job in jobs[-limit:]
    ]
    columns = ["ID", "STATE", "RETRIES", "WHEN", "QUEUE", "COMMAND"]
    printer.table(columns, rows, stretch=["COMMAND"])
    if len(jobs) > limit:
        printer.narrate(f"the newest {limit}; all of them:  queuectl list --all")
    return 0
