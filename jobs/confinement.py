"""What the host's settings say of how the commands of a queue run: QUEUECTL["CONFINE"].

Only read and merged here; `execution.confine` makes it so. Never from the database: whoever may
write a row must not choose a user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from . import validation
from .exceptions import InvalidField

EVERY = "*"
"""The entry that holds for every queue; a queue's own adds to it, or says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """How commands run; None leaves it as the worker has it."""

    user: str | int | None = None
    group: str | int | None = None
    umask: int | None = None
    nice: int | None = None
    no_new_privs: bool | None = None
    processes: int | None = None
    """Of the whole user, not of one command."""

    open_files: int | None = None
    memory_bytes: int | None = None
    """Of address space, of each process."""

    file_bytes: int | None = None
    cpu_seconds: int | None = None
    """Of each process."""

    core_bytes: int | None = None


_LARGEST = 2**62
_RANGES = {
    "umask": (0, 0o777), "nice": (-20, 19), "processes": (1, _LARGEST), "open_files": (8, _LARGEST),
    "memory_bytes": (2**24, _LARGEST), "file_bytes": (0, _LARGEST), "cpu_seconds": (1, _LARGEST),
    "core_bytes": (0, _LARGEST),
}  # fmt: skip
_KNOWN = {field.name for field in fields(Confinement)}
Given = Mapping[str, Mapping[str, Any]]


def of(queue: str, given: Given) -> Confinement | None:
    """What holds for a queue; None if nothing does.

    With a user of their own commands have a umask of 077 and no new privileges unless it says so.
    """
    said = {**given.get(EVERY, {}), **given.get(queue, {})}
    if not said:
        return None
    if said.get("user") is not None:
        said = {"umask": 0o077, "no_new_privs": True, **said}
    return Confinement(**said)


def same_rights(one: str, other: str, given: Given) -> bool:
    """Whether the commands of two queues may do the same; niceness and limits are no rights."""
    return _rights(of(one, given)) == _rights(of(other, given))


def _rights(rules: Confinement | None) -> tuple[object, ...]:
    rules = rules or Confinement()
    return (rules.user, rules.group, rules.umask, bool(rules.no_new_privs))


def problems(given: Any) -> list[str]:
    """What is wrong with the setting, a sentence each."""
    if not isinstance(given, Mapping):
        return ["QUEUECTL['CONFINE'] must be a dict of queues"]
    found = []
    for queue, said in given.items():
        where = f"QUEUECTL['CONFINE'][{validation.quoted(queue)}]"
        if not _is_queue(queue) or not isinstance(said, Mapping):
            found.append(f"{where} must be the name of a queue, or '*', and a dict")
        else:
            found += [problem for name in said if (problem := _problem(where, name, said[name]))]
            common = given.get(EVERY, {})
            users = {*said, *(common if isinstance(common, Mapping) else ())}
            if "group" in said and "user" not in users:
                found.append(f"{where} has a group, which takes a user too")
    return found


def _is_queue(name: Any) -> bool:
    try:
        return name == EVERY or bool(validation.queue(name))
    except InvalidField:
        return False


def _problem(where: str, name: Any, value: Any) -> str | None:
    if name not in _KNOWN:
        near = validation.nearest(name, sorted(_KNOWN))
        hint = f"; did you mean {near!r}?" if near else ""
        return f"{where} has an unknown {validation.quoted(name)}{hint}"
    if name == "no_new_privs":
        return None if isinstance(value, bool) else f"{where}[{name!r}] must be True or False"
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name in ("user", "group"):
        fits = (isinstance(value, str) and value) or (whole and 0 <= value < 2**32 - 1)
        return None if fits else f"{where}[{name!r}] must be a name or a number from 0"
    low, high = _RANGES[name]
    if whole and low <= value <= high:
        return None
    bounds = f"from {low} to {high}" if high < _LARGEST else f"of at least {low}"
    if name == "umask":
        bounds = "from 0 to 0o777"
    return f"{where}[{name!r}] must be a whole number {bounds}"
