"""What the pages say is what there is."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest

from jobs import conf
from jobs.outcome import Kind
from jobs.states import JobState

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def first_cells(page: str) -> set[str]:
    """What stands in code at the beginning of a row of a table."""
    text = (DOCS / page).read_text()
    return set(re.findall(r"^\| (?:[^`|]* \| )?`([^`]+)`", text, flags=re.MULTILINE))


def test_the_page_of_commands_is_what_the_commands_say_of_themselves() -> None:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec and spec.loader
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    assert reference.PAGE.read_text() == reference.page(), "run: python docs/reference.py"


@pytest.mark.parametrize("name", [*conf.RUNTIME, *(f.name for f in fields(conf.Settings))])
def test_every_setting_has_its_row(name: str) -> None:
    assert name in first_cells("settings.md")


@pytest.mark.parametrize("setting", conf.RUNTIME.values(), ids=lambda setting: setting.name)
def test_the_page_of_settings_gives_the_default_in_force(setting: conf.RuntimeSetting) -> None:
    assert f"| `{setting.name}` | {setting.default} |" in (DOCS / "settings.md").read_text()


@pytest.mark.parametrize("word", [*JobState, *Kind])
def test_every_state_and_outcome_has_its_row(word: str) -> None:
    assert word in first_cells("states.md")


def test_the_readme_stays_under_200_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda p: p.name
)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
