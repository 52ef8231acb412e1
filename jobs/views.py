"""The dashboard: the original's page as plain pages of HTML, which need no script.

A GET changes nothing. What is pressed is a POST to `operations`, by way of the verbs' table.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from django import forms
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods, require_safe

from . import conf, dialect, lockfile, operations, stats
from .exceptions import InvalidField, JobNotFound, NotPermitted, QueueCTLError, WorkerRefused
from .forms import keyset
from .forms.headers import strict
from .forms.job_page import job_page
from .forms.new import NewJobForm
from .forms.shown import ICONS, Shown, Sight, age
from .forms.verbs import VERBS, Verb, act, may_not_submit
from .models import Job, Queue, Worker
from .models.job import JobQuerySet
from .operations import Actor
from .operations.events import record
from .states import JobState
from .stats import Count, Snapshot
from .validation import shown, visible
from .worker import detach
from .worker.supervisor import Plan

CARDS = (
    JobState.PENDING, JobState.PROCESSING, JobState.COMPLETED, JobState.FAILED, JobState.DEAD,
)  # fmt: skip
"""The original's five; the others follow where they are not 0."""

LABELS = {JobState.DEAD: "Dead (DLQ)"}
DELETE = {"discard": "Delete"}
RECENT, MOST_QUEUES, MOST_BUSY = 10, 100, 5000

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def page(view: View[P]) -> View[P]:
    """Log in first, then `view_job`; a refusal is a page that says what to do; strict headers."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        response: HttpResponseBase
        if request.user.is_authenticated:
            response = _answer(view, request, *args, **kwargs)
        else:
            response = redirect_to_login(request.get_full_path())
        add_never_cache_headers(response)
        return strict(response)

    return cast(View[P], csrf_protect(guarded))


def _answer(
    view: View[P], request: HttpRequest, *args: P.args, **kwargs: P.kwargs
) -> HttpResponseBase:
    try:
        _actor(request).must("view_job")
        return view(request, *args, **kwargs)
    except NotPermitted as error:
        return _problem(request, error, 403)
    except JobNotFound as error:
        return _problem(request, error, 404)
    except InvalidField as error:
        return _problem(request, error, 400)
    except Http404:
        return _problem(request, QueueCTLError("There is nothing at this address"), 404)


def _actor(request: HttpRequest) -> Actor:
    return Actor(request.user.get_username(), "web", user=request.user)


def _problem(request: HttpRequest, error: QueueCTLError, status: int) -> HttpResponse:
    allowed = request.user.has_perm("queuectl.view_job")
    context = _frame(request, "", None if allowed else [])
    context |= {"message": visible(str(error)), "hint": visible(error.hint)}
    return render(request, "queuectl/problem.html", context, status=status)


def _frame(
    request: HttpRequest, tab: str, workers: Sequence[Worker] | None = None
) -> dict[str, Any]:
    """What every page has around it."""
    if workers is None:
        workers = stats.live_workers(dialect.now())
    return {"tab": tab, "running": bool(workers), "path": request.get_full_path()}


# What there is to see


@page
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    snapshot, user = stats.snapshot(), request.user
    sight = Sight.of(user)
    recent = keyset.page(Job.objects.all(), keyset.ALL, size=RECENT)
    dead = _page_of(JobState.DEAD, size=RECENT // 2)
    context = _frame(request, "overview", snapshot.workers) | {
        "cards": _cards(snapshot),
        "attention": _attention(snapshot),
        "workers": _workers(snapshot),
        "slots": snapshot.slots,
        "start": StartForm(),
        "start_refusal": _may_not_start(user),
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
        "queues": Queue.objects.order_by("name").values_list("name", flat=True)[:MOST_QUEUES],
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
    context |= _frame(request, tab) | {
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
    return _job(request, operations.find(key, by_prefix=False))


def _job(request: HttpRequest, found: Job, status: int = 200) -> HttpResponse:
    context = _frame(request, "jobs") | job_page(
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
    found = stats.metrics()
    context = _frame(request, "charts") | {
        "metrics": found,
        "fastest": visible(found.fastest[0]) if found.fastest else "",
        "slowest": visible(found.slowest[0]) if found.slowest else "",
    }
    return render(request, "queuectl/charts.html", context)


# What there is to do


@page
@require_http_methods(["GET", "HEAD", "POST"])
def act_on(request: HttpRequest, key: str, name: str) -> HttpResponse:
    """Press a button of a job; where it asks first, this is also the page that asks."""
    if name not in VERBS:
        raise Http404
    verb, found = VERBS[name], operations.find(key, by_prefix=False)
    data = request.POST if request.method == "POST" else None
    try:
        asked = act(verb, Job.objects.none(), found, data, _actor(request))
    except NotPermitted:
        raise
    except QueueCTLError as error:
        messages.error(request, visible(f"{error}; {error.hint}".rstrip("; ")))
        return _job(request, found, status=409)
    if not asked.said:
        return _ask(request, verb, found, asked.form)
    messages.success(request, asked.said)
    home = (
        reverse("queuectl:jobs") if verb.name == "discard" else reverse("queuectl:job", args=[key])
    )
    return redirect(_next(request, home))


def _ask(request: HttpRequest, verb: Verb, found: Job, form: forms.Form) -> HttpResponse:
    context = _frame(request, "jobs") | {
        "verb": verb,
        "label": DELETE.get(verb.name, verb.label),
        "reason": verb.why_not(found, request.user),
        "job": Shown(found, Sight.of(request.user), dialect.now()),
        "form": form,
        "queues": Queue.objects.order_by("name").values_list("name", flat=True)[:MOST_QUEUES],
        "next": _next(request, reverse("queuectl:job", args=[found.key])),
        "named_next": _next(request, ""),
    }
    return render(request, "queuectl/ask.html", context, status=400 if form.errors else 200)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    refusal = may_not_submit(request.user)
    form = NewJobForm(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        enqueued = form.enqueue(_actor(request))
        if enqueued:
            return _enqueued(request, enqueued)
    context = _frame(request, "new") | {
        "form": form,
        "refusal": refusal,
        "queues": Queue.objects.order_by("name").values_list("name", flat=True)[:MOST_QUEUES],
    }
    status = 403 if refusal else 400 if form.errors else 200
    return render(request, "queuectl/new.html", context, status=status)


def _enqueued(request: HttpRequest, enqueued: operations.Enqueued) -> HttpResponse:
    said = (
        f"Job '{enqueued.key}' enqueued successfully"
        if enqueued.created
        else f"Job '{enqueued.key}' was there already with the same content; none was added"
    )
    messages.success(request, said)
    return redirect("queuectl:job", enqueued.key)


# Workers


class StartForm(forms.Form):
    count = forms.IntegerField(
        label="Number of Workers", min_value=1, max_value=10, initial=3, help_text="1 to 10"
    )


# Not in the request's transaction: the worker's row would not be seen, on SQLite not even be written.
@transaction.non_atomic_requests
@page
@require_http_methods(["GET", "HEAD", "POST"])
def start_workers(request: HttpRequest) -> HttpResponse:
    """Start a worker on this host, and wait up to ten seconds until it is at work."""
    form = StartForm(request.POST if request.method == "POST" else None)
    refusal = _may_not_start(request.user)
    if request.method != "POST":
        return _start_page(request, form, refusal)
    if refusal:
        return _start_page(request, form, refusal, status=403)
    if not form.is_valid():
        return _start_page(request, form, "", status=400)
    here = [w for w in stats.live_workers(dialect.now()) if w.boot == lockfile.boot()]
    if here:
        messages.warning(request, "Workers are already running")
        return redirect("queuectl:overview")
    return _start(request, form.cleaned_data["count"], form)


def _start(request: HttpRequest, count: int, form: StartForm) -> HttpResponse:
    actor = _actor(request)
    try:
        started = detach.start(Plan(slots=count), None)
    except WorkerRefused as refusal:
        log = visible("\n".join(refusal.hint.splitlines()[-20:]), keep="\n\t")
        return _start_page(request, form, "", status=503, log=log, failure=str(refusal))
    host = socket.gethostname()
    with dialect.atomic():
        record(actor, "start", f"worker pid {started.pid} on {host}", now=dialect.now())
    messages.success(request, f"Started {count} worker(s) on {host}, pid {started.pid}")
    return redirect("queuectl:overview")


def _start_page(
    request: HttpRequest, form: StartForm, refusal: str, status: int = 200, **more: Any
) -> HttpResponse:
    context = _frame(request, "overview") | {"form": form, "refusal": refusal} | more
    return render(request, "queuectl/start_workers.html", context, status=status)


def _may_not_start(user: Any) -> str:
    """Why this person cannot start a worker here; empty if they can."""
    if not user.has_perm("queuectl.start_worker"):
        return "It needs the permission queuectl.start_worker."
    if not conf.get().START_WORKERS_FROM_WEB:
        return "This site does not start workers from the web: QUEUECTL['START_WORKERS_FROM_WEB'] is off."
    return ""


@page
@require_http_methods(["GET", "HEAD", "POST"])
def stop_workers(request: HttpRequest) -> HttpResponse:
    """Drain every live worker, on whatever host: what runs may finish."""
    actor = _actor(request)
    actor.must("operate_worker")
    if request.method != "POST":
        snapshot = stats.live_workers(dialect.now())
        context = _frame(request, "overview", snapshot) | {"workers": _busy(snapshot)}
        return render(request, "queuectl/stop_workers.html", context)
    alive = {worker.id for worker in stats.live_workers(dialect.now())}
    asked = [worker for worker in operations.stop_workers(actor) if worker.id in alive]
    if asked:
        names = ", ".join(visible(worker.name) for worker in asked[:5])
        messages.success(request, f"Stopping workers gracefully: {names}. What runs may finish.")
    else:
        messages.warning(request, "No workers are running")
    return redirect("queuectl:overview")


def _workers(snapshot: Snapshot) -> list[dict[str, Any]]:
    rows = _busy(snapshot.workers)
    for row in rows:
        worker = row["worker"]
        row["age"] = age(snapshot.at - worker.heartbeat_at)
        row["draining"] = worker.draining or bool(worker.stop_requested)
        row["queues"] = ", ".join(worker.queues) or "all"
    return rows


def _busy(workers: Sequence[Worker]) -> list[dict[str, Any]]:
    """Workers with how many of their slots are busy."""
    held = Job.objects.processing().filter(started_at__isnull=False)
    busy = Counter(held.values_list("worker_id", flat=True)[:MOST_BUSY]) if workers else Counter()
    return [
        {"worker": w, "name": visible(w.name), "host": visible(w.host), "busy": busy[w.id]}
        for w in workers
    ]


# Small things


def _cards(snapshot: Snapshot) -> list[dict[str, Any]]:
    others = [s for s in JobState if s not in CARDS and snapshot.states[s].number]
    return [
        {
            "state": state,
            "icon": ICONS[state],
            "label": LABELS.get(state, state.capitalize()),
            "number": _figure(snapshot.states[state]),
            "url": reverse("queuectl:dlq")
            if state is JobState.DEAD
            else f"{reverse('queuectl:jobs')}?state={state}",
        }
        for state in [*CARDS, *others]
    ]


def _figure(count: Count) -> str:
    return f"{count.number:,}{'+' if count.capped else ''}"


def _attention(snapshot: Snapshot) -> list[dict[str, str]]:
    """What a person should look at, each with what to do."""
    found = []
    for queue in snapshot.queues:
        number = queue.pending.number
        jobs = f"{_figure(queue.pending)} job{'s wait' if number != 1 else ' waits'}"
        if number and queue.paused:
            text = f"Queue {queue.name} is paused, and {jobs} in it."
            found.append({"text": text, "command": f"queuectl queue resume {queue.name}"})
        elif number and not snapshot.workers:
            text = f"{jobs} in queue {queue.name} and no worker is running."
            found.append({"text": text, "command": "queuectl worker start"})
        elif number and not queue.served:
            text = f"{jobs} in queue {queue.name} and no live worker serves it."
            found.append({"text": text, "command": f"queuectl worker start -q {queue.name}"})
    return found


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
    return "\0" not in text


def _with(query: QueryDict, **mark: str) -> str:
    """The same list at another place; empty where the mark is."""
    if not all(mark.values()):
        return ""
    changed = query.copy()
    for name in ("before", "after"):
        changed.pop(name, None)
    changed.update(mark)
    return f"?{changed.urlencode()}"


def _next(request: HttpRequest, home: str) -> str:
    """Where to go on: the page that was named, if it is one of this site."""
    named = request.POST.get("next") or request.GET.get("next") or ""
    safe = named.startswith("/") and url_has_allowed_host_and_scheme(
        named, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return named if safe else home
