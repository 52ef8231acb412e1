"""What `manage.py check` says of the dict QUEUECTL, before a worker has to refuse it."""

from __future__ import annotations

from typing import Any

from django.core import checks

from . import conf


@checks.register
def settings_are_sound(**_: Any) -> list[checks.CheckMessage]:
    """An error for each thing that is wrong in QUEUECTL."""
    return [checks.Error(problem, id="queuectl.E001") for problem in conf.read()[1]]


@checks.register
def users_are_known(**_: Any) -> list[checks.CheckMessage]:
    """A user unknown on this host is a warning, since a web host may do without.

    Whether this process may become another user is for a worker to say: a web server should not.
    """
    from .execution import confine  # not with every command: most run nothing

    settings, problems = conf.read()
    if problems:
        return []
    return [
        checks.Warning(
            f"On this host {problem}", hint="see QUEUECTL['CONFINE']", id="queuectl.W001"
        )
        for problem in confine.unknown(settings.CONFINE)
    ]
