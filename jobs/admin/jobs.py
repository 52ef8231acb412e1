from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from .. import dialect
from ..exceptions import NotPermitted, QueueCTLError, TooBroad
from ..models import Job, Queue
from ..operations.policy import PERMISSIONS
from ..pages import keyset
from ..pages.addresses import from_url, to_url
from ..pages.job_page import job_page
from ..pages.shown import Shown, Sight
from ..pages.verbs import MOST, VERBS, Verb, act
from ..states import JobState
from ..validation import visible
from .window import SAMPLES, Window, WindowFilter, confirmed

MOST_QUEUES = 100


class StateFilter(admin.SimpleListFilter):
    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return [(state, state) for state in JobState]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        state = self.value()
        return queryset.filter(state=state) if state in list(JobState) else queryset


class QueueFilter(admin.SimpleListFilter):
    """From the table of queues: the names among the jobs would take a DISTINCT of them all."""

    title = parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        names = Queue.objects.names(MOST_QUEUES)
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        names = [name for name, _ in self.lookup_choices]
        return queryset.filter(queue=self.value()) if self.value() in names else queryset


class KindFilter(admin.SimpleListFilter):
    title = parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return [("command", "command"), ("argv", "program"), ("task", "task")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        kinds = [kind for kind, _ in self.lookup_choices]
        if self.value() not in kinds:
            return queryset
        return queryset.filter(**{f"{self.value()}__isnull": False})


class KeysetChangeList(ChangeList):
    """A change list that counts nothing and skips nothing: `?before=` and `?after=` a row's place."""

    model_admin: JobAdmin
    marks: dict[str, str] | None = None

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        if self.marks is None:
            self.marks = {name: self.params.pop(name, "") for name in ("before", "after")}
            for name in self.marks:
                self.filter_params.pop(name, None)
        return super().get_queryset(request, exclude_parameters)

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        # The order is the keyset's; this one only keeps Django from making another.
        return ["-id"]

    def get_results(self, request: HttpRequest) -> None:
        state = self.params.get("state")
        order = keyset.order_of(
            JobState(state) if state in list(JobState) else None, str(self.query)
        )
        try:
            found = keyset.page(self.queryset, order, size=self.list_per_page, **(self.marks or {}))
        except TooBroad as error:
            self.model_admin.complain(request, error)
            found = keyset.Page([])
        sight, now = Sight.of(request.user), dialect.now()
        rows: list[Any] = found.jobs
        for job in rows:
            job.shown = Shown(job, sight, now)
        self.words = order.words
        self.before_url = found.before and self.get_query_string({"before": found.before})
        self.after_url = found.after and self.get_query_string({"after": found.after})
        self.result_list = rows
        self.result_count = len(rows)
        # Equal, so that no "15 results (show all)" claims to know how many there are.
        self.full_result_count = self.result_count
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = True

    def url_for_result(self, result: Any) -> str:
        return job_url(result.key)


def job_url(key: str) -> str:
    return reverse("admin:queuectl_job_change", args=[quote(to_url(key))])


def _action(verb: Verb) -> Callable[..., Any]:
    needed = verb.permission or "submit"

    @admin.action(description=f"{verb.label} selected jobs", permissions=[needed])
    def action(self: JobAdmin, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return self.press_many(request, queryset, verb)

    action.__name__ = verb.name.replace("-", "_")
    return action


@admin.register(Job)
class JobAdmin(Window):
    list_display = ("id_", "state_", "title_", "queue", "priority_", "retries_", "when_", "by_")
    list_filter = (StateFilter, QueueFilter, KindFilter, WindowFilter)
    search_fields = ("=key",)
    search_help_text = "An id, or its beginning"
    actions = [_action(verb) for verb in VERBS.values()]

    class Media:
        css = {"all": ["queuectl/queuectl.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        return (queryset.by_prefix(search_term) if search_term else queryset), False

    def has_operate_job_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("queuectl.operate_job")

    def has_delete_job_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("queuectl.delete_job")

    def has_submit_permission(self, request: HttpRequest) -> bool:
        """Some way to submit; which one a copy needs depends on the job."""
        return any(request.user.has_perm(f"queuectl.{name}") for name in {*PERMISSIONS.values()})

    # Columns

    @admin.display(description="id")
    def id_(self, job: Any) -> str:
        return str(job.shown.id)

    @admin.display(description="state")
    def state_(self, job: Any) -> str:
        return format_html(
            '<span class="q-state q-{}"><span aria-hidden="true">{}</span> {}</span>',
            job.shown.state,
            job.shown.icon,
            job.shown.state,
        )

    @admin.display(description="title")
    def title_(self, job: Any) -> str:
        # In an element of its own: the admin would show an empty text as a missing value.
        return format_html(
            '<code class="q-clip">{}</code><small class="q-clip q-bad-line">{}</small>',
            job.shown.title,
            job.shown.error,
        )

    @admin.display(description="priority")
    def priority_(self, job: Job) -> str:
        return job.rank

    @admin.display(description="retries")
    def retries_(self, job: Any) -> str:
        return str(job.shown.retries)

    @admin.display(description="when")
    def when_(self, job: Any) -> str:
        return str(job.shown.when)

    @admin.display(description="by")
    def by_(self, job: Job) -> str:
        return visible(job.enqueued_by) or "-"

    # A job's own page

    def own_urls(self) -> list[URLPattern]:
        press = self.admin_site.admin_view(self.press_view)
        return [path("<path:object_id>/press/<slug:name>/", press, name="queuectl_job_press")]

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        try:
            key = from_url(object_id)
        except ValueError:
            return None
        return Job.objects.filter(key=key).first()

    def key_of(self, object_id: str) -> str:
        try:
            return from_url(object_id)
        except ValueError:
            raise Http404 from None

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> Any:
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        job = self._job(request, object_id)
        context = job_page(
            job,
            request.user,
            request.GET.get("attempt", ""),
            lambda name: reverse("admin:queuectl_job_press", args=[quote(to_url(job.key)), name]),
            labels={},
        )
        return self.page(request, "admin/queuectl/job/page.html", context["job"].id, context)

    def press_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """A button of the page; where it asks first, this is also the page that asks."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        job = self._job(request, object_id)
        if name not in VERBS:
            raise Http404
        data = request.POST if request.method == "POST" else None
        try:
            asked = act(VERBS[name], Job.objects.none(), job, data, self.actor(request))
        except NotPermitted:
            raise
        except QueueCTLError as error:
            self.complain(request, error)
            return redirect(job_url(job.key))
        if not asked.said:
            return self._ask(request, VERBS[name], [job], asked.form)
        self.tell(request, asked.said)
        discarded = name == "discard"
        return redirect("admin:queuectl_job_changelist" if discarded else job_url(job.key))

    def press_many(self, request: HttpRequest, queryset: Any, verb: Verb) -> HttpResponse | None:
        """An action of the list."""
        try:
            with keyset.patience(keyset.NARROWER):
                ids = list(queryset.order_by().values_list("id", flat=True)[: MOST + 1])
            rows = Job.objects.filter(id__in=ids)
            asked = act(verb, rows, None, confirmed(request) or {}, self.actor(request))
        except NotPermitted:
            raise
        except QueueCTLError as error:
            self.complain(request, error)
            return None
        if not asked.said:
            return self._ask(request, verb, list(rows.order_by("id")[:SAMPLES]), asked.form, ids)
        self.tell(request, asked.said)
        return None

    def _ask(
        self,
        request: HttpRequest,
        verb: Verb,
        jobs: list[Job],
        form: Any,
        selected: Sequence[int] = (),
    ) -> HttpResponse:
        sight, now, number = Sight.of(request.user), dialect.now(), len(selected or jobs)
        shown = [Shown(job, sight, now) for job in jobs]
        what = f"job {shown[0].id}" if number == 1 else f"{number} jobs"
        return self.ask(
            request,
            verb.name.replace("-", "_"),
            f"{verb.label} {what}?",
            form,
            jobs=shown,
            selected=selected,
            more=number - len(shown),
            warning=verb.warning,
            button=verb.label,
            dangerous=verb.dangerous,
            queues=Queue.objects.names(MOST_QUEUES),
        )

    def _job(self, request: HttpRequest, object_id: str) -> Job:
        if not self.has_view_permission(request):
            raise PermissionDenied
        job: Job | None = self.get_object(request, unquote(object_id))
        if job is None:
            raise Http404("No job has this id")
        return job
