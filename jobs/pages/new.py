"""The forms for a new job. They only collect: `validation` checks, and its words stand beside the field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils import timezone

from .. import conf, operations
from ..commands import Parameter, Template
from ..exceptions import DuplicateId, InvalidField
from ..models import Setting
from ..operations import Actor, Enqueued, Kind
from .verbs import WholeField, may_not_submit, refuse


class JobForm(forms.Form):
    """What every new job may be given, as the original has it, with the id left to choice and a queue."""

    id = forms.CharField(
        label="Job ID",
        required=False,
        strip=False,
        help_text="Optional; one is made if left empty.",
        widget=forms.TextInput(attrs={"placeholder": "job-001", "autocomplete": "off"}),
    )
    priority = WholeField(
        label="Priority", required=False, help_text="-1000 to 1000, higher first", initial=5
    )
    max_retries = WholeField(label="Max Retries", required=False, help_text="After the first run")
    run_at = forms.CharField(
        label="Run At",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"}),
    )
    queue = forms.CharField(
        label="Queue",
        required=False,
        strip=False,
        widget=forms.TextInput(attrs={"placeholder": "default", "list": "q-queues"}),
    )

    def __init__(
        self, data: Mapping[str, Any] | None = None, initial: Mapping[str, Any] | None = None
    ) -> None:
        retries = {"max_retries": Setting.objects.policy().max_retries}
        super().__init__(data, initial={**retries, **(initial or {})})
        zone = timezone.get_current_timezone_name()
        self.fields["run_at"].help_text = f"Optional; as soon as it can if left empty. In {zone}."

    def job(self) -> dict[str, Any]:
        """What is asked for, as `operations.enqueue` takes it."""
        return {name: value for name, value in self.cleaned_data.items() if value not in ("", None)}

    def enqueue(self, actor: Actor) -> Enqueued | None:
        """Store the job; None where something is wrong, which the form then tells.

        Raises the refusals that are no field's, NotPermitted above all.
        """
        if not self.is_valid():
            return None
        try:
            return operations.enqueue(self.job(), actor)
        except InvalidField as error:
            refuse(self, error)
        except DuplicateId as error:
            self.add_error("id", f"{error}; {error.hint}")
        return None


class CommandForm(JobForm):
    """Create New Job: a command for the shell."""

    field_order = ("id", "command")

    command = forms.CharField(
        label="Command",
        strip=False,
        widget=forms.Textarea(
            attrs={"rows": 3, "placeholder": "echo Hello World", "spellcheck": "false"}
        ),
    )

    def clean_command(self) -> str:
        """Browsers send each line's end as CR LF, and a shell takes the CR for a part of the line."""
        return str(self.cleaned_data["command"]).replace("\r\n", "\n")


class TemplateForm(JobForm):
    """A registered command: a field for each parameter, then those of every job."""

    def __init__(self, template: Template, data: Mapping[str, Any] | None = None) -> None:
        defaults = {name: template.fields[name] for name in ("priority", "max_retries", "queue")
                    if name in template.fields}  # fmt: skip
        super().__init__(data, initial=defaults)
        self.template = template
        for parameter in template.parameters.values():
            self.fields[_PREFIX + parameter.name] = _field(parameter)
        self.order_fields([name for name in self.fields if name.startswith(_PREFIX)])

    def job(self) -> dict[str, Any]:
        given = super().job()
        values = {
            name: given.pop(_PREFIX + name)
            for name in self.template.parameters
            if _PREFIX + name in given
        }
        return {**given, "template": self.template.name, "parameters": values}


_PREFIX = "parameters."


def _field(parameter: Parameter) -> forms.Field:
    accepts = f"{parameter.accepts[0].upper()}{parameter.accepts[1:]}"
    if parameter.type == "choice":
        accepts = ""  # its list says it
    if parameter.optional:
        accepts = f"{accepts}; optional" if accepts else "Optional"
    options: dict[str, Any] = {
        "label": parameter.name.replace("_", " ").capitalize(),
        "help_text": re.sub(r"([^.])$", r"\1.", parameter.help) + f" {accepts}" * bool(accepts),
        "required": parameter.required,
        "initial": parameter.default,
    }
    bounds = parameter.bounds
    if parameter.type == "int":
        number = forms.NumberInput(attrs={"min": bounds["min"], "max": bounds["max"]})
        return WholeField(widget=number, **options)
    if parameter.type == "choice":
        empty = [("", "")] if parameter.default is None else []
        choices = forms.Select(choices=[*empty, *((c, c) for c in bounds["choices"])])
        return forms.CharField(widget=choices, strip=False, **options)
    longest = {"maxlength": bounds["max_length"]} if "max_length" in bounds else {}
    text = forms.TextInput(attrs={"spellcheck": "false", "autocomplete": "off", **longest})
    return forms.CharField(widget=text, strip=False, **options)


def ways(user: Any) -> tuple[bool, list[Template], str]:
    """What this person may submit here: shell commands, which templates; else why neither."""
    templates = list(conf.get().COMMANDS.values())
    no_shell = may_not_submit(user, Kind.SHELL)
    no_template = may_not_submit(user, Kind.TEMPLATE) if templates else no_shell
    offered = [] if no_template else templates
    return not no_shell, offered, "" if offered or not no_shell else no_template
