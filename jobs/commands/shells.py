"""Which arguments a shell among them would read as its script."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

SHELLS = frozenset(
    {
        "sh", "ash", "bash", "csh", "dash", "fish", "ksh", "mksh", "posh", "rbash", "rksh", "tcsh",
        "yash", "zsh",
    }
)  # fmt: skip

_WITH_A_VALUE = ("o", "O", "d", "R", "--rcfile", "--init-file")
"""Endings of options that take the next argument for themselves."""

_SCRIPT = re.compile(r"[-+][A-Za-z]*c[A-Za-z]*(?:\{|\Z)|--(?:init-)?command\Z")


def scripts(argv: Sequence[str]) -> Iterator[bool]:
    """For each argument, whether a shell before it would take it for its script."""
    shell, asked, before = False, False, ""
    for text in argv:
        yield asked
        option = text.startswith(("-", "+")) or before.endswith(_WITH_A_VALUE)
        asked = (asked and option) or (shell and bool(_SCRIPT.match(text)))
        shell = posixpath.basename(text) in SHELLS or (shell and option)
        before = text
