from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace

from .. import dialect, operations, stats
from ..exceptions import QueueCTLError
from ..models import Job
from ..redaction import redacted
from ..states import JobState
from ..validation import visible
from ..wording import count, when
from . import door, jobs
from .arguments import add_json, add_yes
from .printing import Printer


def build(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = verbs.add_parser("list", help="dead jobs", description="Dead jobs.")
    add_json(listing)
    listing.set_defaults(verb=list_dead, reads=True)
    for name, text, verb in (
        ("retry", "bring dead jobs back, their retries counted anew", retry),
        ("discard", "delete dead jobs", discard),
    ):
        parser = verbs.add_parser(name, help=text, description=text.capitalize() + ".")
        parser.add_argument("id", nargs="*", help="an id, or the beginning of one")
        parser.add_argument("--all", action="store_true", help="every dead job")
        add_yes(parser)
        parser.set_defaults(verb=verb)


def list_dead(options: Namespace, printer: Printer) -> int:
    dead = stats.stream(state=JobState.DEAD)
    if printer.as_json:
        printer.json([stats.job_object(job) for job in dead])
        return door.DONE
    if printer.is_terminal:
        return _table(list(dead), printer)
    found = list(dead)
    if not found:
        printer.line("No jobs in Dead Letter Queue")
        return door.DONE
    printer.line(f"\nDead Letter Queue ({len(found)} jobs):")
    printer.line("-" * 80)
    for job in found:
        printer.line(f"\nJob ID: {visible(job.key)}")
        printer.line(f"  Command: {visible(redacted(job.title))}")
        printer.line(f"  Attempts: {visible(job.retries)}")
        printer.line(f"  Failed At: {stats.rfc3339(job.finished_at)}")
        if job.last_error:
            printer.line(f"  Error: {visible(job.last_error)}")
    return door.DONE


def _table(dead: list[Job], printer: Printer) -> int:
    if not dead:
        printer.line("No jobs in Dead Letter Queue")
        return door.DONE
    now = dialect.now()
    rows = [
        (job.key, job.retries, when(job, now), redacted(job.title), job.last_error) for job in dead
    ]
    printer.table(["ID", "RETRIES", "DIED", "COMMAND", "ERROR"], rows, stretch=["COMMAND", "ERROR"])
    key = visible(shlex.quote(dead[-1].key))
    printer.narrate(f"bring one back:  queuectl dlq retry {key}")
    return door.DONE


def retry(options: Namespace, printer: Printer) -> int:
    if not _wants_all(options):
        return jobs.retry(options, printer)
    jobs.confirm(stats.count_dead(), "retry", options)
    done = operations.retry_many(Job.objects.dead(), door.actor())
    printer.line(f"{count(done.changed, 'job')} moved back to queue for retry")
    if stayed := sum(done.left.values()):
        printer.narrate(f"{count(stayed, 'job')} stayed: an active job has the same unique_key")
    return door.DONE


def discard(options: Namespace, printer: Printer) -> int:
    if not _wants_all(options):
        jobs.confirm(len(options.id), "discard", options)
        return jobs.each(options.id, _discard_dead, "Job '{}' discarded", printer)
    jobs.confirm(stats.count_dead(), "discard", options)
    done = operations.discard_many(Job.objects.dead(), door.actor())
    printer.line(f"{count(done.changed, 'job')} discarded")
    return door.DONE


def _discard_dead(job: Job, actor: operations.Actor) -> None:
    operations.discard(job, actor, only=(JobState.DEAD,))


def _wants_all(options: Namespace) -> bool:
    if bool(options.id) == options.all:
        raise QueueCTLError(
            "Say which jobs: ids, or --all", hint="see them with: queuectl dlq list"
        )
    return bool(options.all)
