import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    *,
    timeout: float = 10,
    every: float = 0.02,
    message: str | Callable[[], str] = "the condition never held",
) -> T:
    """The first true value of `condition()`; fails with `message` when none came in time."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"after {timeout:g} s: {message() if callable(message) else message}"
            )
        time.sleep(every)
    return value
