from __future__ import annotations

from dataclasses import dataclass

from django.tasks.base import Task
from django.tasks.exceptions import InvalidTask

from .options import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTask(Options, Task):  # type: ignore[type-arg]
    """A task of django.tasks with our options. Raises InvalidTask where one is out of bounds."""

    max_retries: int | None = None
    max_attempts: int | None = None
    backoff: float | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        try:
            self.settle()
        except ValueError as error:
            raise InvalidTask(str(error)) from None
        # Not super(): a class with slots is made anew by the decorator, and super() knows the old one.
        Task.__post_init__(self)
