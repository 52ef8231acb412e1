"""Which arguments a shell among them would read as its script."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SHELLS = frozenset(
    {
        "sh", "ash", "bash", "csh", "dash", "elvish", "fish", "ksh", "lksh", "mksh", "oksh", "osh", "pdksh",
        "posh", "powershell", "pwsh", "pwsh-lts", "pwsh-preview", "rbash", "rksh", "rzsh", "tcsh", "xonsh",
        "yash", "ysh", "zsh",
    }
)  # fmt: skip

LIKE_OTHER_WORDS = frozenset({"es", "nu", "rc"})
"""Shells too, but as a rule something else (a language, a file) where no program is named."""

LAUNCHERS = {
    **dict.fromkeys(("chroot", "chrt", "flock", "taskset", "timeout"), 1),
    **dict.fromkeys(
        (
            "doas", "env", "ionice", "nice", "nohup", "setpriv", "setsid", "stdbuf", "strace", "sudo",
            "systemd-run", "time", "unshare", "xargs",
        ),
        0,
    ),
}  # fmt: skip
"""Programs that run the one named after their options, and after so many arguments of their own."""

_BUILD = re.compile(r"(?:-static)?[-.\d]*\Z")
"""What a shell's name may end with: ksh93, bash-static, zsh-5.9."""


_NEVER = re.compile(r"(?!)")
_MADE_UP = re.compile(r"[-+][^=]*\{")
"""An option whose name a parameter has a part in: it may be the one before a script."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """What is no file among the arguments of a shell."""

    next: re.Pattern[str] = _NEVER
    """The argument after it is the script."""

    rest: re.Pattern[str] = _NEVER
    """All that follows is."""

    within: re.Pattern[str] = _NEVER
    """It has the script in itself."""

    file: re.Pattern[str] = _NEVER
    """The script is in a file, and what follows is for that."""

    valued: re.Pattern[str] = _NEVER
    """It takes the argument after it for itself."""


def _any_but(scripts: re.Pattern[str]) -> re.Pattern[str]:
    """For shells with so many options that each may be one that takes a value."""
    return re.compile(f"(?!{scripts.pattern})-", scripts.flags)


def _of_powershell(*words: str) -> re.Pattern[str]:
    """Any beginning of these, after what it takes for a dash, in whatever case."""
    beginnings = {word[:length] for word in words for length in range(1, len(word) + 1)}
    dash = r"[-\u2013-\u2015]"
    return re.compile(
        rf"\s*(?:/|{dash}{{1,2}})(?:{'|'.join(beginnings)})(?:\{{|\s*\Z)", re.IGNORECASE
    )


_NO_SHELL = _Options()
_USUAL = _Options(
    next=re.compile(r"[-+][A-Za-z]*[cC][A-Za-z]*(?:\{|\Z)|--(?:init-)?command\Z"),
    within=re.compile(r"--(?:init-)?command=|[-+][A-Za-z]*[cC][A-Za-z]*\{"),
    valued=re.compile(r"[-+].*[oOdR]\Z|--(?:rcfile|init-file)\Z"),
)
_NU_NEXT = re.compile(r"-[A-Za-z]*[ce][A-Za-z]*(?:\{|\Z)|--(?:commands|execute)\Z")
_NU = _Options(
    next=_NU_NEXT,
    within=re.compile(r"--(?:commands|execute)=|-[A-Za-z]*[ce][A-Za-z]*\{"),
    valued=_any_but(_NU_NEXT),
)
_POWERSHELL_NEXT = _of_powershell("encodedcommand", "ec", "commandwithargs", "cwa")
_POWERSHELL = _Options(
    next=_POWERSHELL_NEXT,
    rest=_of_powershell("command"),
    file=_of_powershell("file"),
    valued=_any_but(_POWERSHELL_NEXT),
)
_OPTIONS = {
    "nu": _NU,
    **dict.fromkeys(("powershell", "pwsh", "pwsh-lts", "pwsh-preview"), _POWERSHELL),
}


def scripts(argv: Sequence[str]) -> Iterator[bool]:
    """For each argument, whether a shell before it would take it for its script, or find that in it."""
    shell, asked, rest, before = _NO_SHELL, False, False, ""
    for text, named in zip(argv, _programs(argv), strict=True):
        made_up = shell is not _NO_SHELL and bool(_MADE_UP.match(text))
        yield rest or asked or made_up or bool(shell.within.match(text))
        option = text.startswith(("-", "+")) or bool(shell.valued.match(before))
        asked = (asked and option) or bool(shell.next.match(text))
        rest = rest or bool(shell.rest.match(text))
        goes_on = option and not shell.file.match(text)
        shell = _shell(text, named) or (shell if goes_on else _NO_SHELL)
        before = text


def _shell(text: str, named: bool) -> _Options | None:
    name = _BUILD.sub("", posixpath.basename(text), count=1)
    if name in SHELLS or (name in LIKE_OTHER_WORDS and (named or "/" in text)):
        return _OPTIONS.get(name, _USUAL)
    return None


def _programs(argv: Sequence[str]) -> Iterator[bool]:
    """For each argument, whether it may name the program: the first, or the one that a launcher runs."""
    may, own, before = True, 0, ""
    for text in argv:
        yield may
        launcher = posixpath.basename(text)
        if may and launcher in LAUNCHERS:
            own = LAUNCHERS[launcher]
        elif text.startswith("-") or before.startswith("-") or "=" in text:
            pass  # of the launcher: an option, perhaps its value, a variable
        elif own:
            own -= 1
        else:
            may = False
        before = text
