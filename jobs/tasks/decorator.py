from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from . import frameworks

OPTIONS = ("max_retries", "max_attempts", "backoff", "timeout")


def task(
    function: Callable[..., Any] | None = None,
    *,
    priority: int = 0,
    queue_name: str = "default",
    backend: str = "default",
    takes_context: bool = False,
    **options: Any,
) -> Any:
    """Make a module-level function a task. Raises TypeError for an option that is none of ours."""
    if unknown := options.keys() - set(OPTIONS):
        raise TypeError(
            f"task() has no option {', '.join(sorted(unknown))}; it has {', '.join(OPTIONS)}"
        )

    def decorate(func: Callable[..., Any]) -> Any:
        native = frameworks.native()
        made_by = native.backends[backend].task_class
        if issubclass(native.QueueTask, made_by):
            # Any backend takes it that has no class of its own, and one of ours may get the task by `using`.
            made_by = native.QueueTask
        known = {field.name for field in fields(made_by)}
        return made_by(
            func=func,
            priority=priority,
            queue_name=queue_name,
            backend=backend,
            takes_context=takes_context,
            run_after=None,
            **{name: value for name, value in options.items() if name in known},
        )

    return decorate if function is None else decorate(function)
