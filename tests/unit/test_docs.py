"""What the pages say is what there is."""

import importlib.util
import re
from argparse import Action, ArgumentParser
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
from django.core.management import get_commands

from jobs import conf, transfer
from jobs.cli.tree import Umbrella
from jobs.outcome import Kind
from jobs.pages.verbs import VERBS
from jobs.states import JobState
from jobs.transfer import formats, native, original
from jobs.transfer.source import LONGEST
from jobs.wording import ICONS
from queuectl_project import settings as project

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def section(page: str, heading: str) -> str:
    """What stands below a heading, up to the next of its rank or above."""
    rank = heading.partition(" ")[0]
    found = re.search(
        rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(rank)}}} |\Z)",
        without_blocks(text_of(page)),
        flags=re.MULTILINE | re.DOTALL,
    )
    assert found, f"{page} has no heading {heading!r}"
    return found[1]


BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def without_blocks(text: str) -> str:
    return BLOCK.sub("", text)


def introduction(page: str) -> str:
    """What stands before the first heading of the second rank."""
    return text_of(page).partition("\n## ")[0]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of tables by what stands in code in their first cell, or the second after an icon."""
    found = {}
    for line in re.findall(r"^\| (.*) \|$", text, flags=re.MULTILINE):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        first = 0 if cells[0].startswith("`") else 1
        for name in re.findall(r"`([^`]+)`", cells[first]) if len(cells) > first else []:
            found[name] = cells[first + 1 :]
    return found


# Commands


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_is_what_the_commands_say_of_themselves() -> None:
    module = reference()
    assert module.PAGE.read_text() == module.page(), "run: python docs/reference.py"


def commands(parser: ArgumentParser, name: str) -> Iterator[tuple[str, ArgumentParser]]:
    """Every command that can be typed, by its full name, with its parser."""
    groups = [a for a in parser._actions if isinstance(a.choices, Mapping)]
    if not groups:
        yield name, parser
    for group in groups:
        for word, child in group.choices.items():  # type: ignore[union-attr]
            yield from commands(child, f"{name} {word}")


def heading_of(name: str, known: Mapping[str, ArgumentParser]) -> str:
    """Where a command is described: a verb of `job` without its group, where it has it."""
    grouped = name.replace("queuectl ", "queuectl job ", 1)
    return f"## {grouped if grouped in known else name}"


def test_every_command_has_its_section_and_every_option_its_row() -> None:
    known = dict(commands(Umbrella().create_parser("queuectl", ""), "queuectl"))
    assert len(known) > 25
    head = introduction("docs/commands.md")
    for name, parser in known.items():
        described = section("docs/commands.md", heading_of(name, known))
        assert f"[`{heading_of(name, known)[3:]}`]" in head, name
        for action in parser._actions:
            for word in words(action):
                everywhere = re.search(rf"`{re.escape(word)}[` ]", head)
                assert everywhere or re.search(rf"`{re.escape(word)}[` …]", described), (name, word)


def words(action: Action) -> list[str]:
    """What a person may type of an argument: its options, or its place's name."""
    if action.option_strings:
        return [word for word in action.option_strings if word != "-h"]
    return [str(action.metavar or action.dest)]


def test_every_exit_code_has_its_row() -> None:
    from jobs.cli import door, listing

    table = re.findall(r"^\| (\d+) \|", text_of("docs/commands.md"), flags=re.MULTILINE)
    codes = {door.DONE, door.REFUSED, door.USAGE, door.INTERRUPTED, listing.ATTENTION}
    assert {int(code) for code in table} == codes


# Settings


RUNTIME, DICT, ENVIRONMENT = (
    "## In the database, obeyed by running workers",
    "## In the site's settings: the dict `QUEUECTL`",
    "## In the environment: the bundled project",
)


def assert_are_told(heading: str, defaults: Mapping[str, str]) -> None:
    """Each has its row, with its default and a reason, and there is no other."""
    told = rows(section("docs/settings.md", heading))
    assert {name: cells[0] for name, cells in told.items()} == dict(defaults)
    for name, cells in told.items():
        assert len(cells[1]) > 20, f"{name}: why?"


def test_every_setting_in_the_database_is_told_with_its_default_and_why() -> None:
    assert_are_told(RUNTIME, {s.name: str(s.default) for s in conf.RUNTIME.values()})


def test_every_setting_of_the_site_is_told_with_its_default_and_why() -> None:
    assert_are_told(
        DICT, {f.name: written(getattr(conf.Settings(), f.name)) for f in fields(conf.Settings)}
    )


def written(value: object) -> str:
    if value in ((), {}):
        return f"`{[] if value == () else {}}`"
    if isinstance(value, tuple):
        return f"`{' '.join(value)}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value}`" if isinstance(value, bool | dict) else f"{value:.12g}"


def test_every_variable_of_the_project_is_told_with_its_default_and_why() -> None:
    source = Path(project.__file__).read_text()
    names = re.findall(r'= (?:\{.*)?\w+\(\s*"([A-Z_]+)", (?:default|file)=(.*)\)', source)
    told = rows(section("docs/settings.md", ENVIRONMENT))
    assert list(told) == ["DATABASE_URL", *(n for n in told if n != "DATABASE_URL")]
    assert set(told) == {name for name, _ in names}
    assert set(told) == set(re.findall(r"[A-Z][A-Z_]{3,}", str(project.__doc__)))
    for name, default in names:
        cells = told[name]
        assert len(cells[1]) > 20, f"{name}: why?"
        for word in re.findall(r'"([^"]+)"', default):
            assert word.lstrip(".") in cells[0], (name, word)
        if default in ("True", "False"):
            assert cells[0] == {"True": "`on`", "False": "`off`"}[default]


# States


def test_every_state_has_its_row_with_its_icon_and_what_a_person_may_do() -> None:
    page = introduction("docs/states.md")
    told = rows(page)
    for state in JobState:
        assert f"| {ICONS[state]} | `{state}` |" in page
        allowed = [v for v in VERBS.values() if state in v.allowed and v.name != "run-again"]
        words = {verb.label.lower() for verb in allowed}
        assert set(told[state][1].split(", ")) == words, state
    assert set(VERBS["run-again"].allowed) == set(JobState)  # as the page says below the table


def test_every_outcome_of_an_attempt_has_its_row() -> None:
    assert set(rows(section("docs/states.md", "## What an attempt comes to"))) == set(Kind)


def diagram(page: str) -> str:
    found = re.search(r"^```\n( +enqueue.*?)^```", text_of(page), flags=re.MULTILINE | re.DOTALL)
    assert found, page
    return found[1]


def test_the_diagram_is_the_same_on_both_pages_and_names_every_state() -> None:
    assert diagram("README.md") == diagram("docs/states.md")
    named = set(re.findall(r"[a-z]+", diagram("README.md")))
    assert set(JobState) - named == {JobState.BLOCKED}
    assert "`blocked`" in section("README.md", "## What becomes of a job")


# Files


FIELDS = {
    "## The original's `jobs.json`": original.KEYS,
    "## The original's `config.json`": original.CONFIG,
    "### Line `setting`": native.SETTING,
    "### Line `queue`": native.QUEUE,
    "### Line `job`": native.JOB,
    "### Line `attempt`": native.ATTEMPT,
    "### Line `output`": native.OUTPUT,
    "### Line `end`": native.END,
}


@pytest.mark.parametrize("heading", FIELDS)
def test_every_field_of_a_file_has_its_row_and_there_is_no_other(heading: str) -> None:
    table = re.search(r"(^\|.*\n)+", section("docs/files.md", heading), flags=re.MULTILINE)
    assert table and list(rows(table[0])) == list(FIELDS[heading])


def test_every_kind_of_file_and_line_is_told() -> None:
    told = rows(introduction("docs/files.md"))
    assert set(told) == {form.name for form in (formats.JOBS, formats.CONFIG, formats.QUEUECTL)}
    written = {cells[1].strip("`") for cells in told.values()}
    assert written == {"export", "export --format original", "export --config"}
    assert transfer.FORMATS == ("queuectl", "original")
    lines = {heading.split("`")[1] for heading in FIELDS if heading.startswith("### Line")}
    assert lines == set(native._READ)


def test_every_state_is_mapped_from_the_originals_and_to_them() -> None:
    mapping = section("docs/files.md", "## The original's `jobs.json`").partition("State there")[2]
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in mapping.splitlines()[2:7]]
    assert [row[0] for row in table] == [f"`{state}`" for state in original.STATES]
    out = {state: row[4].strip("`") for row in table for state in re.findall(r"`(\w+)`", row[3])}
    assert out == {state: original.WRITTEN.get(state, state) for state in JobState}


def test_the_limits_of_files_are_those_in_force() -> None:
    page = text_of("docs/files.md")
    for number in (LONGEST, native.PIECE):
        assert f"{number:,} bytes" in page
    assert f"Version {native.VERSION}." in page


# Permissions


def test_every_permission_is_told() -> None:
    from django.apps import apps

    told = rows(section("docs/operating.md", "## The web page and the admin"))
    models = list(apps.get_app_config("queuectl").get_models())
    own = {name for model in models for name, _ in model._meta.permissions}
    assert own - set(told) == set()
    asked = re.findall(
        r"(?:queuectl\.|must\(\")(\w+_[a-z]+)\"",
        "".join(path.read_text() for path in (ROOT / "jobs").rglob("*.py")),
    )
    assert set(asked) - set(told) == set()


# The pages themselves


def test_the_readme_stays_under_200_lines() -> None:
    assert len(text_of("README.md").splitlines()) < 200


def test_the_readme_leads_to_every_page() -> None:
    targets = set(links(ROOT / "README.md"))
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= targets


def links(page: Path) -> list[str]:
    """Where a page leads, and what it shows, on this site."""
    text = without_blocks(page.read_text())
    found = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", text)
    return [a or b for a, b in found if not re.match(r"[a-z]+:", a or b)]


@each_page
def test_every_link_and_picture_is_there(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", without_blocks(page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pictures_are_those_the_script_makes() -> None:
    source = text_of("docs/screenshots.py")
    made = re.search(r"^SHOWN = (\{.*\})$", source, flags=re.MULTILINE)
    assert made
    names = {
        f"{name}-{scheme}.png"
        for name, schemes in re.findall(r'"([\w-]+)": \(([^)]*)\)', made[1])
        for scheme in re.findall(r'"(\w+)"', schemes)
    }
    assert {path.name for path in (DOCS / "images").iterdir()} == names


RUN = ("console", "bash sqlite", "bash postgresql")
"""Blocks that tests/acceptance/test_readme.py types."""

TEXT = ("", "ini", "nginx", "text")


@each_page
def test_every_block_is_run_or_looked_at(page: Path) -> None:
    """A command in a page is typed by a test, or it is at least one that exists."""
    for kind, body in BLOCK.findall(page.read_text()):
        if kind == "bash":
            for line in body.splitlines():
                assert exists(line), line
        elif kind == "python":
            compile(body, page.name, "exec")
        else:
            assert kind in (*RUN, *TEXT) or re.fullmatch(r"json \w+\.jsonl?", kind), kind


def test_the_lines_for_a_site_of_its_own_put_the_pages_there() -> None:
    from django.urls import include, path

    [lines] = [body for kind, body in BLOCK.findall(text_of("README.md")) if kind == "python"]
    names = {"INSTALLED_APPS": [], "urlpatterns": [], "include": include, "path": path}
    exec(lines, names)
    assert names["INSTALLED_APPS"] == ["jobs"]
    [found] = names["urlpatterns"]
    assert found.resolve("queue/jobs/").view_name == "queuectl:jobs"


def exists(line: str) -> bool:
    """Whether a target of make, or a command of manage.py, is there."""
    program, *words = line.split()
    if program == "make":
        return re.search(rf"^{words[0]}:", text_of("Makefile"), flags=re.MULTILINE) is not None
    return line.startswith("python manage.py ") and words[1] in get_commands()
