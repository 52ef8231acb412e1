from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..exceptions import NotPermitted
from ..models.job import LONGEST_NAME


@dataclass(frozen=True)
class Actor:
    """Who acts, and by what door. Without a user it is trusted: whoever has the database anyway."""

    name: str
    via: str
    """cli, admin, web, api or python."""

    user: Any = None

    def __post_init__(self) -> None:
        # A site's own users may have longer names than a job keeps.
        object.__setattr__(self, "name", self.name[:LONGEST_NAME])

    @property
    def is_known(self) -> bool:
        """Whether it is a person who has logged in."""
        return self.user is not None and bool(self.user.is_authenticated)

    def lacks(self, permission: str) -> NotPermitted | None:
        """The refusal of one without this permission (a codename of this app); None for others.

        A question only: what is done asks `policy.must`, which also writes the refusal down.
        """
        if self.user is None or self.user.has_perm(f"queuectl.{permission}"):
            return None
        hint = f"it needs the permission queuectl.{permission}"
        return NotPermitted(f"{self.name} may not do this", hint=hint)


PYTHON = Actor("python", "python")
"""Code of the host, which is trusted as the host is."""
