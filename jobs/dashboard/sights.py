"""What there is to see. These pages change nothing."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from .. import dialect, operations, stats
from ..exceptions import InvalidField
from ..models import Job, Queue
from ..models.job import JobQuerySet
from ..pages import keyset
from ..pages.job_page import job_page
from ..pages.shown import Shown, Sight
from ..states import JobState
from ..stats import Snapshot
from ..validation import shown, storable, visible
from ..wording import ICONS
from .frame import DELETE, MOST_QUEUES, frame, page
from .workers import StartForm, may_not_start, panel

CARDS = (
    JobState.PENDING, JobState.PROCESSING, JobState.COMPLETED, JobState.FAILED, JobState.DEAD,
)  # fmt: skip
"""The original's five; the others follow where they are not 0."""

LABELS = {JobState.DEAD: "Dead (DLQ)"}
RECENT = 10
NEWEST = 10_000
"""Attempts whose times are reckoned while somebody waits for a page."""


@page
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    snapshot, user = stats.snapshot(), request.user
    sight = Sight.of(user)
    recent = keyset.page(Job.objects.all(), keyset.ALL, size=RECENT)
    dead = _page_of(JobState.DEAD, size=RECENT // 2)
    context = frame(request, "overview", snapshot.workers) | {
        "cards": _cards(snapshot),
        "attention": [
            *stats.held_up(snapshot),
            *stats.unserved(snapshot),
            *stats.not_startable(snapshot),
        ],
        "workers": panel(snapshot),
        "slots": snapshot.slots,
        "start": StartForm(),
        "start_refusal": may_not_start(user),
        "rows": [Shown(job, sight, snapshot.at) for job in recent.jobs],
        "dead": [Shown(job, sight, snapshot.at) for job in dead.jobs],
    }
    return render(request, "queuectl/overview.html", context | _row_rights(user))


@page
@require_safe
def jobs(request: HttpRequest) -> HttpResponse:
    state = _state(request.GET.get("state", ""))
    search, queue = request.GET.get("q", "")[:128], request.GET.get("queue", "")[:64]
    rows = Job.objects.by_prefix(search) if _is_text(search) and search else Job.objects.all()
    rows = rows.filter(state=state) if state else rows
    rows = rows.filter(queue=queue) if queue and _is_text(queue) else rows
    context = {
        "state": state,
        "q": visible(search),
        "queue": visible(queue),
        "queues": Queue.objects.names(MOST_QUEUES),
        "states": [(each, ICONS[each]) for each in JobState],
    }
    return _list(request, "jobs", rows, keyset.order_of(state, search), context)


@page
@require_safe
def dlq(request: HttpRequest) -> HttpResponse:
    order = keyset.order_of(JobState.DEAD)
    return _list(request, "dlq", Job.objects.dead(), order, {"state": JobState.DEAD})


def _list(
    request: HttpRequest,
    tab: str,
    rows: JobQuerySet,
    order: keyset.Order,
    context: dict[str, Any],
) -> HttpResponse:
    before, after = request.GET.get("before", ""), request.GET.get("after", "")
    found = keyset.page(rows, order, before=before, after=after)
    sight, now = Sight.of(request.user), dialect.now()
    context |= frame(request, tab) | {
        "rows": [Shown(job, sight, now) for job in found.jobs],
        "before": _with(request.GET, before=found.before),
        "after": _with(request.GET, after=found.after),
        "words": order.words,
        "caption": order.says,
    }
    return render(request, f"queuectl/{tab}.html", context | _row_rights(request.user))


@page
@require_safe
def job(request: HttpRequest, key: str) -> HttpResponse:
    return job_at(request, operations.find(key, by_prefix=False))


def job_at(request: HttpRequest, found: Job, status: int = 200) -> HttpResponse:
    context = frame(request, "jobs") | job_page(
        found,
        request.user,
        request.GET.get("attempt", ""),
        lambda verb: reverse("queuectl:act", args=[found.key, verb]),
        labels=DELETE,
    )
    return render(request, "queuectl/job.html", context, status=status)


@page
@require_safe
def charts(request: HttpRequest) -> HttpResponse:
    with keyset.patience("ask for them at a shell: queuectl metrics"):
        found = stats.metrics(newest=NEWEST)
    context = frame(request, "charts") | {
        "metrics": found,
        "newest": f"{NEWEST:,}",
        "fastest": visible(found.fastest[0]) if found.fastest else "",
        "slowest": visible(found.slowest[0]) if found.slowest else "",
    }
    return render(request, "queuectl/charts.html", context)


def _cards(snapshot: Snapshot) -> list[dict[str, Any]]:
    others = [s for s in JobState if s not in CARDS and snapshot.states[s].number]
    return [
        {
            "state": state,
            "icon": ICONS[state],
            "label": LABELS.get(state, state.capitalize()),
            "number": f"{snapshot.states[state]:,}",
            "url": reverse("queuectl:dlq")
            if state is JobState.DEAD
            else f"{reverse('queuectl:jobs')}?state={state}",
        }
        for state in [*CARDS, *others]
    ]


def _row_rights(user: Any) -> dict[str, bool]:
    """Which buttons of a table's rows do something."""
    return {
        "may_retry": user.has_perm("queuectl.operate_job"),
        "may_delete": user.has_perm("queuectl.delete_job"),
    }


def _page_of(state: JobState, size: int) -> keyset.Page:
    return keyset.page(Job.objects.filter(state=state), keyset.order_of(state), size=size)


def _state(text: str) -> JobState | None:
    """A state by its name; an unknown one is refused rather than answered with another list."""
    if not text:
        return None
    try:
        return JobState(text)
    except ValueError:
        states = ", ".join(JobState)
        raise InvalidField(
            "state", f"There is no state {shown(text)}", hint=f"states: {states}"
        ) from None


def _is_text(text: str) -> bool:
    return text == storable(text)


def _with(query: QueryDict, **mark: str) -> str:
    """The same list at another place; empty where the mark is."""
    if not all(mark.values()):
        return ""
    changed = query.copy()
    for name in ("before", "after"):
        changed.pop(name, None)
    changed.update(mark)
    return f"?{changed.urlencode()}"
