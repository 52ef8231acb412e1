from __future__ import annotations

from .. import conf
from ..exceptions import NotPermitted
from .actor import Actor


def must_start_worker(actor: Actor) -> None:
    """Raise NotPermitted unless this actor may start a worker on this host from the web."""
    actor.must("start_worker")
    if not conf.get().START_WORKERS_FROM_WEB:
        raise NotPermitted(
            "This site does not start workers from the web",
            hint="QUEUECTL['START_WORKERS_FROM_WEB'] is off; use the command line: queuectl worker start",
        )


def must_submit(actor: Actor, *, argv: bool, task: bool = False) -> None:
    """Raise NotPermitted unless this actor may enqueue a job of this kind.

    The command policy holds for the web, whoever asks; a shell and the host's code are trusted.
    """
    if actor.via not in ("web", "admin", "api"):
        return
    if task:
        return actor.must("submit_task")
    actor.must("submit_command")
    policy = conf.get().COMMAND_POLICY
    if policy == "shell" or (policy == "argv" and argv):
        return
    raise NotPermitted(
        "This site does not take commands from the web",
        hint=f"QUEUECTL['COMMAND_POLICY'] is '{policy}'; use the command line: queuectl enqueue",
    )
