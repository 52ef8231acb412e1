"""Reading QUEUECTL["COMMANDS"]: what is registered there, or a sentence that says what is wrong."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from functools import partial
from string import Formatter
from typing import Any, NoReturn

from .. import validation
from ..exceptions import InvalidField
from .parameters import MOST_DIGITS, TYPES, Parameter
from .shells import scripts
from .template import DEFAULTS, FIXED, Element, Group, Template, names_in

COMMON: dict[str, Any] = {"type": None, "help": "", "optional": False, "default": None}
MOST_PARAMETERS, MOST_OPTIONAL, LONGEST_TEXT = 32, 8, 100_000
_TOO_MUCH = 10**MOST_DIGITS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_PLAIN: dict[str, type] = {
    "help": str, "optional": bool, "dash": bool, "max_length": int, "pattern": str, "under": str,
    "min": int, "max": int,
}  # fmt: skip


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
            near = validation.nearest(key, known)
            hint = f"; did you mean {near!r}?" if near else f"; known: {', '.join(known)}"
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
    used = set().union(*map(names_in, groups))
    if unknown := sorted(used - parameters.keys()):
        _wrong(f"uses {{{unknown[0]}}}, which is not among its 'parameters'")
    if unused := sorted(parameters.keys() - used):
        _wrong(f"never uses its parameter {unused[0]!r} in 'argv'")
    if names_in(groups[0]):
        _wrong("must name its program itself: no parameter decides what runs")
    # What may be left out may stand between a shell and its script.
    optional = [index for index, each in enumerate(given) if not isinstance(each, str)]
    for missing in ([], *([index] for index in optional), optional):
        kept = [group for index, group in enumerate(grouped) if index not in missing]
        _no_text_for_a_shell([text for group in kept for text in group])
    return groups


def _no_text_for_a_shell(texts: Sequence[str]) -> None:
    for is_script, text in zip(scripts(texts), texts, strict=True):
        if is_script and names_in((_element(text),)):
            _wrong(
                f"would make a parameter text for a shell in {validation.shown(text)}; "
                'hand it over as an argument: ["sh", "-c", "echo \\"$1\\"", "sh", "{…}"]'
            )


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
        case "int" if not -_TOO_MUCH < given["min"] <= given["max"] < _TOO_MUCH:
            _wrong(
                f"must have a 'min' that is not above its 'max', both of at most {MOST_DIGITS} digits"
            )
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
