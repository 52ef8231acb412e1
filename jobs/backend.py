"""The backend for Django tasks: TASKS = {"default": {"BACKEND": "jobs.backend.QueueCTLBackend"}}

Models are imported where they are used: a backend is built when `@task` runs, perhaps before
Django knows any app.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
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
    instead, for hosts whose queue is in another database than their data: that on the default
    database, or on the one it names by its alias.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        self.framework = frameworks.asking()
        self.framework.Backend.__init__(self, alias, params)
        self.params, self.options = params, params.get("OPTIONS") or {}
        cls: Any = type(self)
        if cls.task_class is _NATIVE.Backend.task_class:  # else a subclass has its own
            self.task_class: Any = self.framework.QueueTask

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

        if asked and (of := self.options.get("ENQUEUE_ON_COMMIT")):
            transaction.on_commit(store, using=None if of is True else of)
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
        told = Told(id=operations.new_key(), status="READY", args=args, kwargs=dict(kwargs))
        try:
            result = results.result(framework, task, told, self.alias)
        except RecursionError:
            hint = "its arguments are nested too deep, or hold themselves"
            raise framework.InvalidTask(f"Invalid args of {task.module_path}: {hint}") from None
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
        except (Exception, SystemExit):  # whatever its module raises now
            task = results.forgotten(self.framework, job.task, self.alias)
        framework = frameworks.of(task) or self.framework
        stored = results.as_stored(
            task, queue=job.queue, priority=job.priority, run_at=job.run_at, backend=self.alias
        )
        return results.result(framework, stored, told, self.alias)

    def check(self, **kwargs: Any) -> Iterable[checks.CheckMessage]:
        """Whether the app is installed, and the options are ours."""
        if not apps.is_installed(__package__):
            yield checks.Error(
                f"The task backend '{self.alias}' needs the app '{__package__}'",
                hint=f"add '{__package__}' to INSTALLED_APPS",
                id="queuectl.E002",
            )
        for wrong, hint in self._misunderstandings():
            yield checks.Error(
                f"The task backend '{self.alias}' {wrong}", hint=hint, id="queuectl.E003"
            )

    def _misunderstandings(self) -> Iterator[tuple[str, str]]:
        """What TASKS says of this backend and cannot mean, each with what to do."""
        if not isinstance(self.options, Mapping):
            yield "has OPTIONS that are no mapping", f"its options: {', '.join(OPTIONS)}"
            return
        for name in self.options.keys() - set(OPTIONS):
            yield f"has no option {name!r}", f"its options: {', '.join(OPTIONS)}"
        for name in self.params.keys() & set(OPTIONS):
            yield f"has {name} beside its OPTIONS", f'write "OPTIONS": {{"{name}": …}}'
        of = self.options.get("ENQUEUE_ON_COMMIT", False)
        if not isinstance(of, bool) and not (isinstance(of, str) and of in settings.DATABASES):
            accepted = "True, False, or the alias of a database"
            yield f"has ENQUEUE_ON_COMMIT = {of!r}", f"it takes {accepted}"
        queues = self.params.get("QUEUES", [])
        if isinstance(queues, str):
            yield f"has QUEUES = {queues!r}", f"it takes a list: [{queues!r}]"


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
    if job.state == JobState.PROCESSING and (now_running := _running(job)):
        began, worker = now_running
        told.started_at = told.started_at or began
        told.last_attempted_at = began
        told.worker_ids.append(worker)
    return told


def _running(job: Job) -> tuple[datetime, str] | None:
    """When the run of a claimed job began, and by which worker; None where it has not, as far as is known."""
    here = results.running
    if here and (here.id, here.number) == (job.key, job.runs + 1):
        return here.since, here.worker
    if job.started_at is None or job.worker is None:
        return None
    return job.started_at, job.worker.name
