"""Everything a job's page shows, for the admin and for the dashboard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .. import dialect, stats
from ..models import Attempt, Event, Job, Setting, Stream, Worker
from ..states import JobState
from ..validation import visible
from ..wording import age, seconds
from .printed import SHOWN_BYTES, Printed, printed
from .shown import Shown, ShownAttempt, Sight
from .verbs import VERBS

MOST_ATTEMPTS = 200
MOST_EVENTS = 50


@dataclass(frozen=True, slots=True)
class Button:
    """A button that stays where it does nothing, and says why."""

    name: str
    label: str
    url: str
    dangerous: bool
    asks: bool
    """Leads to a page first: then it is a link."""

    reason: str


@dataclass(frozen=True, slots=True)
class Fact:
    label: str
    value: Any
    note: str = ""


def job_page(
    job: Job, user: Any, number: str, url: Callable[[str], str], *, labels: dict[str, str]
) -> dict[str, Any]:
    """The context of the template `queuectl/_job.html`.

    `number` is the attempt whose output is wanted, as it came in the URL; `url` gives the address
    of a verb. It reads little more than it shows.
    """
    now, sight = dialect.now(), Sight.of(user)
    attempts = stats.newest_attempts(job, MOST_ATTEMPTS)
    chosen = _chosen(attempts, number)
    return {
        "job": Shown(job, sight, now),
        "facts": _facts(job, now, sight),
        "buttons": buttons(job, user, url, labels),
        "attempts": _shown(job, attempts, sight),
        "chosen": chosen,
        "streams": _streams(job, chosen) if chosen and sight.output else [],
        "may_see_output": sight.output,
        "may_see_input": sight.input,
        "events": _events(job) if user.has_perm("queuectl.view_event") else [],
    }


def buttons(job: Job, user: Any, url: Callable[[str], str], labels: dict[str, str]) -> list[Button]:
    """Every verb, in the order of the table."""
    return [
        Button(
            name=verb.name,
            label=labels.get(verb.name, verb.label),
            url=url(verb.name),
            dangerous=verb.dangerous,
            asks=verb.asks([job.state]),
            reason=verb.why_not(job, user),
        )
        for verb in VERBS.values()
    ]


def _chosen(attempts: list[Attempt], number: str) -> Attempt | None:
    """The attempt asked for, else the last."""
    named = [attempt for attempt in attempts if str(attempt.number) == number]
    return next(iter(named or attempts[-1:]), None)


def _shown(job: Job, attempts: list[Attempt], sight: Sight) -> list[ShownAttempt]:
    ids = {attempt.worker_id for attempt in attempts if attempt.worker_id}
    names = {worker.id: worker.name for worker in Worker.objects.filter(id__in=ids)}
    return [
        ShownAttempt(
            attempt, sight, names.get(attempt.worker_id or 0, "-"), task=job.task is not None
        )
        for attempt in reversed(attempts)
    ]


def _streams(job: Job, attempt: Attempt) -> list[Printed]:
    if job.task is not None:
        whole = Attempt.objects.filter(id=attempt.id).first()
        left = stats.left_by_task(job, whole) if whole else []
        texts = [(name, text.encode("utf-8", "replace")) for name, text in left]
        return [printed(name, [(0, data)], len(data)) for name, data in texts]
    totals = {Stream.STDOUT: attempt.stdout_bytes, Stream.STDERR: attempt.stderr_bytes}
    return [
        printed(
            stream.name.lower(),
            stats.end_of_output(job, attempt.number, stream, SHOWN_BYTES),
            total,
        )
        for stream, total in totals.items()
    ]


def _events(job: Job) -> list[Event]:
    found = Event.objects.filter(subject=f"job {job.key}"[:160]).order_by("-id")[:MOST_EVENTS]
    for event in found:
        event.note, event.actor = visible(event.note), visible(event.actor)
    return list(found)


def _facts(job: Job, now: datetime, sight: Sight) -> list[Fact]:
    facts = [
        Fact("Queue", job.queue),
        Fact("Priority", job.rank, "higher first"),
        Fact(
            "Retries",
            job.retries.replace("/", " / "),
            f"{job.runs} run{'s' * (job.runs != 1)} in all",
        ),
        _timeout(job),
        Fact("Created", job.created_at, _by(job)),
    ]
    if job.run_at:
        facts.append(Fact("Run at", job.run_at, "as asked for"))
    if job.state in (JobState.SCHEDULED, JobState.FAILED):
        facts.append(Fact("Due", job.due_at))
    if job.started_at:
        created: datetime | None = job.created_at  # none if a hand has put what is no time
        waited = seconds((job.started_at - created).total_seconds() if created else None)
        facts.append(Fact("Started", job.started_at, "" if job.runs > 1 else f"waited {waited}"))
    if job.finished_at:
        facts.append(Fact("Finished", job.finished_at, _ran(job)))
    if job.cancel_requested_at:
        facts.append(Fact("Asked to stop", job.cancel_requested_at))
    facts += [Fact(label, visible(str(value))) for label, value in _rare(job, sight) if value]
    return facts


def _timeout(job: Job) -> Fact:
    if "timeout" in job.unreadable:
        return Fact("Timeout", "-")
    if job.timeout:
        return Fact("Timeout", visible(job.time_limit))
    return Fact("Timeout", f"{Setting.objects.policy().job_timeout:g} s", "the setting job-timeout")


def _by(job: Job) -> str:
    return f"by {visible(job.enqueued_by)}" if job.enqueued_by else ""


def _ran(job: Job) -> str:
    if not (job.started_at and job.finished_at):
        return ""
    took = max(timedelta(0), job.finished_at - job.started_at)
    return f"ran {seconds(took.total_seconds()) if took.total_seconds() < 100 else age(took)}"


def _rare(job: Job, sight: Sight) -> list[tuple[str, Any]]:
    given = [
        ("Directory", job.cwd),
        ("Environment", ", ".join(job.variables)),
        ("Unique key", job.unique_key),
        ("Concurrency key", job.concurrency_key),
    ]
    lost = ("Lost with its worker", f"{job.losses} times" if job.losses else "")
    return [*(given if sight.input else []), lost]
