"""What people ask for: figures and objects of one moment, by bounded queries only."""

from .counting import CAP, Count, count_dead
from .figures import Metrics, metrics
from .objects import (
    attempt_object,
    job_object,
    metrics_object,
    rfc3339,
    snapshot_object,
    worker_object,
)
from .overview import (
    QueueFigures,
    Snapshot,
    busy_slots,
    figures_of,
    held_up,
    live_workers,
    not_startable,
    snapshot,
    unserved,
)
from .reading import (
    attempts,
    end_of_output,
    left_by_task,
    newest,
    newest_attempts,
    output,
    returned,
    stream,
)

__all__ = [
    "CAP",
    "Count",
    "Metrics",
    "QueueFigures",
    "Snapshot",
    "attempt_object",
    "attempts",
    "busy_slots",
    "count_dead",
    "end_of_output",
    "figures_of",
    "held_up",
    "job_object",
    "left_by_task",
    "live_workers",
    "metrics",
    "metrics_object",
    "newest",
    "newest_attempts",
    "not_startable",
    "output",
    "returned",
    "rfc3339",
    "snapshot",
    "snapshot_object",
    "stream",
    "unserved",
    "worker_object",
]
