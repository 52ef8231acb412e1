from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from .. import dialect, operations, stats, validation
from ..models import Queue
from ..pages.verbs import NoFields
from ..wording import age
from .window import Window, WindowChangeList, confirmed, spelled


class PauseForm(forms.Form):
    reason = forms.CharField(required=False, max_length=500, help_text="Others will read it.")
    until = forms.CharField(
        required=False, widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"})
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        zone = timezone.get_current_timezone_name()
        self.fields["until"].help_text = f"Until somebody resumes it, if left empty. In {zone}."

    @property
    def moment(self) -> datetime | None:
        text = self.cleaned_data["until"]
        return validation.moment("until", text) if text else None


class PausedFilter(admin.SimpleListFilter):
    title = parameter_name = "paused"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "paused"), ("no", "active")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        now = dialect.now()
        paused = Q(paused_at__isnull=False) & (
            Q(paused_until__isnull=True) | Q(paused_until__gt=now)
        )
        chosen = {"yes": paused, "no": ~paused}.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(chosen)


class QueueChangeList(WindowChangeList):
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        now = dialect.now()
        for queue, figures in zip(
            self.result_list, stats.figures_of(self.result_list, now), strict=True
        ):
            queue.figures, queue.now = figures, now


@admin.register(Queue)
class QueueAdmin(Window):
    list_display = ("name", "state", "pending", "processing", "failed", "dead", "oldest", "served")
    list_filter = (PausedFilter,)
    search_fields = ("name",)
    ordering = ("name",)
    actions = ("pause", "resume")
    fields = readonly_fields = (
        "name", "created_at", "note_", "paused_at", "paused_by_", "paused_reason_", "paused_until",
    )  # fmt: skip
    note_, paused_by_, paused_reason_ = map(spelled, ("note", "paused_by", "paused_reason"))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return QueueChangeList

    def has_operate_queue_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("queuectl.operate_queue")

    @admin.action(permissions=["operate_queue"], description="Pause selected queues")
    def pause(self, request: HttpRequest, queryset: QuerySet[Queue]) -> HttpResponse | None:
        form, actor = PauseForm(confirmed(request)), self.actor(request)

        def do(queue: Queue, values: dict[str, Any]) -> str:
            operations.pause(queue.name, actor, reason=values["reason"], until=form.moment)
            return f"Queue '{queue.name}' is paused"

        return self.press(
            request, queryset, form, do, action="pause", title="Pause queues",
            warning="No job of these queues is started until they are resumed. What runs goes on.",
        )  # fmt: skip

    @admin.action(permissions=["operate_queue"], description="Resume selected queues")
    def resume(self, request: HttpRequest, queryset: QuerySet[Queue]) -> HttpResponse | None:
        actor = self.actor(request)

        def do(queue: Queue, values: dict[str, Any]) -> str:
            operations.resume(queue.name, actor)
            return f"Queue '{queue.name}' is resumed"

        return self.press(
            request, queryset, NoFields({}), do, action="resume", title="Resume queues"
        )

    @admin.display(description="state")
    def state(self, queue: Any) -> str:
        if not queue.is_paused(queue.now):
            return "active"
        parts = [f"paused by {queue.paused_by}"]
        parts += [queue.paused_reason] if queue.paused_reason else []
        if queue.paused_until:
            parts.append(f"until {timezone.localtime(queue.paused_until):%Y-%m-%d %H:%M}")
        return validation.visible(", ".join(parts))

    @admin.display(description="pending")
    def pending(self, queue: Any) -> str:
        return str(queue.figures.pending)

    @admin.display(description="processing")
    def processing(self, queue: Any) -> str:
        return str(queue.figures.processing)

    @admin.display(description="failed")
    def failed(self, queue: Any) -> str:
        return str(queue.figures.failed)

    @admin.display(description="dead")
    def dead(self, queue: Any) -> str:
        return str(queue.figures.dead)

    @admin.display(description="oldest pending")
    def oldest(self, queue: Any) -> str:
        return age(queue.figures.oldest_pending)

    @admin.display(description="served", boolean=True)
    def served(self, queue: Any) -> bool:
        return bool(queue.figures.served)
