"""What `manage.py check` says of the dict QUEUECTL, before a worker has to refuse it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings as site
from django.core import checks
from django.db import router

from . import conf, dialect


@checks.register
def settings_are_sound(**_: Any) -> list[checks.CheckMessage]:
    """An error for each thing that is wrong in QUEUECTL."""
    return [checks.Error(problem, id="queuectl.E001") for problem in conf.read()[1]]


@checks.register
def database_is_one_we_know(**_: Any) -> list[checks.CheckMessage]:
    """An error for a database that is neither SQLite nor PostgreSQL, or that the models do not go to."""
    if conf.read()[1]:
        return []
    return list(_database_problems())


def _database_problems() -> Iterator[checks.CheckMessage]:
    alias = conf.get().DATABASE
    if (vendor := dialect.connection().vendor) not in dialect.VENDORS:
        yield checks.Error(
            f"QueueCTL cannot keep its queue in the database {alias!r}, which is {vendor}",
            hint="name one of SQLite or PostgreSQL in QUEUECTL['DATABASE']",
            id="queuectl.E005",
        )
    elif strayed := _sent_elsewhere(alias):
        yield checks.Error(
            f"The models of QueueCTL go to the database {strayed!r}, and the queue is in {alias!r}",
            hint="leave django.db.router.routers with the router that the app puts first",
            id="queuectl.E007",
        )


def _sent_elsewhere(alias: str) -> str:
    """Another database to which a model goes; "" where each goes to this one."""
    asked = (router.db_for_read, router.db_for_write)
    models = apps.get_app_config("queuectl").get_models()
    return next((to for m in models for ask in asked if (to := ask(m)) != alias), "")


@checks.register
def times_are_aware(**_: Any) -> list[checks.CheckMessage]:
    """An error where Django keeps times without a zone: a lease must not jump with the clock."""
    if site.USE_TZ:
        return []
    hint = "set USE_TZ = True; TIME_ZONE still says in which zone people see times"
    return [checks.Error("QueueCTL needs USE_TZ = True", hint=hint, id="queuectl.E006")]


@checks.register(checks.Tags.database)
def tables_are_of_this_version(
    databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """A warning that names the migrations which are missing; only `check --database` asks.

    No error: `migrate` asks first, too, and an error would keep it from putting this right.
    """
    if sys.argv[1:2] == ["migrate"]:
        return []
    if conf.read()[1] or any(_database_problems()) or dialect.alias() not in (databases or ()):
        return []
    missing = dialect.unapplied("queuectl")
    if not missing:
        return []
    return [
        checks.Warning(
            f"QueueCTL's tables in the database {dialect.alias()!r} are not those of this version: "
            f"migrations not applied: {', '.join(missing)}",
            hint=dialect.how_to_migrate(),
            id="queuectl.W002",
        )
    ]


@checks.register
def users_can_be_asked_for(**_: Any) -> list[checks.CheckMessage]:
    """An error where jobs wait for users to be active, and the site has no users."""
    settings, problems = conf.read()
    name = "HOLD_JOBS_OF_DISABLED_USERS"
    if problems or not getattr(settings, name) or apps.is_installed("django.contrib.auth"):
        return []
    problem = f"QUEUECTL['{name}'] needs django.contrib.auth in INSTALLED_APPS"
    return [checks.Error(problem, hint="add it, or leave the setting out", id="queuectl.E008")]


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
