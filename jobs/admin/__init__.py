"""The admin as a window: lists and pages to read; what changes a job goes through `operations`."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.functional import cached_property

from ..models import Attempt, Event, Job, Queue, Setting, Worker


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Never counts a large table: 10,000 rows are enough pages for anybody."""

    cap = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: self.cap].count())


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    actions = None
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AttemptInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Attempt
    extra = 0
    can_delete = False
    fields = readonly_fields = (
        "number", "outcome", "started_at", "finished_at", "exit_code", "signal", "cpu_seconds", "error",
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("queuectl.view_job")


@admin.register(Job)
class JobAdmin(ReadOnly):
    list_display = ("key", "state", "queue", "retries", "priority", "due_at", "finished_at")
    list_filter = ("state",)
    search_fields = ("=key",)
    ordering = ("-id",)
    exclude = ("env", "lease", "request_digest", "args", "argv", "command")
    inlines = (AttemptInline,)


@admin.register(Queue)
class QueueAdmin(ReadOnly):
    list_display = ("name", "paused_at", "paused_by", "paused_reason", "paused_until")


@admin.register(Worker)
class WorkerAdmin(ReadOnly):
    list_display = (
        "name",
        "host",
        "pid",
        "slots",
        "started_at",
        "heartbeat_at",
        "stopped_at",
        "end",
    )
    ordering = ("-id",)


@admin.register(Setting)
class SettingAdmin(ReadOnly):
    list_display = ("key", "value", "updated_at", "updated_by")


@admin.register(Event)
class EventAdmin(ReadOnly):
    list_display = ("at", "actor", "via", "action", "subject", "before", "after")
    ordering = ("-id",)
