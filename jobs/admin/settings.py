from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from .. import conf, operations
from ..exceptions import InvalidField
from ..models import Setting
from ..pages.verbs import refuse
from .window import Window


class ValueForm(forms.Form):
    value = forms.CharField(strip=False)

    def __init__(self, data: Any, setting: conf.RuntimeSetting, value: int | float) -> None:
        super().__init__(data, initial={"value": value})
        self.setting = setting
        self.fields["value"].help_text = f"{setting.low:g} to {setting.high:.12g}: {setting.help}"

    def store(self, actor: operations.Actor) -> bool:
        """Whether it was stored; if not, the form tells why."""
        if self.is_valid():
            try:
                operations.set_setting(self.setting.name, self.cleaned_data["value"], actor)
                return True
            except InvalidField as error:
                # The field is named after the setting, and here there is but one.
                error.field = "value"
                refuse(self, error)
        return False


@admin.register(Setting)
class SettingAdmin(Window):
    """All settings there are, stored or not: the table has rows of those that were set only."""

    actions = None

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may_change = request.user.has_perm("queuectl.change_setting")
        return may_change and self.has_view_permission(request)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = {row.key: row for row in Setting.objects.all()}
        settings = [(setting, rows.get(name)) for name, setting in conf.RUNTIME.items()]
        context = {"settings": settings, "may_change": self.has_change_permission(request)}
        return self.page(request, "admin/queuectl/setting/list.html", "Settings", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        setting = conf.RUNTIME.get(unquote(object_id))
        if setting is None:
            raise Http404("No setting has this name")
        value = Setting.objects.stored().get(setting.name, setting.default)
        form = ValueForm(request.POST if request.method == "POST" else None, setting, value)
        if request.method == "POST" and form.store(self.actor(request)):
            said = f"Configuration '{setting.name}' set to {form.cleaned_data['value']}"
            self.tell(request, said)
            return redirect("admin:queuectl_setting_changelist")
        context = {
            "form": form,
            "setting": setting,
            "may_change": self.has_change_permission(request),
        }
        status = 400 if form.errors else 200
        return self.page(request, "admin/queuectl/setting/edit.html", setting.name, context, status)
