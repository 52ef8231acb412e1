"""The console script `queuectl`: `python manage.py queuectl` from anywhere below the project."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

_DEFAULT = re.compile(r"""["']DJANGO_SETTINGS_MODULE["']\s*,\s*["']([\w.]+)["']""")


def main() -> None:
    """Find the project's settings, then be its umbrella command."""
    try:
        _find_settings(sys.argv[1:])
    except LookupError as error:
        sys.exit(f"Error: {error.args[0]}")
    from django.core.exceptions import ImproperlyConfigured

    try:
        import django

        django.setup()
        from .tree import Umbrella

        Umbrella().run_from_argv(["queuectl", "", *sys.argv[1:]])
    except ImproperlyConfigured as error:
        sys.exit(f"Error: {error}")
    except ImportError as error:
        if os.environ["DJANGO_SETTINGS_MODULE"].startswith(error.name or "\0"):
            sys.exit(
                f"Error: the settings {os.environ['DJANGO_SETTINGS_MODULE']!r} cannot be imported: {error}"
            )
        raise


def _find_settings(words: list[str]) -> None:
    """--settings, else DJANGO_SETTINGS_MODULE, else what the nearest manage.py upwards names."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise LookupError("The current directory was deleted: go to another") from None
    named = _option(words)
    if named:
        os.environ["DJANGO_SETTINGS_MODULE"] = named
    found = _nearest_manage_py()
    if found:
        folder, text = found
        sys.path.insert(0, str(folder))
        if match := _DEFAULT.search(text):
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", match[1])
    elif str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        raise LookupError(
            "No Django project found: go to the folder of its manage.py, "
            "set DJANGO_SETTINGS_MODULE, or give --settings"
        )


def _option(words: list[str]) -> str | None:
    if "--" in words:
        words = words[: words.index("--")]
    for index, word in enumerate(words):
        if word.startswith("--settings="):
            return word.partition("=")[2]
        if word == "--settings" and index + 1 < len(words):
            return words[index + 1]
    return None


def _nearest_manage_py() -> tuple[Path, str] | None:
    """Its folder and its text. One that may not be looked at is not there."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        file = folder / "manage.py"
        with suppress(OSError):
            if file.is_file():
                return folder, file.read_text(errors="replace")
    return None
