"""Who may do what. `refusal_…` ask, for a page that shows or greys out; `must…` are for what is done:
they raise, and leave an Event of the refusal."""

from __future__ import annotations

from enum import Enum

from .. import conf, confinement, dialect
from ..commands import Template, could_make
from ..exceptions import NotPermitted, QuotaReached
from ..models import Job
from ..states import ACTIVE
from .actor import Actor
from .refusals import note

OUTSIDE = ("web", "admin", "api")
"""Doors where the site's policy stands above all permissions. A shell and the host's code are trusted."""


class Kind(Enum):
    """What enqueueing a job decides."""

    SHELL = "shell"
    ARGV = "argv"
    TEMPLATE = "template"
    TASK = "task"


ALLOWED = {
    "disabled": (),
    "templates": (Kind.TEMPLATE,),
    "argv": (Kind.TEMPLATE, Kind.ARGV),
    "shell": (Kind.TEMPLATE, Kind.ARGV, Kind.SHELL),
}
"""What each COMMAND_POLICY lets people submit from outside. Tasks are the site's own code."""

PERMISSIONS = {
    Kind.SHELL: "submit_command",
    Kind.ARGV: "submit_command",
    Kind.TEMPLATE: "submit_template",
    Kind.TASK: "submit_task",
}
"""What enqueueing each takes."""


def must(actor: Actor, permission: str, action: str, subject: str) -> None:
    """Raise NotPermitted, and leave an Event, unless this actor has the permission."""
    _stop(actor.lacks(permission), actor, action, subject)


def must_submit(actor: Actor, kind: Kind, action: str, subject: str) -> None:
    """Raise NotPermitted, and leave an Event, unless this actor may enqueue a job of this kind."""
    _stop(refusal_to_submit(actor, kind), actor, action, subject)


def must_place(actor: Actor, queue: str, own: str, action: str, subject: str) -> None:
    """Raise NotPermitted, and leave an Event, unless this actor may take commands from `own` to `queue`."""
    _stop(refusal_to_place(actor, queue, own), actor, action, subject)


def has_quota(actor: Actor) -> bool:
    """Whether the number of this actor's jobs is bounded: a person's, where the site says so."""
    return bool(conf.get().MOST_JOBS_OF_A_USER) and actor.is_known


def must_have_room(actor: Actor, number: int, action: str, subject: str) -> None:
    """Raise QuotaReached, and leave an Event, where so many more jobs would be too many for one person.

    Two requests at once may both be let in. A job has the name of who enqueued it and no more, so
    those of a namesake at the command line count.
    """
    if not number or not has_quota(actor):
        return
    most = conf.get().MOST_JOBS_OF_A_USER
    # State by state, each by its index: not past all that have ended.
    own = (Job.objects.filter(state=word, enqueued_by=actor.name) for word in dialect.spelt(ACTIVE))
    has = sum(jobs.order_by()[:most].count() for jobs in own)
    if has + number > most:
        message = f"{actor.name} has {has} unfinished jobs, and this site lets one have {most}"
        hint = "wait until some have ended, or cancel some"
        _stop(QuotaReached(message, hint=hint), actor, action, subject)


def must_start_worker(actor: Actor, subject: str) -> None:
    """Raise NotPermitted, and leave an Event, unless this actor may start a worker from the web."""
    _stop(refusal_to_start_worker(actor), actor, "start", subject)


def refusal_to_submit(actor: Actor, kind: Kind) -> NotPermitted | None:
    lacking = actor.lacks(PERMISSIONS[kind])
    if lacking or kind is Kind.TASK or actor.via not in OUTSIDE:
        return lacking
    policy = conf.get().COMMAND_POLICY
    if kind in ALLOWED[policy]:
        return None
    what = "command templates" if kind is Kind.TEMPLATE else "commands"
    return NotPermitted(
        f"This site does not take {what} from the web",
        hint=f"QUEUECTL['COMMAND_POLICY'] is '{policy}'; use the command line: queuectl enqueue",
    )


def refusal_to_place(actor: Actor, queue: str, own: str) -> NotPermitted | None:
    """Who chooses other rights for a command decides as much as who writes one."""
    if confinement.same_rights(queue, own, conf.get().CONFINE):
        return None
    refusal = refusal_to_submit(actor, Kind.ARGV)
    if refusal is None:
        return None
    message = f"Commands in queue '{queue}' run as another user, or with other rights, than those in '{own}'"
    return NotPermitted(message, hint=f"to choose queue '{queue}' is to submit one: {refusal.hint}")


def refusal_to_start_worker(actor: Actor) -> NotPermitted | None:
    lacking = actor.lacks("start_worker")
    if lacking or conf.get().START_WORKERS_FROM_WEB:
        return lacking
    return NotPermitted(
        "This site does not start workers from the web",
        hint="QUEUECTL['START_WORKERS_FROM_WEB'] is off; use the command line: queuectl worker start",
    )


def kind_of(job: Job) -> Kind:
    """What a copy of a job decides. One that a registered template could have made decides no more.

    That is one in a queue whose commands have the same rights as those in the template's own.
    """
    if job.task is not None:
        return Kind.TASK
    if job.argv is None:
        return Kind.SHELL
    for template in conf.get().COMMANDS.values():
        if _is_placed_by(template, job) and could_make(template, job.argv):
            return Kind.TEMPLATE
    return Kind.ARGV


def home(template: Template) -> str:
    """The queue of its jobs where nobody says otherwise."""
    return str(template.fields.get("queue", Job._meta.get_field("queue").default))


def _is_placed_by(template: Template, job: Job) -> bool:
    """Whether it would run where the template's jobs do: directory, environment and rights."""
    said = template.fields
    if not confinement.same_rights(job.queue, home(template), conf.get().CONFINE):
        return False
    return bool(job.cwd == said.get("cwd", "") and job.env == said.get("env", {}))


def _stop(refusal: NotPermitted | None, actor: Actor, action: str, subject: str) -> None:
    if refusal is not None:
        note(refusal, actor, action, subject)
        raise refusal
