"""Write docs/commands.md from the commands' own help: `python docs/reference.py`."""

import os
import sys
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "commands.md"
HEAD = """# Commands

`queuectl …` is `python manage.py queuectl …`; `enqueue`, `worker`, `status` and `dlq` are commands
of `manage.py` of their own. The console script finds the project by `--settings`, else
`DJANGO_SETTINGS_MODULE`, else the nearest `manage.py` upwards. The verbs of `job` work without
their group too: `queuectl output ID` is `queuectl job output ID`.

On a terminal there are tables and colours, in a pipe plain whole lines without an escape
sequence. `--color always|never`, `NO_COLOR` and `FORCE_COLOR` overrule that. Data goes to stdout,
everything else to stderr; with `--json` an error is an object too, but for one in the words typed.
Every command takes `--help`, `--settings MODULE` and `--traceback`, which shows the traceback of a
database error.

What stands after a lone `--` is never an option: `queuectl enqueue -- ls --all`. A time is
`2030-12-31T23:59:00Z`, a span a number with a unit: `90s`, `10m`, `2h`, `1d`, `1w`. Where several ids may
stand there is a `…`; the beginning of an id will do if no other begins so.

| Exit code | Meaning |
| --- | --- |
| 0 | done |
| 1 | refused or failed: no such job, id taken, wrong state, database unreachable or not migrated |
| 2 | usage |
| 5 | `status --check`: something needs attention |
| 130 | Ctrl-C, of `import` and `export` SIGTERM too; `worker start`: cut short by a second signal |

| Command | |
| --- | --- |
"""


def page() -> str:
    """The whole page, made from the parser."""
    import django

    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "queuectl_project.settings")
    django.setup()
    from jobs.cli.tree import Umbrella

    commands = list(_commands(Umbrella().create_parser("queuectl", ""), "queuectl", ""))
    contents = "".join(
        f"| [`{name}`](#{name.replace(' ', '-')}) | {text} |\n" for _, name, text in commands
    )
    return HEAD + contents + "\n" + "\n".join(_section(*command) for command in commands)


def _commands(
    parser: ArgumentParser, name: str, text: str
) -> Iterator[tuple[ArgumentParser, str, str]]:
    groups = [action for action in parser._actions if action.nargs == "A..."]
    if not groups:
        yield parser, name, text
        return
    for choice in groups[0]._choices_actions:  # type: ignore[attr-defined]
        child = groups[0].choices[choice.dest]  # type: ignore[index, call-overload]
        yield from _commands(child, f"{name} {choice.dest}", choice.help or "")


def _section(parser: ArgumentParser, name: str, text: str) -> str:
    lines = [f"## {name}", "", f"{text.capitalize()}.", ""]
    rows = [_row(action) for action in parser._actions if _is_told(action)]
    if rows:
        lines += ["| | |", "| --- | --- |", *rows, ""]
    if parser.epilog:
        lines += ["```", parser.epilog.strip(), "```", ""]
    return "\n".join(lines)


def _is_told(action: Action) -> bool:
    return action.help != SUPPRESS and action.dest not in ("help", "settings", "traceback")


def _row(action: Action) -> str:
    more = "…" if action.nargs in ("+", "*") else ""
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}{more}"
    names = ", ".join(f"`{option}{value}`" for option in action.option_strings)
    text = (action.help or "").replace("|", "\\|")
    return f"| {names or f'`{action.metavar or action.dest}{more}`'} | {text} |"


if __name__ == "__main__":
    PAGE.write_text(page())
