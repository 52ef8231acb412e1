"""What all our admin pages share: read only, bounded queries, strict headers, a page that asks first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import wraps
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.utils.functional import cached_property
from django.utils.http import urlencode

from .. import dialect
from ..exceptions import InvalidField, NotPermitted, QueueCTLError, QuotaReached, TooBroad
from ..operations import Actor
from ..operations.refusals import note
from ..pages.charset import only_utf_8
from ..pages.headers import strict
from ..pages.keyset import patience
from ..pages.trouble import telling_of_trouble
from ..pages.verbs import refuse
from ..validation import visible

LONGEST_KEY = 400
SAMPLES = 10


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Never counts a large table: 10,000 rows are enough pages for anybody."""

    cap = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: self.cap].count())


class WindowChangeList(ChangeList):
    model_admin: Window

    def get_results(self, request: HttpRequest) -> None:
        try:
            with patience("filter it otherwise"):
                self._get_results(request)
        except TooBroad as error:
            self.model_admin.complain(request, error)
            self.queryset = self.queryset.none()
            self._get_results(request)

    def _get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # Not known, and never asked for. Equal, so that the page does not speak of it.
        self.full_result_count = self.result_count
        self.result_list = list(self.result_list)


class Window(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows rows and offers actions. No row is added, changed or deleted in a form."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0
    sortable_by = ()

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Django lets those look too who may change."""
        return bool(request.user.has_perm(f"queuectl.view_{self.opts.model_name}"))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return WindowChangeList

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Only our filters. Django allows every field, so that one could guess at a hidden command."""
        filters: Any = self.list_filter
        return lookup in {each.parameter_name for each in filters}

    def own_urls(self) -> list[URLPattern]:
        """Addresses beside Django's."""
        return []

    def get_urls(self) -> list[URLPattern]:
        urls = [*self.own_urls(), *super().get_urls()]
        for url in urls:
            view = telling_of_trouble(self._writing_refusals_down(url.callback))
            url.callback = only_utf_8(view)
        return urls

    def _writing_refusals_down(self, view: Callable[..., Any]) -> Callable[..., Any]:
        """Django's refusals leave an event as `operations` leave one for theirs."""

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            try:
                return view(request, *args, **kwargs)
            except NotPermitted as error:
                return self._refused(request, error)
            except PermissionDenied as error:
                refusal = NotPermitted(str(error) or "the admin does not let them")
                action = "see" if request.method in ("GET", "HEAD") else "change"
                note(refusal, self.actor(request), action, f"page {request.path}")
                raise

        return guarded

    def _refused(self, request: HttpRequest, error: NotPermitted) -> TemplateResponse:
        """Not Django's page for this, which a site may have made to tell no reason."""
        status = 429 if isinstance(error, QuotaReached) else 403
        context = {"hint": visible(error.hint)}
        return self.page(
            request, "admin/queuectl/refused.html", visible(str(error)), context, status
        )

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        self._refuse_hidden_action(request)
        _refuse_wrong_keys(request, self.opts.pk.get_internal_type())
        title = str(self.opts.verbose_name_plural).capitalize()
        return strict(super().changelist_view(request, {"title": title, **(extra_context or {})}))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> Any:
        if "\0" in object_id:
            raise SuspiciousOperation("NUL in an address")
        return strict(super().change_view(request, object_id, form_url, extra_context))

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """What people did to it is in the events, wherever they did it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        subject = f"{self.opts.model_name} {self.key_of(unquote(object_id))}"
        return redirect(f"{reverse('admin:queuectl_event_changelist')}?{urlencode({'q': subject})}")

    def key_of(self, object_id: str) -> str:
        """What events call the object of this address."""
        return object_id

    def _refuse_hidden_action(self, request: HttpRequest) -> None:
        """An action that is not offered can only be asked for by a request that was made up."""
        asked = request.POST.get("action", "")
        names = {getattr(action, "__name__", action) for action in self.actions or ()}
        if asked in names and asked not in self.get_actions(request):
            raise PermissionDenied(f"You may not do this: {asked.replace('_', ' ')}")

    def actor(self, request: HttpRequest) -> Actor:
        return Actor(request.user.get_username(), "admin", user=request.user)

    def page(
        self,
        request: HttpRequest,
        template: str,
        title: str,
        context: dict[str, Any],
        status: int = 200,
    ) -> TemplateResponse:
        """A page of ours inside the admin's frame."""
        around = {**self.admin_site.each_context(request), "opts": self.opts, "title": title}
        return strict(TemplateResponse(request, template, around | context, status=status))

    def ask(
        self, request: HttpRequest, action: str, title: str, form: forms.Form, **context: Any
    ) -> TemplateResponse:
        """A plain page that asks, and posts the same action with the rows `selected`, confirmed."""
        context |= {"action": action, "form": form}
        status = 400 if form.errors else 200
        return self.page(request, "admin/queuectl/ask.html", title, context, status)

    def tell(self, request: HttpRequest, said: str) -> None:
        self.message_user(request, visible(said), messages.SUCCESS)

    def complain(self, request: HttpRequest, error: QueueCTLError) -> None:
        """What is wrong, and what is true or what to do."""
        text = f"{error}; {error.hint}" if error.hint else str(error)
        self.message_user(request, visible(text), messages.ERROR)

    def press(
        self,
        request: HttpRequest,
        queryset: QuerySet[Any],
        form: forms.Form,
        do: Callable[[Any, dict[str, Any]], str],
        *,
        action: str,
        title: str,
        warning: str = "",
    ) -> HttpResponse | None:
        """Ask, and once that is confirmed do it to each row; one whose state does not allow it does
        not stop the rest. More rows than a page has are refused.
        """
        most, rows = self.list_per_page, list(queryset[: self.list_per_page + 1])
        if len(rows) > most:
            message = f"At most {most} {self.opts.verbose_name_plural} in one go"
            self.complain(request, QueueCTLError(message, hint="choose fewer, and go on after"))
            return None
        if form.is_bound and form.is_valid():
            try:
                for row in rows:
                    self._each(request, row, form.cleaned_data, do)
                return None
            except InvalidField as error:
                refuse(form, error)
        context = {
            "selected": [row.pk for row in rows],
            "samples": [visible(str(row)) for row in rows[:SAMPLES]],
            "more": len(rows[SAMPLES:]),
        }
        return self.ask(request, action, title, form, warning=warning, **context)

    def _each(
        self, request: HttpRequest, row: Any, values: dict[str, Any], do: Callable[[Any, Any], str]
    ) -> None:
        try:
            self.tell(request, do(row, values))
        except (InvalidField, NotPermitted):
            raise
        except QueueCTLError as error:
            self.complain(request, error)


def spelled(name: str) -> Callable[..., str]:
    """A column or field of free text, with every control character spelled out."""

    @admin.display(description=name.replace("_", " "))
    def column(self: Window, row: Any) -> str:
        return visible(str(getattr(row, name)), keep="\n") or "-"

    return column


def confirmed(request: HttpRequest) -> Any:
    """What was posted by the page that asks; None for the action's own button."""
    return request.POST if "confirmed" in request.POST else None


def _refuse_wrong_keys(request: HttpRequest, kind: str) -> None:
    """Primary keys come from a page of ours: what cannot be one is no slip of a person."""
    for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
        number = key.isascii() and key.isdigit() and len(key) < 19
        if "\0" in key or len(key) > LONGEST_KEY or (kind == "BigAutoField" and not number):
            raise SuspiciousOperation("Not the key of a row")


class WindowFilter(admin.SimpleListFilter):
    """Rows of the last hour, day or week."""

    title = "created"
    parameter_name = "window"
    field = "created_at"
    spans = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7)}

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return [("1h", "last hour"), ("24h", "last 24 hours"), ("7d", "last 7 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        span = self.spans.get(self.value() or "")
        return queryset.filter(**{f"{self.field}__gte": dialect.now() - span}) if span else queryset
