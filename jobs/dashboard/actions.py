"""What a person does to jobs: every button is a POST to `operations`, by way of the verbs' table."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from .. import dialect, operations
from ..exceptions import NotPermitted, QueueCTLError
from ..models import Job, Queue
from ..pages.new import NewJobForm
from ..pages.shown import Shown, Sight
from ..pages.verbs import VERBS, Verb, act, may_not_submit
from ..validation import visible
from .frame import DELETE, MOST_QUEUES, actor_of, frame, next_page, page
from .sights import job_at


@page
@require_http_methods(["GET", "HEAD", "POST"])
def act_on(request: HttpRequest, key: str, name: str) -> HttpResponse:
    """Press a button of a job; where it asks first, this is also the page that asks."""
    if name not in VERBS:
        raise Http404
    verb, found = VERBS[name], operations.find(key, by_prefix=False)
    data = request.POST if request.method == "POST" else None
    try:
        asked = act(verb, Job.objects.none(), found, data, actor_of(request))
    except NotPermitted:
        raise
    except QueueCTLError as error:
        messages.error(request, visible(f"{error}; {error.hint}".rstrip("; ")))
        return job_at(request, found, status=409)
    if not asked.said:
        return _ask(request, verb, found, asked.form)
    messages.success(request, asked.said)
    home = (
        reverse("queuectl:jobs") if verb.name == "discard" else reverse("queuectl:job", args=[key])
    )
    return redirect(next_page(request, home))


def _ask(request: HttpRequest, verb: Verb, found: Job, form: forms.Form) -> HttpResponse:
    context = frame(request, "jobs") | {
        "verb": verb,
        "label": DELETE.get(verb.name, verb.label),
        "reason": verb.why_not(found, request.user),
        "job": Shown(found, Sight.of(request.user), dialect.now()),
        "form": form,
        "queues": Queue.objects.order_by("name").values_list("name", flat=True)[:MOST_QUEUES],
        "next": next_page(request, reverse("queuectl:job", args=[found.key])),
        "named_next": next_page(request, ""),
    }
    return render(request, "queuectl/ask.html", context, status=400 if form.errors else 200)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    refusal = may_not_submit(request.user)
    form = NewJobForm(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        enqueued = form.enqueue(actor_of(request))
        if enqueued:
            return _enqueued(request, enqueued)
    context = frame(request, "new") | {
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
