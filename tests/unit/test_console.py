import os
import sys
from pathlib import Path

import pytest

from jobs.cli.console import _find_settings
from jobs.cli.door import actor

MANAGE = """import os\nos.environ.setdefault({quote}DJANGO_SETTINGS_MODULE{quote}, {quote}{name}{quote})\n"""


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "kept.for.the.end")
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    monkeypatch.setattr(sys, "path", list(sys.path))
    here = tmp_path / "project" / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    return tmp_path / "project"


def manage_py(directory: Path, name: str = "site.settings", quote: str = '"') -> None:
    (directory / "manage.py").write_text(MANAGE.format(name=name, quote=quote))


def found(*words: str) -> str:
    _find_settings(list(words))
    return os.environ["DJANGO_SETTINGS_MODULE"]


@pytest.mark.parametrize("quote", ["'", '"'])
def test_the_nearest_manage_py_upwards_names_the_settings(nowhere: Path, quote: str) -> None:
    manage_py(nowhere, "far.settings")
    manage_py(nowhere / "a", "near.settings", quote)
    assert found("status") == "near.settings"


def test_the_folder_of_manage_py_can_be_imported_from(nowhere: Path) -> None:
    manage_py(nowhere)
    found()
    assert sys.path[0] == str(nowhere)


def test_the_environment_wins_over_manage_py(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manage_py(nowhere)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "environment.settings")
    assert found() == "environment.settings"


@pytest.mark.parametrize(
    "words",
    [
        ["--settings", "given.settings", "status"],
        ["status", "--settings=given.settings"],
        ["enqueue", "--settings=given.settings", "--", "ls"],
    ],
)
def test_an_option_wins_over_everything(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    manage_py(nowhere)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "environment.settings")
    assert found(*words) == "given.settings"


def test_an_option_after_two_dashes_is_the_commands_own(nowhere: Path) -> None:
    manage_py(nowhere)
    assert found("enqueue", "--", "tool", "--settings=theirs") == "site.settings"


def test_without_a_project_the_three_ways_are_named() -> None:
    with pytest.raises(LookupError) as caught:
        _find_settings(["status"])
    said = str(caught.value)
    assert all(way in said for way in ("manage.py", "DJANGO_SETTINGS_MODULE", "--settings"))


def test_a_manage_py_that_names_no_settings_is_not_enough(nowhere: Path) -> None:
    (nowhere / "manage.py").write_text("print('hello')\n")
    with pytest.raises(LookupError):
        _find_settings([])


def test_a_directory_that_was_deleted_is_told() -> None:
    Path.cwd().rmdir()
    with pytest.raises(LookupError, match="was deleted"):
        found()


@pytest.mark.parametrize("what", ["is_file", "read_text"])
def test_a_folder_that_may_not_be_looked_into_has_no_manage_py(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Root may look anywhere, so it is told here that it may not."""
    inner = getattr(Path, what)

    def refused(path: Path, **how: str) -> object:
        if path.parent == nowhere / "a":
            raise PermissionError(13, "Permission denied", str(path))
        return inner(path, **how)

    manage_py(nowhere / "a", "near.settings")
    monkeypatch.setattr(Path, what, refused)
    with pytest.raises(LookupError, match="No Django project found"):
        found()
    manage_py(nowhere, "far.settings")
    assert found() == "far.settings"


def test_a_name_that_is_no_text_is_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann\udcff")
    assert actor().name.encode("utf-8").startswith(b"ann")
