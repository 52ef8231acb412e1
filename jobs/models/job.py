from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import F, Q

from .. import dialect, signatures
from ..states import ACTIVE, FINAL, WAITING, JobState
from .attempt import Attempt
from .legible import Legible, LegibleQuerySet
from .output import Output

CHOICES = [(state.value, state.value) for state in JobState]
# Migrations hold plain words, not members of an enum that may move.
_STATES = [state.value for state in JobState]
_ACTIVE = [state.value for state in ACTIVE]
_FINAL = [state.value for state in FINAL]
INPUT = ("command", "argv", "task", "args", "cwd", "env")
"""What execution is given: long perhaps, and perhaps spoilt."""

LONGEST_NAME = 150
"""Characters that are kept of who enqueued a job, or acts."""

CLAIM_ORDER = ("-priority", "due_at", "id")


class JobQuerySet(LegibleQuerySet["Job"]):
    """What the one table can do. Adjectives filter; verbs write and return what they changed."""

    def pending(self) -> JobQuerySet:
        return self.filter(state=JobState.PENDING)

    def processing(self) -> JobQuerySet:
        return self.filter(state=JobState.PROCESSING)

    def dead(self) -> JobQuerySet:
        return self.filter(state=JobState.DEAD)

    def waiting(self) -> JobQuerySet:
        """Neither final nor in a worker's hands."""
        return self.filter(state__in=WAITING)

    def active(self) -> JobQuerySet:
        """Those that have their unique_key to themselves, as the index of it says that."""
        return self.filter(state__in=dialect.spelt(_ACTIVE))

    def in_state(self, state: JobState) -> JobQuerySet:
        """Those in one state, as the partial indexes say that: counted without a look into their rows."""
        [word] = dialect.spelt([state.value])
        rows = self.filter(state=word)
        return rows.filter(finished_at__isnull=False) if state in FINAL else rows

    def due(self, state: JobState, now: datetime) -> JobQuerySet:
        """Jobs of a timed state whose time has come, longest due first."""
        return self.filter(state=state, due_at__lte=now).order_by("due_at")

    def locked(self) -> JobQuerySet:
        """Lock the rows as they are read, passing over those another transaction holds."""
        return self.select_for_update(skip_locked=True, of=("self",))

    def held_by(self, worker_id: int) -> JobQuerySet:
        return self.processing().filter(worker_id=worker_id)

    def for_outcome(self) -> JobQuerySet:
        """Only what is needed to say what became of them."""
        return self.defer(*INPUT, "result", "last_error")

    def stray(self, now: datetime, lease: timedelta) -> JobQuerySet:
        """Claimed more than a lease ago by a worker whose row is closed or gone.

        Or, by a clock that was set back since, more than a lease ahead.
        """
        nobody = Q(worker__isnull=True) | Q(worker__stopped_at__isnull=False)
        return (
            self.processing().filter(nobody).exclude(updated_at__range=(now - lease, now + lease))
        )

    def in_queues(self, queues: Sequence[str]) -> JobQuerySet:
        """Jobs of the named queues; no names, no restriction."""
        return self.filter(queue__in=queues) if queues else self

    def by_prefix(self, prefix: str) -> JobQuerySet:
        """Ids that begin with a text, literally: `%` and `_` mean themselves, case counts."""
        return self.filter(dialect.begins_with("key", prefix)).order_by("key")

    def earliest_due(self, state: JobState) -> datetime | None:
        return self.filter(state=state).order_by("due_at").values_list("due_at", flat=True).first()

    def older(self, state: JobState, than: datetime, limit: int) -> list[int]:
        """Ids of final jobs that finished before a time, oldest first."""
        rows = self.filter(state=state, finished_at__lt=than).order_by("finished_at", "id")
        return list(rows.values_list("id", flat=True)[:limit])

    def beyond(self, state: JobState, number: int, limit: int) -> list[int]:
        """Ids of final jobs that are not among the newest `number`."""
        rows = self.filter(state=state, finished_at__isnull=False).order_by("-finished_at", "-id")
        return list(rows.values_list("id", flat=True)[number : number + limit])

    def delete_whole(self, ids: Sequence[int]) -> int:
        """Delete jobs with their attempts and output; returns how many there were.

        Not QuerySet.delete(), which would load every attempt and chunk of output first.
        """
        if not ids:
            return 0  # for none Django asks nothing, and gives back None
        Output.objects.filter(job_id__in=ids)._raw_delete(using=self.db)
        Attempt.objects.filter(job_id__in=ids)._raw_delete(using=self.db)
        return self.filter(id__in=ids)._raw_delete(using=self.db)

    def promote(self, ids: Iterable[int], state: JobState, now: datetime) -> int:
        """Make due jobs claimable, each at the place in line its due_at gives it."""
        return self.filter(id__in=ids, state=state).update(state=JobState.PENDING, updated_at=now)


class Job(Legible):
    """One unit of work: a shell command, or a Django task with its arguments."""

    key = models.CharField("id", max_length=128, help_text="what people call it")
    queue = models.CharField(max_length=64, default="default")

    command = models.TextField(null=True, blank=True, help_text="text for the shell")
    argv = models.JSONField(
        null=True, blank=True, help_text="a program and its arguments, no shell"
    )
    task = models.CharField(
        max_length=255, null=True, blank=True, help_text="path of a Django task"
    )
    args = models.JSONField(null=True, blank=True, help_text="arguments of the task")
    cwd = models.TextField(default="", blank=True)
    env = models.JSONField(default=dict, blank=True)

    state = models.CharField(max_length=10, choices=CHOICES, default=JobState.PENDING.value)
    priority = models.IntegerField(default=5, help_text="higher first")
    run_at = models.DateTimeField(
        null=True, blank=True, help_text="asked for by a person; stays as given"
    )
    due_at = models.DateTimeField(help_text="may run from; its place in line")

    attempts = models.PositiveIntegerField(default=0, help_text="failed runs of this series")
    max_retries = models.PositiveIntegerField(default=3, help_text="retries after the first run")
    runs = models.PositiveIntegerField(default=0, help_text="number of the last attempt")
    losses = models.PositiveIntegerField(
        default=0, help_text="attempts of this series lost with their worker"
    )
    interruptions = models.PositiveIntegerField(
        default=0, help_text="attempts of this series interrupted"
    )
    prefetchable = models.BooleanField(
        default=True,
        help_text="false once a worker died holding it: then it is claimed for a free slot only",
    )
    timeout = models.FloatField(
        null=True, blank=True, help_text="seconds; empty: the setting job-timeout"
    )
    backoff_base = models.FloatField(
        null=True, blank=True, help_text="empty: the setting backoff-base"
    )
    exit_codes = models.JSONField(
        null=True, blank=True, help_text="what an exit code means, where it differs"
    )

    lease = models.UUIDField(
        null=True, blank=True, help_text="guards every write of the worker that holds it"
    )
    worker = models.ForeignKey(
        "Worker",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="jobs",
        db_index=False,
    )
    unique_key = models.CharField(max_length=128, null=True, blank=True)
    concurrency_key = models.CharField(max_length=128, null=True, blank=True)

    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True, help_text="of the last attempt")
    finished_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    put_off_since = models.DateTimeField(
        null=True, blank=True, help_text="could not be started through no fault of its own"
    )

    result = models.JSONField(null=True, blank=True)
    last_error = models.TextField(default="", blank=True)
    fingerprint = models.CharField(max_length=64, default="", blank=True)
    request_digest = models.CharField(max_length=64, default="", blank=True)
    enqueued_by = models.CharField(max_length=LONGEST_NAME, default="", blank=True)
    signature = models.CharField(
        max_length=64, null=True, blank=True, help_text="by the site's key, of what it runs"
    )

    objects = JobQuerySet.as_manager()

    class Meta:
        permissions = (
            ("view_input", "Can see full commands and arguments"),
            ("view_output", "Can see what jobs printed"),
            ("operate_job", "Can retry, run now, cancel and move jobs"),
            ("submit_command", "Can enqueue commands"),
            ("submit_template", "Can enqueue from command templates"),
            ("submit_task", "Can enqueue registered tasks"),
            ("import_jobs", "Can import jobs"),
        )
        constraints = (
            # An operator class for patterns serves `=` and prefixes in one index; unique=True makes two.
            models.UniqueConstraint(
                fields=["key"], name="queuectl_job_key", opclasses=["varchar_pattern_ops"]
            ),
            models.UniqueConstraint(
                fields=["unique_key"],
                condition=Q(state__in=_ACTIVE, unique_key__isnull=False),
                name="queuectl_job_unique_key",
            ),
            models.CheckConstraint(condition=Q(state__in=_STATES), name="queuectl_job_state"),
            models.CheckConstraint(
                condition=Q(state="processing", lease__isnull=False, worker__isnull=False)
                | (~Q(state="processing") & Q(lease__isnull=True, worker__isnull=True)),
                name="queuectl_job_lease",
            ),
            models.CheckConstraint(
                condition=Q(state__in=_FINAL, finished_at__isnull=False)
                | (~Q(state__in=_FINAL) & Q(finished_at__isnull=True)),
                name="queuectl_job_finished",
            ),
            models.CheckConstraint(
                condition=Q(command__isnull=False, argv__isnull=True, task__isnull=True)
                | Q(command__isnull=True, argv__isnull=False, task__isnull=True)
                | Q(command__isnull=True, argv__isnull=True, task__isnull=False),
                name="queuectl_job_one_kind",
            ),
        )
        # Bound parameters do not match a partial index on `state IN (…)` in SQLite: one index per state.
        indexes = (
            models.Index(
                F("queue"),
                F("priority").desc(),
                F("due_at"),
                F("id"),
                condition=Q(state="pending"),
                name="queuectl_job_claim",
            ),
            # For a worker that can take commands only: with the other it would read past every task.
            models.Index(
                F("queue"),
                F("priority").desc(),
                F("due_at"),
                F("id"),
                condition=Q(state="pending", task__isnull=True),
                name="queuectl_job_command",
            ),
            models.Index(
                fields=["due_at"], condition=Q(state="scheduled"), name="queuectl_job_scheduled"
            ),
            models.Index(
                fields=["due_at"], condition=Q(state="failed"), name="queuectl_job_failed"
            ),
            models.Index(
                fields=["queue", "due_at", "id"],
                condition=Q(state="failed"),
                name="queuectl_job_failed_queue",
            ),
            models.Index(
                fields=["queue", "finished_at", "id"],
                condition=Q(state="dead"),
                name="queuectl_job_dead_queue",
            ),
            models.Index(
                fields=["started_at"],
                condition=Q(state="processing"),
                name="queuectl_job_processing",
            ),
            models.Index(
                fields=["created_at"], condition=Q(state="blocked"), name="queuectl_job_blocked"
            ),
            models.Index(
                fields=["state", "finished_at", "id"],
                condition=Q(finished_at__isnull=False),
                name="queuectl_job_finished_at",
            ),
        )

    def __str__(self) -> str:
        return self.key

    def __repr__(self) -> str:
        return f"<Job {self.key} {self.state}>"

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def title(self) -> str:
        """What it runs, in one line."""
        if self.argv is not None:
            from shlex import join

            # A hand may have put anything there.
            return join(map(str, self.argv)) if isinstance(self.argv, list) else str(self.argv)
        return str(self.command or self.task or "")

    @property
    def variables(self) -> list[str]:
        """Names of the environment variables it brings; a value may be a password."""
        return sorted(map(str, self.env)) if isinstance(self.env, dict) else []

    @property
    def time_limit(self) -> str:
        """Its own timeout, in words; empty where it has none."""
        return "" if self.timeout is None else f"{self.timeout:g} s"

    @property
    def retries(self) -> str:
        """Shown to people as "1/3"; what a hand has spoilt as "-"."""
        used, most = self.told("attempts"), self.told("max_retries")
        if used is not None and most is not None:
            used = min(used, most)
        return f"{_or_dash(used)}/{_or_dash(most)}"

    @property
    def rank(self) -> str:
        """Its priority, in words."""
        return _or_dash(self.told("priority"))


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def fresh(now: datetime, **fields: Any) -> Job:
    """A job as enqueue makes it, not yet saved: scheduled if its due_at lies ahead, else pending."""
    due_at = fields.pop("due_at", None) or now
    state = JobState.SCHEDULED if due_at > now else JobState.PENDING
    job = Job(state=state.value, due_at=max(due_at, now), created_at=now, updated_at=now, **fields)
    job.signature = signatures.sign(job)
    return job
