"""What `manage.py check` says of the dict QUEUECTL, before a worker has to refuse it."""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from . import conf


def settings(**_: Any) -> list[checks.CheckMessage]:
    """A wrong setting is an error; a user unknown on this host a warning, since a web host may do without.

    Whether this process may become another user is for a worker to say: a web server should not.
    """
    from .execution import confine  # not with every command: most run nothing

    try:
        given = conf.get().CONFINE
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), id="queuectl.E001")]
    return [
        checks.Warning(
            f"On this host {problem}", hint="see QUEUECTL['CONFINE']", id="queuectl.W001"
        )
        for problem in confine.unknown(given)
    ]
