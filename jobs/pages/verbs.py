"""What a person can do to jobs by pressing a button: one table for every surface that has buttons."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms

from .. import dialect, operations
from ..exceptions import InvalidField, NotPermitted, QueueCTLError
from ..models import Job
from ..models.job import JobQuerySet
from ..operations import Actor
from ..states import TIMED, WAITING, JobState
from ..validation import visible

ASK_ABOVE = 20
MOST = 1000
"""More than these in one request would keep it, and the database, for too long."""

_WHOLE = re.compile(r"-?[0-9]{1,9}\Z")
Values = Mapping[str, Any]


class WholeField(forms.CharField):
    """A whole number as people type it. int() would take "1_000" and other alphabets' digits too."""

    widget = forms.NumberInput

    def __init__(self, **options: Any) -> None:
        super().__init__(strip=False, **options)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        # What is not a number goes on as it is: the one validation says what is accepted.
        return int(text) if _WHOLE.match(text) else (text or None)


class NoFields(forms.Form):
    """Nothing to fill in."""


class MoveForm(forms.Form):
    queue = forms.CharField(
        strip=False, widget=forms.TextInput(attrs={"list": "q-queues", "maxlength": 64})
    )


class PriorityForm(forms.Form):
    priority = WholeField(help_text="-1000 to 1000, higher first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One button: what it is called, who may press it and when, and what it does."""

    name: str
    label: str
    permission: str | None
    """None: it depends on the job, and the operation alone knows."""

    allowed: Collection[JobState]
    one: Callable[[Job, Actor, Values], str]
    """Does it to one job; says so in a sentence."""

    many: Callable[[JobQuerySet, Actor, Values], str]
    form: type[forms.Form] = NoFields
    dangerous: bool = False
    warning: str = ""
    """What cannot be undone."""

    @property
    def has_fields(self) -> bool:
        return bool(self.form.base_fields)

    def asks(self, states: Sequence[str]) -> bool:
        """Whether a page comes first, for jobs in these states (one entry a job)."""
        kills = self.name == "cancel" and JobState.PROCESSING in states
        return self.has_fields or self.dangerous or kills or len(states) > ASK_ABOVE

    def why_not(self, job: Job, user: Any) -> str:
        """The reason why this button does nothing for this job and person; empty if it does."""
        if self.permission is None:
            if refusal := may_not_submit(user, operations.kind_of(job)):
                return refusal
        elif not user.has_perm(f"queuectl.{self.permission}"):
            return f"It needs the permission queuectl.{self.permission}."
        if job.state not in self.allowed:
            states = " or ".join(sorted(self.allowed)) if len(self.allowed) < 4 else "waiting"
            return f"This job is {job.state}; it needs one that is {states}."
        return ""


def may_not_submit(user: Any, kind: operations.Kind) -> str:
    """Why this person cannot enqueue a job of this kind here; empty if they can."""
    return sentence(
        operations.refusal_to_submit(Actor(user.get_username(), "web", user=user), kind)
    )


def sentence(refusal: NotPermitted | None) -> str:
    """A refusal with its reason, for a button that is off."""
    return f"{refusal}; {refusal.hint}." if refusal else ""


def _retry(job: Job, actor: Actor, values: Values) -> str:
    operations.retry(job, actor)
    return f"Job '{visible(job.key)}' moved back to queue for retry"


def _run_now(job: Job, actor: Actor, values: Values) -> str:
    operations.run_now(job, actor)
    return f"Job '{visible(job.key)}' runs now"


def _cancel(job: Job, actor: Actor, values: Values) -> str:
    after = operations.cancel(job, actor)
    if after.state == JobState.CANCELLED:
        return f"Job '{visible(job.key)}' cancelled"
    return f"Job '{visible(job.key)}' is running; its worker has been asked to stop it"


def _run_again(job: Job, actor: Actor, values: Values) -> str:
    twin = operations.run_again(job, actor)
    return f"Job '{visible(job.key)}' enqueued again, as '{twin.key}'"


def _run_again_many(rows: JobQuerySet, actor: Actor, values: Values) -> str:
    with dialect.atomic():
        number = len([operations.run_again(job, actor) for job in rows.order_by("id")])
    return f"Enqueued {number} {'copy' if number == 1 else 'copies'}."


def _move(job: Job, actor: Actor, values: Values) -> str:
    operations.move(job, values["queue"], actor)
    return f"Job '{visible(job.key)}' moved to queue '{values['queue']}'"


def _set_priority(job: Job, actor: Actor, values: Values) -> str:
    operations.set_priority(job, values["priority"], actor)
    return f"Job '{visible(job.key)}' has priority {values['priority']} now"


def _discard(job: Job, actor: Actor, values: Values) -> str:
    operations.discard(job, actor)
    return f"Job '{visible(job.key)}' discarded"


_NOT_PROCESSING = tuple(state for state in JobState if state is not JobState.PROCESSING)

VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            name="retry",
            label="Retry",
            permission="operate_job",
            allowed=(JobState.DEAD,),
            one=_retry,
            many=lambda rows, actor, values: str(operations.retry_many(rows, actor)),
        ),
        Verb(
            name="run-now",
            label="Run now",
            permission="operate_job",
            allowed=TIMED,
            one=_run_now,
            many=lambda rows, actor, values: str(operations.run_now_many(rows, actor)),
        ),
        Verb(
            name="cancel",
            label="Cancel",
            permission="operate_job",
            allowed=(*WAITING, JobState.PROCESSING),
            one=_cancel,
            many=lambda rows, actor, values: str(operations.cancel_many(rows, actor)),
            warning="A command that runs is sent SIGTERM, and SIGKILL if it does not end.",
        ),
        Verb(
            name="run-again",
            label="Run again",
            permission=None,
            allowed=tuple(JobState),
            one=_run_again,
            many=_run_again_many,
        ),
        Verb(
            name="move",
            label="Move",
            permission="operate_job",
            allowed=WAITING,
            one=_move,
            many=lambda rows, actor, values: str(
                operations.move_many(rows, values["queue"], actor)
            ),
            form=MoveForm,
        ),
        Verb(
            name="set-priority",
            label="Set priority",
            permission="operate_job",
            allowed=WAITING,
            one=_set_priority,
            many=lambda rows, actor, values: str(
                operations.set_priority_many(rows, values["priority"], actor)
            ),
            form=PriorityForm,
        ),
        Verb(
            name="discard",
            label="Discard",
            permission="delete_job",
            allowed=_NOT_PROCESSING,
            one=_discard,
            many=lambda rows, actor, values: str(operations.discard_many(rows, actor)),
            dangerous=True,
            warning="The job is deleted, with its attempts and output. This cannot be undone.",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a request to act: a sentence if it was done, else the form to show."""

    said: str
    form: forms.Form


def act(verb: Verb, rows: JobQuerySet, job: Job | None, data: Values | None, actor: Actor) -> Asked:
    """Do it, if this request may: to the one job, else to all rows.

    `data` is what was posted, None for a request that only asks for the page. A page comes first
    where the verb asks for one, which posts `confirmed`. Refusals are raised as QueueCTLErrors,
    but for a field that is wrong, which the form tells.
    """
    subject = f"job {job.key}" if job else "jobs"
    if verb.permission is not None:
        operations.must(actor, verb.permission, verb.name.replace("-", " "), subject)
    elif job:
        operations.must_submit(actor, operations.kind_of(job), "run again", subject)
    states = [job.state] if job else list(rows.values_list("state", flat=True)[: MOST + 1])
    if len(states) > MOST:
        raise QueueCTLError(
            f"At most {MOST:,} jobs in one go", hint="choose fewer, and go on after"
        )
    if data is None or (verb.asks(states) and "confirmed" not in data):
        return Asked("", verb.form())
    form = verb.form(data)
    if form.is_valid():
        try:
            return Asked(_do(verb, rows, job, actor, form.cleaned_data), form)
        except InvalidField as error:
            refuse(form, error)
    return Asked("", form)


def _do(verb: Verb, rows: JobQuerySet, job: Job | None, actor: Actor, values: Values) -> str:
    return verb.one(job, actor, values) if job else verb.many(rows, actor, values)


def refuse(form: forms.Form, error: InvalidField) -> None:
    """Put what `validation` said beside the field it said it of."""
    text = f"{error}. {error.hint}" if error.hint else str(error)
    form.add_error(error.field if error.field in form.fields else None, visible(text))
