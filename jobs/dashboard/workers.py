"""Workers from the web: the panel that shows them, and the pages that start and stop them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from .. import dialect, lockfile, operations, stats
from ..exceptions import NotPermitted, WorkerRefused
from ..models import Worker
from ..operations import Actor
from ..pages.verbs import WholeField, sentence
from ..stats import Snapshot
from ..validation import shown, visible
from ..wording import age
from ..worker import detach
from ..worker.supervisor import Plan
from .frame import View, actor_of, frame, page


class StartForm(forms.Form):
    count = WholeField(
        label="Number of Workers",
        initial=3,
        help_text="1 to 10",
        widget=forms.NumberInput(attrs={"min": 1, "max": 10}),
    )

    def clean_count(self) -> int:
        count = self.cleaned_data["count"]
        if not isinstance(count, int) or not 1 <= count <= 10:
            accepted = "the count takes a whole number from 1 to 10"
            raise forms.ValidationError(f"Invalid count: {shown(count)}; {accepted}")
        return count


def _in_no_transaction(view: View[[]]) -> View[[]]:
    """Of no database: the worker's row would not be seen, on SQLite not even be written."""
    for alias in settings.DATABASES:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


@_in_no_transaction
@page
@require_http_methods(["GET", "HEAD", "POST"])
def start_workers(request: HttpRequest) -> HttpResponse:
    """Start a worker on this host, and wait up to ten seconds until it is at work."""
    form = StartForm(request.POST if request.method == "POST" else None)
    try:
        operations.must_start_worker(actor_of(request), f"a worker on {socket.gethostname()}")
    except NotPermitted as refusal:
        return _start_page(request, form, sentence(refusal), status=403)
    if request.method != "POST":
        return _start_page(request, form, "")
    if not form.is_valid():
        return _start_page(request, form, "", status=400)
    try:
        with lockfile.turnstile("start-workers") as ours:  # two people may press at once
            if ours and not _has_workers_here():
                return _start(request, form.cleaned_data["count"], form)
    except WorkerRefused as refusal:
        failure = f"{refusal}; {refusal.hint}"
        return _start_page(request, form, "", status=503, failure=visible(failure))
    messages.warning(request, "Workers are already running")
    return redirect("queuectl:overview")


def _has_workers_here() -> bool:
    return any(worker.boot == lockfile.boot() for worker in stats.live_workers(dialect.now()))


def _start(request: HttpRequest, count: int, form: StartForm) -> HttpResponse:
    host, plan = socket.gethostname(), Plan(slots=count)
    try:
        pid = operations.start_worker(
            actor_of(request), lambda: detach.start(plan, None).pid, host=host
        )
    except WorkerRefused as refusal:
        log = visible("\n".join(refusal.hint.splitlines()[-20:]), keep="\n\t")
        return _start_page(request, form, "", status=503, log=log, failure=str(refusal))
    messages.success(request, f"Started {count} worker(s) on {host}, pid {pid}")
    return redirect("queuectl:overview")


def _start_page(
    request: HttpRequest, form: StartForm, refusal: str, status: int = 200, **more: Any
) -> HttpResponse:
    context = frame(request, "overview") | {"form": form, "refusal": refusal} | more
    return render(request, "queuectl/start_workers.html", context, status=status)


def may_not_start(user: Any) -> str:
    """Why this person cannot start a worker here; empty if they can."""
    return sentence(
        operations.refusal_to_start_worker(Actor(user.get_username(), "web", user=user))
    )


@page
@require_http_methods(["GET", "HEAD", "POST"])
def stop_workers(request: HttpRequest) -> HttpResponse:
    """Drain every live worker, on whatever host: what runs may finish."""
    actor = actor_of(request)
    operations.must(actor, "operate_worker", "stop drain", "all workers")
    if request.method != "POST":
        snapshot = stats.live_workers(dialect.now())
        context = frame(request, "overview", snapshot) | {"workers": _busy(snapshot)}
        return render(request, "queuectl/stop_workers.html", context)
    alive = {worker.id for worker in stats.live_workers(dialect.now())}
    asked = [worker for worker in operations.stop_workers(actor) if worker.id in alive]
    if asked:
        names = ", ".join(visible(worker.name) for worker in asked[:5])
        messages.success(request, f"Stopping workers gracefully: {names}. What runs may finish.")
    else:
        messages.warning(request, "No workers are running")
    return redirect("queuectl:overview")


def panel(snapshot: Snapshot) -> list[dict[str, Any]]:
    rows = _busy(snapshot.workers)
    for row in rows:
        worker = row["worker"]
        row["age"] = age(snapshot.at - worker.heartbeat_at)
        row["draining"] = worker.draining or bool(worker.stop_requested)
        row["queues"] = visible(", ".join(worker.queues)) or "all"
    return rows


def _busy(workers: Sequence[Worker]) -> list[dict[str, Any]]:
    """Workers with how many of their slots are busy."""
    busy = stats.busy_slots() if workers else {}
    return [
        {"worker": w, "name": visible(w.name), "host": visible(w.host), "busy": busy.get(w.id, 0)}
        for w in workers
    ]
