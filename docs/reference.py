"""Write docs/commands.md from the commands' own help: `python docs/reference.py`."""

import os
import sys
from argparse import SUPPRESS, Action, ArgumentParser
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
everything else to stderr; with `--json` an error is an object too. `--traceback` shows the traceback
of a database error.

| Exit code | Meaning |
| --- | --- |
| 0 | done |
| 1 | refused or failed: no such job, id taken, wrong state, database unreachable or not migrated |
| 2 | usage |
| 5 | `status --check`: something needs attention |
| 130 | Ctrl-C; `worker start`: cut short by a second signal |
"""


def page() -> str:
    """The whole page, made from the parser."""
    import django

    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "queuectl_project.settings")
    django.setup()
    from jobs.cli.tree import Umbrella

    parser = Umbrella().create_parser("queuectl", "")
    return "\n".join([HEAD, *_sections(parser, "queuectl", "")])


def _sections(parser: ArgumentParser, name: str, text: str) -> list[str]:
    groups = [action for action in parser._actions if action.nargs == "A..."]
    if not groups:
        return [_section(parser, name, text)]
    found = []
    for choice in groups[0]._choices_actions:  # type: ignore[attr-defined]
        child = groups[0].choices[choice.dest]  # type: ignore[index, call-overload]
        found += _sections(child, f"{name} {choice.dest}", choice.help or "")
    return found


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
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    names = ", ".join(f"`{option}{value}`" for option in action.option_strings)
    text = (action.help or "").replace("|", "\\|")
    return f"| {names or f'`{action.metavar or action.dest}`'} | {text} |"


if __name__ == "__main__":
    PAGE.write_text(page())
