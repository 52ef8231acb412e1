"""Django tasks on the queue: the decorator with our options, and the two frameworks there are.

`from jobs.tasks import task` is the decorator of Django's own tasks that also takes

    max_retries   retries after the first run, 0 to 100 (max_attempts: the same plus one)
    backoff       the n-th retry waits backoff^n seconds
    timeout       seconds after which a run is killed

and works on every version of Django that has tasks, or the django-tasks backport. Where the
framework's own decorator passes options on (Django 6.1, the backport), that one will do as well.
With a backend other than ours the options are left out: a test on the ImmediateBackend runs.
"""

from .decorator import task

__all__ = ["task"]
