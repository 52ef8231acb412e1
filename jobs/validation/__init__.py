"""The one gate for what people ask: it checks, names the field and says what is accepted.

Values are never coerced: a number is not an id, `true` is not 1, "5 " is not 5.
"""

from .fields import CHECKS, MAX_ID, MAX_RUNS, MAX_TIMEOUT, moment, queue, showable, worker_name
from .requests import (
    IGNORED,
    TASK_PRIORITY,
    JobRequest,
    digest,
    job_request,
    task_args,
    task_options,
    task_path,
    task_request,
)
from .text import MOST_NAMES, closest, nearest, quoted, shown, storable, visible

__all__ = [
    "CHECKS",
    "IGNORED",
    "MAX_ID",
    "MAX_RUNS",
    "MAX_TIMEOUT",
    "MOST_NAMES",
    "TASK_PRIORITY",
    "JobRequest",
    "closest",
    "digest",
    "job_request",
    "moment",
    "nearest",
    "queue",
    "quoted",
    "showable",
    "shown",
    "storable",
    "task_args",
    "task_options",
    "task_path",
    "task_request",
    "visible",
    "worker_name",
]
