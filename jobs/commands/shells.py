"""Which arguments a shell among them would read as its script."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

SHELLS = frozenset(
    {
        "sh", "ash", "bash", "csh", "dash", "elvish", "es", "fish", "ksh", "lksh", "mksh", "nu", "oksh",
        "osh", "pdksh", "posh", "pwsh", "rbash", "rc", "rksh", "rzsh", "tcsh", "xonsh", "yash", "ysh", "zsh",
    }
)  # fmt: skip

_BUILD = re.compile(r"(?:-static)?[-.\d]*\Z")
"""What a shell's name may end with: ksh93, bash-static, zsh-5.9."""

_WITH_A_VALUE = ("o", "O", "d", "R", "--rcfile", "--init-file")
"""Endings of options that take the next argument for themselves."""

_SCRIPT = re.compile(r"[-+][A-Za-z]*[cC][A-Za-z]*(?:\{|\Z)|--(?:init-)?command\Z")
_WITH_ITS_SCRIPT = re.compile(r"--(?:init-)?command=|[-+][A-Za-z]*[cC][A-Za-z]*\{")


def scripts(argv: Sequence[str]) -> Iterator[bool]:
    """For each argument, whether a shell before it would take it for its script, or find that in it."""
    shell, asked, before = False, False, ""
    for text in argv:
        yield asked or (shell and bool(_WITH_ITS_SCRIPT.match(text)))
        option = text.startswith(("-", "+")) or before.endswith(_WITH_A_VALUE)
        asked = (asked and option) or (shell and bool(_SCRIPT.match(text)))
        shell = _is_shell(text) or (shell and option)
        before = text


def _is_shell(program: str) -> bool:
    return _BUILD.sub("", posixpath.basename(program), count=1) in SHELLS
