from __future__ import annotations

from .. import conf
from ..exceptions import NotPermitted
from .actor import Actor


def must_submit(actor: Actor, *, argv: bool) -> None:
    """Raise NotPermitted unless this actor may enqueue a command of this kind.

    The command policy holds for the web, whoever asks; a shell and the host's code are trusted.
    """
    if actor.via not in ("web", "admin", "api"):
        return
    actor.must("submit_command")
    policy = conf.get().COMMAND_POLICY
    if policy == "shell" or (policy == "argv" and argv):
        return
    raise NotPermitted(
        "This site does not take commands from the web",
        hint=f"QUEUECTL['COMMAND_POLICY'] is '{policy}'; use the command line: queuectl enqueue",
    )
