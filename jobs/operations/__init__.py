"""What people do: the one door for every surface.

Each operation is given its actor, refuses there what that actor may not do, and leaves one
Event for a change (an enqueue needs none: the job names who enqueued it).
"""

from .actor import Actor
from .enqueue import Enqueued, enqueue, enqueue_many
from .jobs import cancel, discard, discard_all_dead, find, retry, retry_all_dead, run_now
from .settings import set_setting
from .workers import stop_workers

__all__ = [
    "Actor",
    "Enqueued",
    "cancel",
    "discard",
    "discard_all_dead",
    "enqueue",
    "enqueue_many",
    "find",
    "retry",
    "retry_all_dead",
    "run_now",
    "set_setting",
    "stop_workers",
]
