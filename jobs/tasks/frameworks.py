"""The two frameworks of Django tasks: `django.tasks` of Django 6, and `django_tasks`, its backport.

One site may use both at once, since libraries import the backport on Django 6 too. Both read the
setting TASKS and build one backend each by the same path; every task is answered in the types
of the framework it was made with.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

NATIVE, BACKPORT = "django.tasks", "django_tasks"


@dataclass(frozen=True, slots=True)
class Framework:
    """What we need of one of them, by one name each."""

    name: str
    Backend: type[Any]
    QueueTask: type[Any]
    TaskResult: type[Any]
    TaskError: type[Any]
    TaskContext: type[Any]
    Status: type[Any]
    InvalidTask: type[Exception]
    ResultDoesNotExist: type[Exception]
    signals: Any
    backends: Any

    @property
    def logger(self) -> str:
        return self.name


def native() -> Framework:
    """Django's own where this Django has it, else the backport. Raises ImportError for neither."""
    return _load(NATIVE if find_spec(NATIVE) else BACKPORT)


def of(task: object) -> Framework | None:
    """The framework whose Task this is; None for anything else."""
    for cls in type(task).__mro__:
        if cls.__name__ == "Task":
            for name in (NATIVE, BACKPORT):
                if cls.__module__ == f"{name}.base":
                    return _load(name)
    return None


def asking() -> Framework:
    """The framework that builds a backend just now: its handler is among our callers.

    It says so in no argument; and what it then calls a task class has to be one of its own.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if (name := frame.f_globals.get("__name__")) in (NATIVE, BACKPORT):
            return _load(name)
        frame = frame.f_back  # type: ignore[assignment]
    return native()


@cache
def _load(name: str) -> Framework:
    top, base = import_module(name), import_module(f"{name}.base")
    exceptions = import_module(f"{name}.exceptions")
    ours = import_module(f"{__package__}.{'native' if name == NATIVE else 'backport'}")
    suffix = "" if name == NATIVE else "Error"
    return Framework(
        name=name,
        Backend=import_module(f"{name}.backends.base").BaseTaskBackend,
        QueueTask=ours.QueueTask,
        TaskResult=base.TaskResult,
        TaskError=base.TaskError,
        TaskContext=base.TaskContext,
        Status=base.TaskResultStatus,
        InvalidTask=getattr(exceptions, f"InvalidTask{suffix}"),
        ResultDoesNotExist=exceptions.TaskResultDoesNotExist,
        signals=import_module(f"{name}.signals"),
        backends=top.task_backends,
    )
