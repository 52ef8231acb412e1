from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .. import conf, operations
from ..models import Setting
from . import door
from .arguments import add_json
from .printing import Printer


def build(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in ("show", "list"):
        showing = verbs.add_parser(
            name, help="all settings", description="All settings and their values."
        )
        add_json(showing)
        showing.set_defaults(verb=show, reads=True)
    getting = verbs.add_parser("get", help="one value", description="The value of one setting.")
    getting.add_argument("key", help=", ".join(conf.RUNTIME))
    getting.set_defaults(verb=get, reads=True)
    setting = verbs.add_parser("set", help="change a value", description="Change one setting.")
    setting.add_argument("key", help=", ".join(conf.RUNTIME))
    setting.add_argument("value", help="a number; docs/settings.md says which are accepted")
    setting.set_defaults(verb=set_value)


def _values() -> dict[str, int | float]:
    stored = Setting.objects.stored()
    return {name: stored.get(name, setting.default) for name, setting in conf.RUNTIME.items()}


def show(options: Namespace, printer: Printer) -> int:
    values = _values()
    if printer.as_json:
        printer.json({name.replace("-", "_"): value for name, value in values.items()})
        return door.DONE
    printer.line("Current Configuration:")
    printer.line("-" * 40)
    for name, value in values.items():
        printer.line(f"{name}: {value}")
    return door.DONE


def get(options: Namespace, printer: Printer) -> int:
    printer.line(str(_values()[conf.runtime(options.key).name]))
    return door.DONE


def set_value(options: Namespace, printer: Printer) -> int:
    value = operations.set_setting(options.key, options.value, door.actor())
    printer.line(f"Configuration '{options.key}' set to {value}")
    return door.DONE
