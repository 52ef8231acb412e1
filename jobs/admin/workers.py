from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse

from .. import conf, dialect, lockfile, operations, stats
from ..exceptions import QueueCTLError
from ..models import Worker
from ..pages.verbs import NoFields
from ..validation import visible
from ..wording import age
from .window import Window, WindowChangeList, confirmed, spelled


class ConditionFilter(admin.SimpleListFilter):
    title = parameter_name = "condition"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(word, word) for word in ("live", "silent", "draining", "stopped")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        lease = timedelta(seconds=conf.get().LEASE_SECONDS)
        match self.value():
            case "live":
                return queryset.live()
            case "silent":
                return queryset.silent(dialect.now(), lease)
            case "draining":
                return queryset.live().filter(Q(draining=True) | ~Q(stop_requested=""))
            case "stopped":
                return queryset.filter(stopped_at__isnull=False)
        return queryset


class WorkerChangeList(WindowChangeList):
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        busy, now = stats.busy_slots(), dialect.now()
        for worker in self.result_list:
            worker.now, worker.busy = now, busy.get(worker.pk, 0)
            worker.name = visible(worker.name)  # Django names it in the label of its checkbox too


@admin.register(Worker)
class WorkerAdmin(Window):
    list_display = ("name_", "host_", "pid", "busy", "serves", "heartbeat", "condition", "version")
    list_filter = (ConditionFilter,)
    search_fields = ("name__startswith",)
    ordering = ("-id",)
    actions = ("drain",)
    fields = readonly_fields = (
        "name_", "host_", "pid", "slots", "serves", "version", "started_at", "heartbeat_at", "draining",
        "stop_requested", "stop_requested_by", "stopped_at", "end_",
    )  # fmt: skip
    name_, host_, end_ = map(spelled, ("name", "host", "end"))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return WorkerChangeList

    def has_operate_worker_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("queuectl.operate_worker")

    @admin.action(permissions=["operate_worker"], description="Drain selected workers")
    def drain(self, request: HttpRequest, queryset: QuerySet[Worker]) -> HttpResponse | None:
        actor = self.actor(request)

        def do(worker: Worker, values: dict[str, Any]) -> str:
            if not operations.stop_workers(actor, only=worker):
                raise QueueCTLError(f"Worker '{worker.name}' is not running")
            return f"Worker '{worker.name}' takes no more jobs, and ends when what runs has ended"

        return self.press(
            request, queryset, NoFields(confirmed(request)), do, action="drain",
            title="Drain workers",
            warning="They take no more jobs and end. What runs may finish within the grace period.",
        )  # fmt: skip

    @admin.display(description="slots busy")
    def busy(self, worker: Any) -> str:
        return f"{worker.busy} / {worker.slots}"

    @admin.display(description="queues")
    def serves(self, worker: Worker) -> str:
        return visible(", ".join(worker.queues)) or "all"

    @admin.display(description="heartbeat")
    def heartbeat(self, worker: Any) -> str:
        return f"{age(worker.now - worker.heartbeat_at)} ago"

    @admin.display(description="condition")
    def condition(self, worker: Any) -> str:
        if worker.stopped_at:
            return f"stopped {age(worker.now - worker.stopped_at)} ago"
        lease = timedelta(seconds=conf.get().LEASE_SECONDS)
        silent = worker.is_silent(worker.now, lease)
        if not lockfile.is_alive(worker.boot, worker.lock, silent=silent):
            return "silent" if silent else "dead"
        return "draining" if worker.draining or worker.stop_requested else "live"
