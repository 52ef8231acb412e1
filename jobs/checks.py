"""What `manage.py check` says of this app's settings."""

from __future__ import annotations

from typing import Any

from django.core import checks

from . import conf


@checks.register
def settings_are_sound(**given: Any) -> list[checks.CheckMessage]:
    """One error for each thing that is wrong in QUEUECTL."""
    return [checks.Error(problem, id="queuectl.E001") for problem in conf.read()[1]]
