from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..exceptions import NotPermitted


@dataclass(frozen=True)
class Actor:
    """Who acts, and by what door. Without a user it is trusted: whoever has the database anyway."""

    name: str
    via: str
    """cli, admin, web, api or python."""

    user: Any = None

    def must(self, permission: str) -> None:
        """Raise NotPermitted unless this actor has the permission (a codename of this app)."""
        if self.user is not None and not self.user.has_perm(f"queuectl.{permission}"):
            raise NotPermitted(
                f"{self.name} may not do this",
                hint=f"it needs the permission queuectl.{permission}",
            )


PYTHON = Actor("python", "python")
"""Code of the host, which is trusted as the host is."""
