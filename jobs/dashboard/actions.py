"""What a person does to jobs: every button is a POST to `operations`, by way of the verbs' table."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from .. import conf, dialect, operations
from ..commands import Template
from ..exceptions import NotPermitted, QueueCTLError
from ..models import Job, Queue
from ..operations import Kind
from ..pages.new import CommandForm, JobForm, TemplateForm, ways
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
        "queues": Queue.objects.names(MOST_QUEUES),
        "next": next_page(request, reverse("queuectl:job", args=[found.key])),
        "named_next": next_page(request, ""),
    }
    return render(request, "queuectl/ask.html", context, status=400 if form.errors else 200)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """A shell command, and where those are not taken the way to the templates."""
    shell, _, refusal = ways(request.user)
    if request.method == "POST" or refusal:
        try:
            operations.must_submit(actor_of(request), Kind.SHELL, "enqueue", "a new job")
        except NotPermitted:
            return _new(request, None, None)
    form = CommandForm(request.POST if request.method == "POST" else None)
    return _new(request, form if shell else None, None)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def new_from(request: HttpRequest, name: str) -> HttpResponse:
    """A registered command, to be filled in."""
    template = conf.get().COMMANDS.get(name)
    if template is None:
        raise Http404
    operations.must_submit(actor_of(request), Kind.TEMPLATE, "enqueue", f"template {name}")
    form = TemplateForm(template, request.POST if request.method == "POST" else None)
    return _new(request, form, template)


def _new(request: HttpRequest, form: JobForm | None, template: Template | None) -> HttpResponse:
    enqueued = form.enqueue(actor_of(request)) if form and request.method == "POST" else None
    if enqueued:
        return _enqueued(request, enqueued)
    shell, templates, refusal = ways(request.user)
    refused = bool(refusal) or (form is None and request.method == "POST")
    context = frame(request, "new") | {
        "form": form,
        "template": template,
        "shell": shell,
        "templates": templates,
        "refusal": refusal or (may_not_submit(request.user, Kind.SHELL) if refused else ""),
        "queues": Queue.objects.names(MOST_QUEUES),
    }
    status = 403 if refused else 400 if form and form.errors else 200
    return render(request, "queuectl/new.html", context, status=status)


def _enqueued(request: HttpRequest, enqueued: operations.Enqueued) -> HttpResponse:
    said = (
        f"Job '{enqueued.key}' enqueued successfully"
        if enqueued.created
        else f"Job '{enqueued.key}' was there already with the same content; none was added"
    )
    messages.success(request, said)
    return redirect("queuectl:job", enqueued.key)
