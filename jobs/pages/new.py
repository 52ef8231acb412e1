"""The form for a new job. It only collects: `validation` checks, and its words stand beside the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils import timezone

from .. import operations
from ..exceptions import DuplicateId, InvalidField
from ..models import Setting
from ..operations import Actor, Enqueued
from .verbs import WholeField, refuse


class NewJobForm(forms.Form):
    """Create New Job, as the original has it, with the id left to choice and a queue."""

    id = forms.CharField(
        label="Job ID",
        required=False,
        strip=False,
        help_text="Optional; one is made if left empty.",
        widget=forms.TextInput(attrs={"placeholder": "job-001", "autocomplete": "off"}),
    )
    command = forms.CharField(
        label="Command",
        strip=False,
        widget=forms.Textarea(
            attrs={"rows": 3, "placeholder": "echo Hello World", "spellcheck": "false"}
        ),
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

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, initial={"max_retries": Setting.objects.policy().max_retries})
        zone = timezone.get_current_timezone_name()
        self.fields["run_at"].help_text = f"Optional; as soon as it can if left empty. In {zone}."

    def enqueue(self, actor: Actor) -> Enqueued | None:
        """Store the job; None where something is wrong, which the form then tells.

        Raises the refusals that are no field's, NotPermitted above all.
        """
        if not self.is_valid():
            return None
        given = {
            name: value for name, value in self.cleaned_data.items() if value not in ("", None)
        }
        try:
            return operations.enqueue(given, actor)
        except InvalidField as error:
            refuse(self, error)
        except DuplicateId as error:
            self.add_error("id", f"{error}; {error.hint}")
        return None
