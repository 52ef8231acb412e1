import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli import printing
from jobs.cli.printing import Printer


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def ordinary_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")


def printer(terminal: bool = False, **options: Any) -> Printer:
    return Printer(Terminal() if terminal else io.StringIO(), io.StringIO(), **options)


def printed(given_printer: Printer) -> str:
    assert isinstance(given_printer.out, io.StringIO)
    return given_printer.out.getvalue()


HOSTILE = [
    "\x1b]52;c;eA==\x07",
    "\x1b[2J",
    "\x9b31m",
    "\r",
    "\u202e",
    "\x1bPq\x1b\\",
    "\x7f",
    "\x08",
]
CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n", "\t"}


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_control_sequence_in_output_is_obeyed(text: str, terminal: bool) -> None:
    to = printer(terminal)
    to.text(f"a{text}b".encode())
    assert not CONTROLS & set(printed(to)) and "\u202e" not in printed(to)


@given(st.binary())
def test_whatever_a_job_prints_a_pipe_gets_no_control_byte(data: bytes) -> None:
    to = printer()
    to.text(data)
    assert not CONTROLS & set(printed(to))


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_whatever_a_job_prints_a_terminal_gets_no_more_than_colours(data: bytes) -> None:
    to = printer(terminal=True, color="auto")
    to.text(data)
    assert not CONTROLS & set(printing._SGR.sub("", printed(to)))


def test_colours_pass_to_a_terminal_and_end_with_the_output() -> None:
    to = printer(terminal=True)
    to.text(b"\x1b[31mred")
    assert printed(to) == "\x1b[31mred\x1b[0m"


@pytest.mark.parametrize("options", [{"color": "never"}, {}])
def test_colours_are_taken_out_where_there_are_none(options: dict[str, str]) -> None:
    to = printer(terminal=bool(options), **options)
    to.text(b"\x1b[1;31mred\x1b[0m\n")
    assert printed(to) == "red\n"


@pytest.mark.parametrize("text", [*HOSTILE, "a\nb"], ids=ascii)
def test_a_cell_of_a_plain_table_is_harmless(text: str) -> None:
    to = printer()
    to.columns(["ID", "COMMAND"], [("job1", f"a{text}b")])
    assert not CONTROLS & set(printed(to)) and printed(to).count("\n") == 2


@pytest.mark.parametrize("text", [*HOSTILE, "a\nb"], ids=ascii)
def test_a_cell_of_a_terminals_table_is_harmless(text: str) -> None:
    to = printer(terminal=True)
    to.table(["ID", "COMMAND"], [("job1", f"a{text}b")], stretch=["COMMAND"])
    shown = printing._SGR.sub("", printed(to))
    assert not CONTROLS & set(shown) and shown.count("\n") == 2


def test_brackets_in_a_cell_are_no_markup() -> None:
    to = printer(terminal=True)
    to.table(
        ["ID", "COMMAND"], [("job1", "echo [red]x[/red] [link=http://x]y")], stretch=["COMMAND"]
    )
    assert "echo [red]x[/red] [link=http://x]y" in printed(to)


def test_plain_columns_are_aligned_and_end_without_spaces() -> None:
    to = printer()
    to.columns(["A", "B"], [("long one", "x"), ("s", "")])
    assert printed(to) == "A         B\nlong one  x\ns\n"


@pytest.mark.parametrize(
    ("terminal", "environment", "options", "expected"),
    [
        (True, {}, {}, (True, True)),
        (False, {}, {}, (False, False)),
        (True, {"NO_COLOR": "1"}, {}, (True, False)),
        (True, {"TERM": "dumb"}, {}, (False, False)),
        (False, {"FORCE_COLOR": "1"}, {}, (True, True)),
        (False, {}, {"color": "always"}, (True, True)),
        (True, {}, {"color": "never"}, (True, False)),
        (True, {}, {"as_json": True}, (False, False)),
    ],
)
def test_what_stdout_is_decides_how_things_look(
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    environment: dict[str, str],
    options: dict[str, Any],
    expected: tuple[bool, bool],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    to = printer(terminal, **options)
    assert (to.is_terminal, to.color) == expected


@pytest.mark.parametrize("text", [*HOSTILE, "a\nb", "\x85", "é 名"], ids=ascii)
def test_json_says_everything_and_a_terminal_obeys_none_of_it(text: str) -> None:
    to = printer(as_json=True)
    to.json({"command": text})
    assert json.loads(printed(to)) == {"command": text}
    assert not CONTROLS & set(printed(to)) and "\u202e" not in printed(to)
