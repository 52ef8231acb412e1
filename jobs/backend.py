"""The backend for Django tasks: TASKS = {"default": {"BACKEND": "jobs.backend.QueueCTLBackend"}}

Models are imported where they are used: a backend is built when `@task` runs, perhaps before
Django knows any app.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import F

from . import clock, validation
from .exceptions import InvalidField
from .states import JobState
from .tasks import frameworks, results
from .tasks.results import Told

if TYPE_CHECKING:
    from .models import Job

OPTIONS = ("ENQUEUE_ON_COMMIT",)
_NATIVE = frameworks.native()


class QueueCTLBackend(_NATIVE.Backend):  # type: ignore[name-defined, misc]
    """Stores tasks as jobs, in the caller's transaction, and reads their results.

    OPTIONS: `ENQUEUE_ON_COMMIT` (default False) stores them after the caller's transaction
    instead, for hosts whose queue is in another database than their data.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        self.framework = frameworks.asking()
        self.framework.Backend.__init__(self, alias, params)
        self.task_class = self.framework.QueueTask

    def validate_task(self, task: Any) -> None:
        """Raises the framework's InvalidTask, for our options too."""
        self.framework.Backend.validate_task(self, task)
        try:
            validation.CHECKS["queue"](task.queue_name)
            validation.task_options(**_options(task))
        except InvalidField as error:
            raise self.framework.InvalidTask(f"{error}: {error.hint}") from None

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Store a job for the task: it runs only if the caller's transaction commits.

        Raises InvalidTask for what cannot be stored as it is, TypeError for what is no JSON,
        ImproperlyConfigured where USE_TZ is False.
        """
        return self.enqueue_many([(task, args, kwargs)])[0]

    def enqueue_many(
        self, calls: Iterable[tuple[Any, Sequence[Any], Mapping[str, Any]]]
    ) -> list[Any]:
        """Store a job for each (task, args, kwargs), all or none; their results, in that order.

        All are checked before any is stored. Raises what `enqueue` does.
        """
        if not settings.USE_TZ:
            raise ImproperlyConfigured("QueueCTL needs USE_TZ = True in the settings")
        from . import operations

        asked = [self._asked(*call) for call in calls]
        told = [result for result, _ in asked]

        def store() -> None:
            at = operations.enqueue_tasks([request for _, request in asked])
            for result in told:
                object.__setattr__(result, "enqueued_at", at)
            for result in told:
                framework = frameworks.of(result.task) or self.framework
                framework.signals.task_enqueued.send(type(self), task_result=result)

        if asked and self.options.get("ENQUEUE_ON_COMMIT"):
            transaction.on_commit(store)
        elif asked:
            store()
        return told

    def _asked(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, validation.JobRequest]:
        """The result a task begins with, and the job it asks for, both checked."""
        self.validate_task(task)
        from . import operations

        framework = frameworks.of(task) or self.framework
        try:
            # Not in validate_task, which a decorator asks before its task has a name.
            results.must_be_found(task.module_path)
        except ValueError as error:
            raise framework.InvalidTask(str(error)) from None
        result = framework.TaskResult(
            task=task,
            id=operations.new_key(),
            status=framework.Status.READY,
            enqueued_at=None,
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=args,
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        try:
            request = validation.task_request(
                task.module_path,
                result.args,
                result.kwargs,
                key=result.id,
                queue=task.queue_name,
                priority=int(task.priority),
                run_at=task.run_after,
                now=clock.now(),
                **_options(task),
            )
        except InvalidField as error:
            raise framework.InvalidTask(f"{error}; {error.hint}".rstrip("; ")) from None
        return result, request

    def get_result(self, result_id: str) -> Any:
        """What became of a task, in the types of the framework it was made with.

        Raises TaskResultDoesNotExist. A task whose code is gone is answered all the same.
        """
        from . import dialect

        with dialect.one_view():
            job = _task_job(str(result_id))
            if job is None:
                raise self.framework.ResultDoesNotExist(result_id)
            told = _told(job)
        assert job.task is not None
        try:
            task = results.find(job.task)
        except Exception:  # whatever its module raises now
            task = results.forgotten(self.framework, job.task, self.alias)
        framework = frameworks.of(task) or self.framework
        stored = results.as_stored(task, queue=job.queue, priority=job.priority, run_at=job.run_at)
        return results.result(framework, stored, told, self.alias)

    def check(self, **kwargs: Any) -> Iterable[checks.CheckMessage]:
        """Whether the app is installed, and the options are ours."""
        if not apps.is_installed(__package__):
            yield checks.Error(
                f"The task backend '{self.alias}' needs the app '{__package__}'",
                hint=f"add '{__package__}' to INSTALLED_APPS",
                id="queuectl.E002",
            )
        for name in self.options.keys() - set(OPTIONS):
            yield checks.Error(
                f"The task backend '{self.alias}' has no option {name!r}",
                hint=f"its options: {', '.join(OPTIONS)}",
                id="queuectl.E003",
            )


def _options(task: Any) -> dict[str, Any]:
    """Ours, where the task has them: one made by a plain Task class has none."""
    names = ("max_retries", "timeout", "backoff")
    return {name: getattr(task, name, None) for name in names}


STATUS = {
    JobState.PENDING: "READY", JobState.SCHEDULED: "READY", JobState.BLOCKED: "READY",
    JobState.FAILED: "READY", JobState.PROCESSING: "RUNNING", JobState.COMPLETED: "SUCCESSFUL",
    JobState.DEAD: "FAILED", JobState.CANCELLED: "FAILED",
}  # fmt: skip


def _task_job(key: str) -> Job | None:
    from .models import Job

    if validation.storable(key) != key:
        return None
    return Job.objects.select_related("worker").filter(key=key, task__isnull=False).first()


def _told(job: Job) -> Told:
    given = job.args if isinstance(job.args, dict) else {}  # a hand may have put anything there
    told = Told(
        id=job.key,
        status=STATUS[JobState(job.state)],
        args=given.get("args", []),
        kwargs=given.get("kwargs", {}),
        enqueued_at=job.created_at,
        finished_at=job.finished_at,
        return_value=job.result,
    )
    columns = ("job", "started_at", "outcome", "error", "traceback")
    # In a caller's transaction the two reads may see two moments: an attempt that ended between
    # them has a number beyond the job's runs, and is still the one that runs.
    history = job.history.filter(number__lte=job.runs).order_by("number").only(*columns)
    for run in history.annotate(by=F("worker__name")):
        told.started_at = told.started_at or run.started_at
        told.last_attempted_at = run.started_at or told.last_attempted_at
        told.worker_ids.append(run.by or "")
        if run.outcome != "succeeded":
            path = results.error_path(run.error, run.outcome)
            told.errors.append((path, run.traceback or run.error))
    told.worker_ids = results.claimants(told.worker_ids, job.runs)
    if job.state == JobState.DEAD and not told.errors:
        # Waited for in vain: no worker had the code.
        told.errors.append(("builtins.ImportError", job.last_error))
    if job.state == JobState.PROCESSING and job.started_at is not None and job.worker is not None:
        told.started_at = told.started_at or job.started_at
        told.last_attempted_at = job.started_at
        told.worker_ids.append(job.worker.name)
    return told
