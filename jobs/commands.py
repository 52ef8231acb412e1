"""Commands a site has registered in QUEUECTL["COMMANDS"], for people to fill in what is left open.

A value becomes one argument or a part of one: never an argument more, never text for a shell, and
no option, unless the template says so.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from string import Formatter
from typing import Any, NoReturn

from . import validation
from .exceptions import InvalidField

TYPES: dict[str, dict[str, Any]] = {
    "text": {"max_length": 200, "pattern": "", "dash": False},
    "path": {"under": "", "dash": False},
    "choice": {"choices": ()},
    "int": {"min": 0, "max": 2**31 - 1},
}
"""What a parameter may be, with the keys of each and their defaults."""

COMMON: dict[str, Any] = {"type": None, "help": "", "optional": False, "default": None}
DEFAULTS = ("queue", "priority", "max_retries", "timeout", "backoff_base")
"""Fields of a job that a template proposes, and a person may set otherwise."""

FIXED = ("cwd", "env")
"""Fields of a job that are the template's alone: they decide what runs."""

MOST_PARAMETERS, MOST_OPTIONAL, LONGEST_TEXT, LONGEST_PATH = 32, 8, 100_000, 4096
SHELLS = frozenset({"sh", "ash", "bash", "csh", "dash", "fish", "ksh", "mksh", "tcsh", "zsh"})

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_WHOLE = re.compile(r"-?[0-9]{1,18}\Z")
_BARE = re.compile(r"[\w@%+=:,./{}-]+\Z", re.ASCII)
_SCRIPT = re.compile(r"(?:[-+][A-Za-z]*c[A-Za-z]*|--command)\Z")
_PLAIN: dict[str, type] = {
    "help": str, "optional": bool, "dash": bool, "max_length": int, "pattern": str, "under": str,
    "min": int, "max": int,
}  # fmt: skip

LONGEST_GUESS = 200
"""Characters of an argument in which several parameters are looked for: how they may share it is tried out,
which takes time by the square or the cube of its length."""

Element = tuple[tuple[str, str | None], ...]
"""One argument: texts, each with the parameter that follows it, if any."""

Group = tuple[Element, ...]
"""Arguments that are there together or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What a person fills in: its type, and what bounds it."""

    name: str
    type: str
    help: str = ""
    optional: bool = False
    default: str | None = None
    bounds: Mapping[str, Any] = field(default_factory=dict)

    @property
    def required(self) -> bool:
        return not self.optional and self.default is None

    @property
    def accepts(self) -> str:
        """What it takes, in words."""
        bounds = self.bounds
        if self.type == "int":
            return f"a whole number from {bounds['min']} to {bounds['max']}"
        if self.type == "choice":
            return f"one of {', '.join(bounds['choices'])}"
        dash = "" if self.may_begin_with_dash else ", not beginning with '-'"
        if self.type == "path":
            inside = f" within {bounds['under']}" if bounds["under"] else ""
            return f"a path{inside} of printable characters{dash}"
        form = f" of the form {bounds['pattern']}" if bounds["pattern"] else ""
        return f"1 to {bounds['max_length']} printable characters{form}{dash}"

    def read(self, value: object) -> str:
        """A value as it stands in an argument. Raises InvalidField, naming what is accepted."""
        if isinstance(value, int) and not isinstance(value, bool) and self.type == "int":
            value = str(value)
        found = getattr(self, f"_{self.type}")(value) if isinstance(value, str) else None
        if found is None:
            name = self.name
            raise InvalidField(
                f"parameters.{name}",
                f"Invalid {name}: {validation.shown(value)}",
                hint=f"{name} takes {self.accepts}",
            )
        return str(found)

    def _int(self, value: str) -> str | None:
        ok = _WHOLE.match(value) and self.bounds["min"] <= int(value) <= self.bounds["max"]
        return str(int(value)) if ok else None

    def _choice(self, value: str) -> str | None:
        return value if value in self.bounds["choices"] else None

    def _text(self, value: str) -> str | None:
        if not self._is_plain(value, self.bounds["max_length"]):
            return None
        pattern = self.bounds["pattern"]
        return value if not pattern or re.fullmatch(pattern, value) else None

    def _path(self, value: str) -> str | None:
        if not self._is_plain(value, LONGEST_PATH):
            return None
        under = self.bounds["under"]
        if not under:
            return value
        path = posixpath.normpath(posixpath.join(under, value))
        inside = path.startswith(under.rstrip("/") + "/") and ".." not in value.split("/")
        return path if inside else None

    def _is_plain(self, value: str, longest: int) -> bool:
        ok = 0 < len(value) <= longest and value.isprintable()
        return ok and (self.may_begin_with_dash or not value.startswith("-"))

    @property
    def may_begin_with_dash(self) -> bool:
        """Said so, or a path that becomes an absolute one."""
        return bool(self.bounds["dash"] or self.bounds.get("under"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One registered command."""

    name: str
    argv: tuple[Group, ...]
    parameters: Mapping[str, Parameter]
    help: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of the job: DEFAULTS and FIXED, as far as given."""

    @property
    def pattern(self) -> str:
        """What it runs in one line: parameters in braces, what may be left out in brackets."""
        groups = [
            (" ".join(map(_written, group)), _names(group) - self._always) for group in self.argv
        ]
        return " ".join(f"[{text}]" if may_miss else text for text, may_miss in groups)

    @property
    def _always(self) -> set[str]:
        return {name for name, parameter in self.parameters.items() if not parameter.optional}

    def fill(self, values: Mapping[str, Any]) -> list[str]:
        """The arguments that come of these values; what needs a value that was not given is left out.

        Raises InvalidField for a value that is unknown, missing or wrong.
        """
        for name in values:
            if name not in self.parameters:
                near = get_close_matches(str(name), self.parameters, n=1)
                known = ", ".join(self.parameters) or "none"
                hint = f"did you mean '{near[0]}'?" if near else f"its parameters: {known}"
                message = f"{self.name} has no parameter {validation.shown(name)}"
                raise InvalidField("parameters", message, hint=hint)
        given = {}
        for name, parameter in self.parameters.items():
            value = parameter.default if values.get(name) is None else values[name]
            if value is not None:
                given[name] = parameter.read(value)
            elif not parameter.optional:
                message = f"{self.name} needs the parameter '{name}'"
                hint = f"{name} takes {parameter.accepts}"
                raise InvalidField(f"parameters.{name}", message, hint=hint)
        return [
            "".join(text + given[name] if name else text for text, name in element)
            for group in self.argv
            if _names(group) <= given.keys()
            for element in group
        ]

    def could_make(self, argv: Sequence[str]) -> bool:
        """Whether these arguments are what some values make of it."""
        return any(self._makes(values, argv) for values in self._guesses(self.argv, argv, {}))

    def _makes(self, values: Mapping[str, Any], argv: Sequence[str]) -> bool:
        try:
            return self.fill(values) == list(argv)
        except InvalidField:
            return False

    def _guesses(
        self, groups: Sequence[Group], argv: Sequence[str], known: Mapping[str, str]
    ) -> Iterator[Mapping[str, str]]:
        """Values that may have made the arguments. Only `fill` can tell whether they do."""
        if not groups:
            if not argv:
                yield known
            return
        group, rest = groups[0], groups[1:]
        found = _match(group, argv[: len(group)], known)
        if found is not None:
            yield from self._guesses(rest, argv[len(group) :], found)
        if _names(group) - self._always - known.keys():
            yield from self._guesses(rest, argv, known)


def _written(element: Element) -> str:
    text = "".join(f"{text}{{{name}}}" if name else text for text, name in element)
    return text if _BARE.match(text) else shlex.quote(text)


def _names(group: Group) -> set[str]:
    return {name for element in group for _, name in element if name}


def _match(group: Group, argv: Sequence[str], known: Mapping[str, str]) -> Mapping[str, str] | None:
    """The values known, and those that these arguments show; None if they do not come of the group."""
    if len(argv) < len(group):
        return None
    for element, text in zip(group, argv, strict=True):
        if len(text) > LONGEST_GUESS and len(_names((element,)) - known.keys()) > 1:
            return None
        found = re.fullmatch(_pattern(element, known), text, re.DOTALL)
        if found is None:
            return None
        known = {**known, **found.groupdict()}
    return known


def _pattern(element: Element, known: Mapping[str, str]) -> str:
    """What an argument looks like where these values are known already."""
    parts, seen = [], set()
    for text, name in element:
        parts.append(re.escape(text))
        if name:
            value = known.get(name)
            new = f"(?P={name})" if name in seen else f"(?P<{name}>.+)"
            parts.append(new if value is None else re.escape(value))
            seen.add(name)
    return "".join(parts)


def registered(given: object) -> tuple[dict[str, Template], list[str]]:
    """The templates of a site's settings, and what is wrong with them, a sentence each."""
    if not isinstance(given, Mapping):
        return {}, ["QUEUECTL['COMMANDS'] must be a dict of templates by name"]
    found, problems = {}, []
    for name, entry in given.items():
        try:
            found[name] = _template(name, entry)
        except _Wrong as wrong:
            problems.append(f"QUEUECTL['COMMANDS'][{_key(name)}]{wrong}")
    return found, problems


class _Wrong(Exception):
    """Where in a registration something is wrong, and what."""


def _key(name: object) -> str:
    """As it is written in the settings, where it can be."""
    return repr(name) if isinstance(name, str) and _NAME.match(name) else validation.shown(name)


def _wrong(text: str) -> NoReturn:
    raise _Wrong(f" {text}")


def _template(name: object, entry: object) -> Template:
    if not isinstance(name, str) or not _NAME.match(name):
        _wrong("must have a name of 1 to 64 letters, digits, '-', '_' and '.'")
    known = ("argv", "parameters", "help", *DEFAULTS, *FIXED)
    given = _dict(entry, known)
    if not isinstance(given.get("help", ""), str):
        _wrong("must have a text as 'help'")
    parameters = given.get("parameters", {})
    if not isinstance(parameters, Mapping) or len(parameters) > MOST_PARAMETERS:
        _wrong(f"must have as 'parameters' a dict of at most {MOST_PARAMETERS}")
    found = {key: _parameter(key, value) for key, value in parameters.items()}
    if sum(parameter.optional for parameter in found.values()) > MOST_OPTIONAL:
        _wrong(f"may have at most {MOST_OPTIONAL} optional parameters")
    argv = _argv(given.get("argv"), found)
    fields = {key: _field(key, given[key]) for key in (*DEFAULTS, *FIXED) if key in given}
    return Template(
        name=name, argv=argv, parameters=found, help=given.get("help", ""), fields=fields
    )


def _dict(entry: object, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        _wrong("must be a dict")
    for key in entry:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            _wrong(f"has an unknown key {validation.shown(key)}{hint}")
    return entry


def _field(name: str, value: object) -> Any:
    try:
        return validation.CHECKS[name](value)
    except InvalidField as error:
        _wrong(f"has an {str(error)[0].lower()}{str(error)[1:]}; {error.hint}")


def _argv(given: object, parameters: Mapping[str, Parameter]) -> tuple[Group, ...]:
    accepted = "must have as 'argv' a list of texts, or of lists of them, the program first"
    if not isinstance(given, list | tuple) or not given:
        _wrong(accepted)
    grouped = [[each] if isinstance(each, str) else each for each in given]
    if not all(isinstance(each, list | tuple) and each for each in grouped):
        _wrong(accepted)
    texts = [text for group in grouped for text in group]
    _field("argv", texts)
    groups = tuple(tuple(map(_element, group)) for group in grouped)
    used = set().union(*map(_names, groups))
    if unknown := sorted(used - parameters.keys()):
        _wrong(f"uses {{{unknown[0]}}}, which is not among its 'parameters'")
    if unused := sorted(parameters.keys() - used):
        _wrong(f"never uses its parameter {unused[0]!r} in 'argv'")
    if _names(groups[0]):
        _wrong("must name its program itself: no parameter decides what runs")
    for is_script, text in zip(_scripts(texts), texts, strict=True):
        if is_script and _names((_element(text),)):
            _wrong(
                f"would make a parameter text for a shell in {validation.shown(text)}; "
                'hand it over as an argument: ["sh", "-c", "echo \\"$1\\"", "sh", "{…}"]'
            )
    return groups


def _scripts(given: Sequence[str]) -> Iterator[bool]:
    """For each argument, whether a shell before it would take it for its script."""
    shell, asked, before = False, False, ""
    for text in given:
        yield asked
        option = text.startswith(("-", "+")) or before.endswith(("o", "O"))
        asked = (asked and option) or (shell and bool(_SCRIPT.match(text)))
        shell = posixpath.basename(text) in SHELLS or (shell and option)
        before = text


def _element(text: str) -> Element:
    try:
        parts = list(Formatter().parse(text))
    except ValueError:
        _wrong(f"has a lone brace in {validation.shown(text)}; write {{{{ or }}}} for a brace")
    for _, name, spec, conversion in parts:
        if name is not None and (spec or conversion or not _PARAMETER.match(name)):
            _wrong(f"must use a parameter as {{name}}, not as in {validation.shown(text)}")
    return tuple((literal, name) for literal, name, _, _ in parts)


def _parameter(name: object, entry: object) -> Parameter:
    try:
        if not isinstance(name, str) or not _PARAMETER.match(name):
            _wrong("must have a name of 1 to 40 small letters, digits and '_'")
        kind = entry.get("type") if isinstance(entry, Mapping) else None
        if not isinstance(kind, str) or kind not in TYPES:
            _wrong(f"must have a 'type': {', '.join(TYPES)}")
        given = {**COMMON, **TYPES[kind], **_dict(entry, [*COMMON, *TYPES[kind]])}
        for key, plain in _PLAIN.items():
            if key in given and type(given[key]) is not plain:
                _wrong(f"must have {plain.__name__} as {key!r}, not {validation.shown(given[key])}")
        _check_bounds(kind, given)
        if given["optional"] and given["default"] is not None:
            _wrong("is either 'optional' or has a 'default'")
        bounds = {key: given[key] for key in TYPES[kind]}
        common = {"name": name, "type": kind, "help": given["help"], "bounds": bounds}
        make = partial(Parameter, **common, optional=given["optional"])
        default = given["default"]
        return make(default=None if default is None else make().read(default))
    except InvalidField as error:
        raise _Wrong(f"['parameters'][{_key(name)}] default: {error.hint}") from None
    except _Wrong as wrong:
        raise _Wrong(f"['parameters'][{_key(name)}]{wrong}") from None


def _check_bounds(kind: str, given: dict[str, Any]) -> None:
    match kind:
        case "int" if not -(10**18) < given["min"] <= given["max"] < 10**18:
            _wrong("must have a 'min' that is not above its 'max', both of at most 18 digits")
        case "text" if not 1 <= given["max_length"] <= LONGEST_TEXT:
            _wrong(f"must have a 'max_length' from 1 to {LONGEST_TEXT}")
        case "text":
            try:
                re.compile(given["pattern"])
            except (re.error, OverflowError, RecursionError) as error:
                _wrong(f"has a 'pattern' that is no regular expression: {error}")
        case "path" if given["under"]:
            if not given["under"].startswith("/") or not given["under"].isprintable():
                _wrong("must have an absolute path as 'under'")
            given["under"] = posixpath.normpath(given["under"])
        case "choice":
            choices = given["choices"]
            ok = isinstance(choices, list | tuple) and choices
            if not ok or not all(isinstance(c, str) and c and c.isprintable() for c in choices):
                _wrong("must have as 'choices' a list of printable texts")
            given["choices"] = tuple(choices)
