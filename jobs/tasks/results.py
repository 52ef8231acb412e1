"""A stored task and its result in the framework's own types, built without asking anybody.

Used on both sides: by the backend from rows, by a runner from the work it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.utils.module_loading import import_string

from ..validation import MAX_RUNS, TASK_PRIORITY
from . import frameworks
from .frameworks import Framework

LOWEST, HIGHEST = -100, 100

_SCRIPTS = ("__main__.", "__mp_main__.")
"""What a process calls the file that it was started with, and `multiprocessing` in its children."""


@dataclass(slots=True, kw_only=True)
class Told:
    """What is known of a task's life so far."""

    id: str
    status: str
    args: Sequence[Any]
    kwargs: dict[str, Any]
    enqueued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    last_attempted_at: datetime | None = None
    errors: list[tuple[str, str]] = field(default_factory=list)
    """Path of the exception's class, and the traceback."""

    worker_ids: list[str] = field(default_factory=list)
    return_value: Any = None


class Running(NamedTuple):
    """The run that this process is in."""

    id: str
    number: int
    worker: str
    since: datetime


running: Running | None = None
"""Its row does not say yet that it has begun where it was claimed ahead; set by who calls the task."""


def result(framework: Framework, task: Any, told: Told, backend: str) -> Any:
    """The TaskResult that tells it."""
    found = framework.TaskResult(
        task=task,
        id=told.id,
        status=framework.Status(told.status),
        enqueued_at=told.enqueued_at,
        started_at=told.started_at,
        finished_at=told.finished_at,
        last_attempted_at=told.last_attempted_at,
        args=told.args,
        kwargs=told.kwargs,
        backend=backend,
        errors=[
            framework.TaskError(exception_class_path=path, traceback=text)
            for path, text in told.errors
        ],
        worker_ids=told.worker_ids,
    )
    object.__setattr__(found, "_return_value", told.return_value)
    return found


def claimants(workers: Sequence[str], runs: int) -> list[str]:
    """The workers of so many runs, of which some may have left no attempt: those come first, unnamed.

    Whoever held such a run died, perhaps before it began. It is counted all the same, so that
    `context.attempt` is never the same in two runs. More than MAX_RUNS only a hand can have stored;
    those beyond are left out.
    """
    return [*[""] * (min(runs, MAX_RUNS) - len(workers)), *workers]


def find(path: str) -> Any:
    """The Task at a path. Raises ImportError, naming the path, where there is none."""
    found = import_string(path)
    if frameworks.of(found) is None:
        raise ImportError(f"{path} is no task")
    return found


@lru_cache(1024)
def must_be_found(path: str) -> None:
    """Raises ValueError where a worker would find no task. Found once, it is not looked for again."""
    if path.startswith(_SCRIPTS):
        raise ValueError(
            f"no worker can find the task at {path!r}: move it from the script into a module"
        )
    try:
        find(path)
    except (Exception, SystemExit) as error:  # whatever its module raises
        raise ValueError(
            f"no worker can find the task at {path!r}: in its module it must have the name of its function"
        ) from error


def at_home(framework: Framework, task: Any) -> Any:
    """The task as one of a backend of ours: its own, else the first that TASKS names.

    By `using` a call may have come to us that its code gives to another, and a job does not say to which
    of ours.
    """
    for alias in (task.backend, *settings.TASKS):
        with suppress(Exception):  # one that cannot be imported here is none of ours
            if isinstance(getattr(framework.backends[alias], "framework", None), Framework):
                return task if alias == task.backend else _copy(task, backend=alias)
    return task


def as_stored(
    task: Any, *, queue: str, priority: int, run_at: datetime | None, backend: str
) -> Any:
    """The task with the queue, priority and time of its job, which a person may have changed.

    Not by `using`, which would refuse what the backend's QUEUES do not name.
    """
    standard = max(LOWEST, min(HIGHEST, priority - TASK_PRIORITY))
    stored = (queue, standard, run_at, backend)
    if stored == (task.queue_name, task.priority, task.run_after, task.backend):
        return task
    return _copy(task, queue_name=queue, priority=standard, run_after=run_at, backend=backend)


def forgotten(framework: Framework, path: str, backend: str) -> Any:
    """A task whose function is no longer there: it has its path and can be asked, not called."""
    module, _, name = path.rpartition(".")
    task = object.__new__(framework.QueueTask)
    values = {"func": _missing(module, name), "backend": backend, "takes_context": False}
    for each in fields(framework.QueueTask):
        default = {"priority": 0, "queue_name": "default"}.get(each.name)
        object.__setattr__(task, each.name, values.get(each.name, default))
    return task


def _copy(task: Any, **changes: Any) -> Any:
    copy = object.__new__(type(task))
    for each in fields(task):
        object.__setattr__(copy, each.name, changes.get(each.name, getattr(task, each.name)))
    return copy


def _missing(module: str, name: str) -> Callable[..., Any]:
    def missing(*args: Any, **kwargs: Any) -> Any:
        raise ImportError(f"{module}.{name} is no longer there")

    missing.__module__, missing.__qualname__, missing.__name__ = module, name, name
    return missing


def error_path(error: str, outcome: str) -> str:
    """The path of the exception's class, from an attempt's error as `format_exception_only` says it."""
    if outcome == "timed_out":
        return "builtins.TimeoutError"
    if outcome != "failed":
        return "jobs.exceptions.AttemptLost"
    first, _, _ = error.partition("\n")  # notes follow it, also where there is no message
    name = first.partition(":")[0].strip()
    if not all(part.isidentifier() or part == "<locals>" for part in name.split(".")):
        return "jobs.exceptions.AttemptLost"
    return name if "." in name else f"builtins.{name}"


# The types' own methods: a subclass may answer str() or int() with itself or anything else.
_PLAIN: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
}


def normalize(value: Any) -> Any:
    """Mappings, sequences and UTF-8 bytes as JSON's own types. Raises TypeError and ValueError.

    Exactly those types: of a subclass (a SafeString, a member of TextChoices) the plain value.
    """
    if value is None or isinstance(value, bool):
        return value
    for plain, convert in _PLAIN.items():
        if isinstance(value, plain):
            return convert(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {normalize(key): normalize(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [normalize(inner) for inner in value]
    raise TypeError(f"{type(value).__name__} is no JSON: {value!r:.60}")
