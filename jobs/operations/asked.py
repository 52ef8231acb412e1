"""What somebody asks for becomes a checked request; a template is filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from .. import conf, validation
from ..commands import FIXED, Template
from ..exceptions import InvalidField
from ..validation import JobRequest
from .policy import Kind


def checked(given: object, now: datetime) -> JobRequest:
    """Check what somebody asks for now; a template is filled in. Raises InvalidField."""
    if not isinstance(given, Mapping):
        return validation.job_request(given, now)
    asked = {name: value for name, value in given.items() if name not in ("template", "parameters")}
    values = given.get("parameters")
    if given.get("template") is None and values is None:
        return validation.job_request(asked, now)
    template = _template(given.get("template"))
    for name in ("command", "argv", *FIXED):
        if given.get(name) is not None:
            hint = f"leave '{name}' out, or the template"
            raise InvalidField(name, f"A job of a template takes no '{name}'", hint=hint)
    if not isinstance(values, Mapping | None):
        message = f"Invalid parameters: {validation.shown(values)}"
        raise InvalidField("parameters", message, hint="parameters takes an object of values")
    filled = {**template.fields, "argv": template.fill(values or {})}
    said = {name: value for name, value in asked.items() if value is not None}
    return replace(validation.job_request({**filled, **said}, now), template=template.name)


def _template(name: object) -> Template:
    known = conf.get().COMMANDS
    if isinstance(name, str) and name in known:
        return known[name]
    near = validation.nearest(name, known)
    hint = f"did you mean '{near}'?" if near else f"known templates: {', '.join(known) or 'none'}"
    message = "'parameters' needs a 'template'"
    if name is not None:
        message = f"There is no command template {validation.shown(name)}"
    raise InvalidField("template", message, hint=hint)


def kind_asked(request: JobRequest) -> Kind:
    if request.task is not None:
        return Kind.TASK
    if request.template is not None:
        return Kind.TEMPLATE
    return Kind.SHELL if request.argv is None else Kind.ARGV
