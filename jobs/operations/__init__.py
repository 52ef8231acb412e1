"""What people do: the one door for every surface.

Each operation is given its actor, refuses there what that actor may not do, and leaves one
Event for a change (an enqueue needs none: the job names who enqueued it), and one for a refusal.
"""

from .actor import Actor
from .asked import checked
from .enqueue import enqueue, enqueue_many, enqueue_tasks
from .finding import find
from .many_jobs import (
    Done,
    cancel_many,
    discard_many,
    move_many,
    retry_many,
    run_now_many,
    set_priority_many,
)
from .one_job import cancel, discard, move, retry, run_again, run_now, set_priority
from .policy import (
    Kind,
    kind_of,
    must,
    must_start_worker,
    must_submit,
    refusal_to_start_worker,
    refusal_to_submit,
)
from .queues import pause, resume
from .settings import set_setting
from .storing import Enqueued, new_key
from .workers import start_worker, stop_workers

__all__ = [
    "Actor",
    "Done",
    "Enqueued",
    "Kind",
    "cancel",
    "cancel_many",
    "checked",
    "discard",
    "discard_many",
    "enqueue",
    "enqueue_many",
    "enqueue_tasks",
    "find",
    "kind_of",
    "move",
    "move_many",
    "must",
    "must_start_worker",
    "must_submit",
    "new_key",
    "pause",
    "refusal_to_start_worker",
    "refusal_to_submit",
    "resume",
    "retry",
    "retry_many",
    "run_again",
    "run_now",
    "run_now_many",
    "set_priority",
    "set_priority_many",
    "set_setting",
    "start_worker",
    "stop_workers",
]
