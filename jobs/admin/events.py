from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from ..models import Event
from ..validation import visible
from .window import Window, WindowFilter, spelled

ACTIONS = (
    "retry", "run now", "cancel", "move", "set priority", "discard", "pause", "resume", "set",
    "start", "stop drain", "stop now", "import", "refused",
)  # fmt: skip


class ActionFilter(admin.SimpleListFilter):
    title = "action"
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(action, action) for action in ACTIONS]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(action=self.value()) if self.value() in ACTIONS else queryset


class When(WindowFilter):
    title = "when"
    field = "at"


@admin.register(Event)
class EventAdmin(Window):
    """Who did what. Events are added by what people do, and never changed."""

    list_display = ("at_", "actor_", "via", "action", "subject_", "change", "note_")
    list_filter = (ActionFilter, When)
    search_fields = ("=subject",)
    search_help_text = "The whole object, such as: job nightly"
    ordering = ("-id",)
    actions = None
    fields = readonly_fields = (
        "at", "actor_", "via", "action", "subject_", "before_", "after_", "note_",
    )  # fmt: skip
    actor_, before_, after_, note_ = map(spelled, ("actor", "before", "after", "note"))

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        # As a whole: Django would look for each word by itself.
        return (queryset.filter(subject=search_term) if search_term else queryset), False

    @admin.display(description="when")
    def at_(self, event: Event) -> str:
        at: datetime | None = event.at  # none where a hand has put what is no time
        return f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S}" if at else "-"

    @admin.display(description="object")
    def subject_(self, event: Event) -> str:
        return visible(event.subject)

    @admin.display(description="from → to")
    def change(self, event: Event) -> str:
        return visible(f"{event.before} → {event.after}" if event.after else event.before) or "-"
