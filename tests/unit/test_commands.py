"""Command templates: what may be registered, and what comes of what people fill in."""

from time import process_time
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from jobs import checks, commands, conf, validation
from jobs.commands import Template
from jobs.exceptions import InvalidField

Given = dict[str, Any]


def template(argv: list[Any], /, **parameters: Given) -> Template:
    found, problems = commands.registered({"it": {"argv": argv, "parameters": parameters}})
    assert problems == []
    return found["it"]


HUGE = 10**5000
"""Of more digits than Python makes text of."""

TEXT, PATH, INT = {"type": "text"}, {"type": "path"}, {"type": "int"}
UNDER = {"type": "path", "under": "/srv/"}
WRONG: list[tuple[Any, str]] = [
    ([], "must be a dict of templates"),
    ({"a b": {"argv": ["ls"]}}, "must have a name"),
    ({5: {"argv": ["ls"]}}, "must have a name"),
    ({"a": ["ls"]}, "must be a dict"),
    ({"a": {}}, "must have as 'argv'"),
    ({"a": {"argv": "ls"}}, "must have as 'argv'"),
    ({"a": {"argv": []}}, "must have as 'argv'"),
    ({"a": {"argv": ["ls", 5]}}, "must have as 'argv'"),
    ({"a": {"argv": ["ls", []]}}, "must have as 'argv'"),
    ({"a": {"argv": ["ls", "a\0b"]}}, "invalid argv"),
    ({"a": {"argv": ["ls"], "qeue": "x"}}, "did you mean 'queue'?"),
    ({"a": {"argv": ["ls"], "queue": "no good"}}, "invalid queue"),
    ({"a": {"argv": ["ls"], "timeout": -1}}, "invalid timeout"),
    ({"a": {"argv": ["ls"], "priority": "high"}}, "invalid priority"),
    ({"a": {"argv": ["ls"], "cwd": "here"}}, "invalid cwd"),
    ({"a": {"argv": ["ls"], "help": 5}}, "'help'"),
    ({"a": {"argv": ["ls"], "command": "ls"}}, "unknown key"),
    ({"a": {"argv": ["ls", "{x}"]}}, "uses {x}"),
    ({"a": {"argv": ["ls"], "parameters": {"x": TEXT}}}, "never uses its parameter 'x'"),
    ({"a": {"argv": ["{x}"], "parameters": {"x": TEXT}}}, "name its program"),
    ({"a": {"argv": ["ls", "{"]}}, "lone brace"),
    ({"a": {"argv": ["ls", "{}"]}}, "use a parameter as"),
    ({"a": {"argv": ["ls", "{x.y}"], "parameters": {"x": TEXT}}}, "use a parameter as"),
    ({"a": {"argv": ["ls", "{x!r}"], "parameters": {"x": TEXT}}}, "use a parameter as"),
    ({"a": {"argv": ["ls", "{x:>9}"], "parameters": {"x": TEXT}}}, "use a parameter as"),
    ({"a": {"argv": ["sh", "-c", "echo {x}"], "parameters": {"x": TEXT}}}, "text for a shell"),
    ({"a": {"argv": ["/bin/bash", "-o", "pipefail", "-ec", "{x}"], "parameters": {"x": TEXT}}}, "a shell"),
    ({"a": {"argv": ["env", "A=1", "sh", "-c", "{x}"], "parameters": {"x": TEXT}}}, "text for a shell"),
    ({"a": {"argv": ["sh", "-ce", "echo {x}"], "parameters": {"x": TEXT}}}, "text for a shell"),
    ({"a": {"argv": ["bash", "-c", "--", "{x}"], "parameters": {"x": TEXT}}}, "text for a shell"),
    ({"a": {"argv": ["rbash", "-c", "{x}"], "parameters": {"x": TEXT}}}, "text for a shell"),
    (
        {"a": {"argv": ["bash", "--rcfile", "/etc/rc", "-c", "{x}"], "parameters": {"x": TEXT}}},
        "text for a shell",
    ),
    (
        {"a": {"argv": ["sh", ["{f}"], "-c", "{x}"],
               "parameters": {"x": TEXT, "f": {"type": "text", "optional": True}}}},
        "text for a shell",
    ),
    ({"a": {"argv": ["x", "{x}"], "parameters": {"x": {"type": ["text"]}}}}, "must have a 'type'"),
    (
        {"a": {"argv": ["x", "{x}"], "parameters": {"x": {**TEXT, "pattern": "a{99999999999999999999}"}}}},
        "no regular expression",
    ),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": "text"}}}, "['x'] must have a 'type'"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {"type": "str"}}}}, "must have a 'type'"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {"type": "int", "max_length": 5}}}}, "unknown key"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {"type": "int", "min": "1"}}}}, "must have int"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {"type": "int", "min": True}}}}, "must have int"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {"type": "int", "min": 5, "max": 4}}}}, "not above"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {"type": "text", "max_length": 0}}}}, "'max_length'"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {"type": "text", "pattern": "("}}}}, "'pattern'"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {"type": "path", "under": "srv"}}}}, "'under'"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {"type": "choice"}}}}, "'choices'"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {"type": "choice", "choices": "ab"}}}}, "'choices'"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {"type": "int", "default": -1}}}}, "default"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {**INT, "optional": True, "default": 1}}}}, "either"),
    ({"a": {"argv": ["ls", "{X}"], "parameters": {"X": TEXT}}}, "must have a name"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {**INT, "default": HUGE}}}}, "default: x takes"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {**INT, "max": HUGE}}}}, "at most 18 digits"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {**INT, "min": -HUGE}}}}, "at most 18 digits"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {**TEXT, "max_length": HUGE}}}}, "'max_length'"),
    ({"a": {"argv": ["ls", "{x}"], "parameters": {"x": {**TEXT, "pattern": HUGE}}}}, "must have str"),
    ({"a": {"argv": ["ls"], "priority": HUGE}}, "invalid priority"),
    ({"a": {"argv": ["ls"], HUGE: 1}}, "unknown key (a very long number)"),
    ({HUGE: {"argv": ["ls"]}}, "must have a name"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_wrong_registration_is_told_in_one_sentence(given: Any, said: str) -> None:
    _, [problem] = commands.registered(given)
    assert said in problem and problem.startswith("QUEUECTL['COMMANDS']") and "\n" not in problem


MAYBE = {**TEXT, "optional": True}
READ_BY_A_SHELL: list[list[Any]] = [
    ["bash", "--init-file", "/etc/rc", "-c", "{x}"],
    ["sh", ["tool.sh", "{maybe}"], "-c", "{x}"],
    ["sh", "-c", ["true", "{maybe}"], "{x}"],
    ["sh", "-c{maybe}", "{x}"],
    ["sh", "-{maybe}", "{x}"],
    ["bash", "--{maybe}", "{x}"],
    ["sh", "+{maybe}", "/srv/tool.sh"],
    ["fish", "-d", "3", "-c", "{x}"],
    ["fish", "--init-command", "{x}"],
    ["ksh", "-R", "file", "-c", "{x}"],
    ["rksh", "-c", "{x}"],
    *[
        [shell, "-c", "{x}"]
        for shell in (
            "ksh93",
            "ksh2020",
            "bash-static",
            "zsh-static",
            "/bin/zsh5",
            "zsh-5.9",
            "bash-5.2",
            "rc",
            "osh",
            "ysh",
            "lksh",
            "pdksh",
            "oksh",
            "es",
            "elvish",
            "nu",
            "xonsh",
            "pwsh",
        )
    ],
    ["fish", "-C", "{x}"],
    ["fish", "--command={x}"],
    ["fish", "--init-command={x}"],
    ["fish", "--no-config", "--command={x}"],
    ["nu", "-e", "{x}"],
    ["nu", "--commands", "{x}"],
    ["nu", "--execute", "{x}"],
    ["nu", "--commands={x}"],
    ["nu", "--no-config-file", "--execute={x}"],
    ["nu", "--config", "/etc/config.nu", "-c", "{x}"],
    *[
        ["pwsh", option, "{x}"]
        for option in (
            "-e", "-ec", "-Enc", "-EncodedCommand", "--encodedcommand", "-C", "-com", "--COMMAND", "-cwa",
            "-CommandWithArgs", "\u2013c", "/c",
        )
    ],
    ["pwsh-preview", "-NoProfile", "-Command", "{x}"],
    ["pwsh", "-WorkingDirectory", "/srv", "-Command", "{x}"],
    ["pwsh", "-Command", "Get-Item", "{x}"],
    ["pwsh", "-e{maybe}", "{x}"],
    ["/opt/plan9/bin/rc", "-c", "{x}"],
    ["tool", "/opt/plan9/bin/rc", "-c", "{x}"],
    ["env", "LANG=C", "rc", "-c", "{x}"],
    ["sudo", "-u", "www", "nice", "es", "-c", "{x}"],
    ["timeout", "-s", "KILL", "5", "rc", "-c", "{x}"],
    ["/usr/sbin/chroot", "/srv", "nu", "-c", "{x}"],
]  # fmt: skip
LEFT_ALONE: list[list[Any]] = [
    ["sh", "-c", 'echo "$1"', "sh", "{x}"],
    ["sh", "-ec", 'exec tool "$@"', "tool", "-c", "{x}"],
    ["sh", "-e", "/srv/tool.sh", "-c", "{x}"],
    ["sh", "{x}"],
    ["bash", "--rcfile={x}", "/srv/tool.sh"],
    ["sh", "/srv/tool.sh", "-{x}"],
    ["tar", "-c", "{x}"],
    ["tar", "-C", "{x}"],
    ["bash", "-C", "/srv/tool.sh", "{x}"],
    ["tool", "--command={x}"],
    ["rsync5", "-c", "{x}"],
    ["aspell", "-l", "es", "-c", "{x}"],
    ["nice", "-n", "10", "aspell", "-l", "es", "-c", "{x}"],
    ["env", "LANG=es", "aspell", "--lang", "es", "-c", "{x}"],
    ["timeout", "5", "tool", "rc1", "-c", "{x}"],
    ["tool", "es6", "-c", "{x}"],
    ["tool", "--commands", "{x}"],
    ["nu", "/srv/tool.nu", "-c", "{x}"],
    ["pwsh", "-NoProfile", "-File", "/srv/tool.ps1", "-Command", "{x}"],
    ["pwsh", "-cwa", "Get-Item $args[0]", "{x}"],
    ["pwsh", "-ExecutionPolicy", "{x}"],
]


def registering(argv: list[Any]) -> list[str]:
    parameters = {name: MAYBE if name == "maybe" else TEXT for name in ("x", "maybe")}
    used = {name: taken for name, taken in parameters.items() if f"{{{name}}}" in str(argv)}
    return commands.registered({"it": {"argv": argv, "parameters": used}})[1]


@pytest.mark.parametrize("argv", READ_BY_A_SHELL, ids=str)
def test_whatever_stands_before_it_what_a_shell_would_read_is_refused(argv: list[Any]) -> None:
    [problem] = registering(argv)
    assert "text for a shell" in problem


@pytest.mark.parametrize("argv", LEFT_ALONE, ids=str)
def test_what_a_script_gets_as_its_arguments_is_left_alone(argv: list[Any]) -> None:
    assert registering(argv) == []


def test_what_is_wrong_is_told_by_the_check_and_stops_whatever_reads_the_settings() -> None:
    wrong = {"a": {"argv": []}, "b": {"argv": ["ls"]}, "c": {"argv": ["{x}"]}}
    with override_settings(QUEUECTL={"COMMANDS": wrong, "MAX_LOST": -1, "LEASE": 5}):
        errors = checks.settings_are_sound()
        assert [error.id for error in errors] == ["queuectl.E001"] * 4
        with pytest.raises(ImproperlyConfigured) as caught:
            conf.get()
        assert all(error.msg in str(caught.value) for error in errors)
    with override_settings(QUEUECTL={"COMMANDS": {"b": {"argv": ["ls"]}}}):
        assert checks.settings_are_sound() == []
        assert conf.get().COMMANDS["b"].fill({}) == ["ls"]


HOSTILE = [
    "; rm -rf /",
    "$(id)",
    "`id`",
    "a b",
    "'",
    '"',
    "*",
    "~",
    "{x}",
    "%s",
    "\\",
    "&&",
    "|",
    "#",
    "é",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_one_argument_and_means_itself(value: str) -> None:
    it = template(["tool", "{x}", "--name={x}!", "{{x}}"], x=TEXT)
    assert it.fill({"x": value}) == ["tool", value, f"--name={value}!", "{x}"]


REFUSED: list[tuple[Given, list[Any]]] = [
    (TEXT, ["", "-x", "--output=x", "-oProxyCommand=id", "a\0b", "a\nb", "a\rb", "a\x1b[2J", "\ud800",
            "\u202ea", "\u200ba", "x" * 201, 5, True, ["a"], {"a": 1}]),
    ({**TEXT, "pattern": "[a-z]+"}, ["A", "ab1", "ab\n", "ab "]),
    (PATH, ["", "-rf", "a\0b", "a\nb", "x" * 4097]),
    (UNDER, ["..", "../etc/passwd", "a/../../etc", "/etc/passwd", "/srv", "/srv/../etc", "/srvx/a", ".",
             "x" * 4095]),
    (INT, ["", "-1", "1.0", "1e3", "1_0", " 1", "1 ", "٣", "0x5", "9" * 19, 2**31, -1, 1.0, True, "nan",
           HUGE, -HUGE, "9" * 5000]),
    ({**INT, "min": 16, "max": 80}, ["15", "81", 15]),
    ({"type": "choice", "choices": ["png", "jpeg"]}, ["", "PNG", "png ", "pn", 5, True]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("parameter", "value"),
    [(parameter, value) for parameter, values in REFUSED for value in values],
    ids=lambda given: validation.shown(given)[:40],
)
def test_what_is_out_of_bounds_is_refused_by_name(parameter: Given, value: Any) -> None:
    with pytest.raises(InvalidField) as caught:
        template(["tool", "{x}"], x=parameter).fill({"x": value})
    assert caught.value.field == "parameters.x"
    assert caught.value.hint.startswith("x takes ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("parameter", "value", "argument"),
    [
        ({**TEXT, "dash": True}, "-x", "-x"),
        ({**TEXT, "pattern": "a|ab"}, "ab", "ab"),
        ({**PATH, "dash": True}, "-x", "-x"),
        (PATH, "../a", "../a"),
        (UNDER, "a//./b", "/srv/a/b"),
        (UNDER, "/srv/a", "/srv/a"),
        (UNDER, "-rf", "/srv/-rf"),
        (INT, "007", "7"),
        (INT, 2**31 - 1, str(2**31 - 1)),
        ({**INT, "min": -5}, "-5", "-5"),
        ({"type": "choice", "choices": ["-v"]}, "-v", "-v"),
    ],
)
def test_what_is_within_bounds_is_taken(parameter: Given, value: Any, argument: str) -> None:
    assert template(["tool", "{x}"], x=parameter).fill({"x": value}) == ["tool", argument]


def test_what_was_not_given_is_the_default_or_left_out_or_missed() -> None:
    optional = {**TEXT, "optional": True}
    it = template(
        ["tool", "{size}", ["--tag", "{tag}"], "--of={other}", "{must}"],
        size={**INT, "default": 5}, tag=optional, other=optional, must=TEXT,
    )  # fmt: skip
    assert it.fill({"must": "m"}) == ["tool", "5", "m"]
    assert it.fill({"must": "m", "tag": "t"}) == ["tool", "5", "--tag", "t", "m"]
    assert it.pattern == "tool {size} [--tag {tag}] [--of={other}] {must}"
    with pytest.raises(InvalidField, match="needs the parameter 'must'"):
        it.fill({"tag": "t"})
    with pytest.raises(InvalidField) as caught:
        it.fill({"must": "m", "tga": "t"})
    assert caught.value.hint == "did you mean 'tag'?"
    with pytest.raises(InvalidField, match="has no parameter"):
        it.fill({"must": "m", HUGE: "t"})


def test_what_a_template_could_have_made_is_known_from_the_arguments_alone() -> None:
    it = template(
        ["cp", ["--mode", "{mode}"], "{source}", "to/{source}.{n}", "{rest}"],
        mode={"type": "choice", "choices": ["600", "644"], "optional": True}, source=UNDER,
        n=INT, rest={**TEXT, "optional": True},
    )  # fmt: skip
    for values in (
        {"source": "a", "n": 1},
        {"source": "a b/c", "n": "2", "mode": "644"},
        {"source": "a.1.2", "n": 3, "rest": "r", "mode": "600"},
    ):
        assert commands.could_make(it, it.fill(values))
    a, b = "/srv/a", "to//srv/a.1"
    for argv in (
        [], ["cp"], ["mv", a, b], ["cp", a, "to//srv/b.1"], ["cp", "--mode", a, b], ["cp", a, b, "r", "s"],
        ["cp", "--mode", "777", a, b], ["cp", a, "to//srv/a.-1"], ["cp", "/etc/x", "to//etc/x.1"],
        ["cp", a, b, "-r"], ["cp", a, b, "r\0"],
    ):  # fmt: skip
        assert not commands.could_make(it, argv), argv


DATES = {**TEXT, "pattern": "[0-9]+-[0-9]+"}
SEVERAL: list[tuple[str, dict[str, Given], Given]] = [
    ("{a}-{b}", {"a": TEXT, "b": DATES}, {"a": "x", "b": "2030-12"}),
    ("{a}-{b}", {"a": DATES, "b": TEXT}, {"a": "2030-12", "b": "x-y"}),
    ("{a}-{b}", {"a": {**INT, "min": -9}, "b": {**INT, "min": -9}}, {"a": "-5", "b": "-6"}),
    ("{a}-{b}", {"a": {"type": "choice", "choices": ["a", "a-b"]}, "b": INT}, {"a": "a-b", "b": 7}),
    ("{a}{b}", {"a": {"type": "choice", "choices": ["a", "ab"]}, "b": TEXT}, {"a": "ab", "b": "c"}),
    ("{a}{b}", {"a": {**TEXT, "max_length": 2}, "b": {**TEXT, "max_length": 2}}, {"a": "x", "b": "yz"}),
    ("{a}{b}", {"a": {**INT, "max": 9}, "b": {**INT, "min": 100, "max": 999}}, {"a": 1, "b": 234}),
    ("{a}/{b}", {"a": UNDER, "b": {**TEXT, "pattern": "[^/]+"}}, {"a": "c/d", "b": "e"}),
    ("{a}{b}{a}", {"a": TEXT, "b": TEXT}, {"a": "xyx", "b": "+"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "parameters", "values"), SEVERAL)
def test_parameters_that_share_an_argument_are_told_apart_whatever_they_may_be(
    text: str, parameters: dict[str, Given], values: Given
) -> None:
    it = template(["tool", text], **parameters)
    assert commands.could_make(it, it.fill(values))


def test_how_one_argument_is_shared_may_be_decided_by_another() -> None:
    it = template(["tool", "{a}-{b}", "{b}", "{a}"], a=TEXT, b=TEXT)
    assert commands.could_make(it, ["tool", "x-y-z", "z", "x-y"])
    assert commands.could_make(it, ["tool", "x-y-z", "y-z", "x"])
    assert not commands.could_make(it, ["tool", "x-y-z", "y", "x"])


def test_a_long_argument_may_be_shared() -> None:
    it = template(["tool", "{a}/{b}"], a={**TEXT, "max_length": 100_000}, b=TEXT)
    assert commands.could_make(it, it.fill({"a": "x/" * 40_000, "b": "y"}))


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        (["tool", "{a}{b}{c}{d}{e}{f}", "{a}"], ["tool", "x" * 1000, "y"]),
        (["tool", "{a}{b}", "{b}"], ["tool", "x" * 100_000, "y" * 100_000]),
        (["tool", *(["{a}"] * 250)], ["tool", *["x"] * 200]),
        (["tool", "{a}:{b}@{c}"], ["tool", "x" + ":" * 600 + "y" * 4000]),
        (["tool", "{a}-{b}@{c}"], ["tool", "-" * 1000 + "y" * 100_000]),
        (["tool", "{{" * 30_000 + "{a}" * 20_000], ["tool", "{" * 30_000 + "x" * 20_001]),
    ],
    ids=["many ways", "long", "many that may miss", "many colons", "many dashes", "many parts"],
)
def test_looking_for_what_was_filled_in_ends_soon(argv: list[str], asked: list[str]) -> None:
    names = {name for name in "abcdef" if f"{{{name}}}" in "".join(argv)}
    given = {**TEXT, "max_length": 100_000, "optional": len(argv) > 100}
    it = template(argv, **dict.fromkeys(names, given))
    began = process_time()
    assert not commands.could_make(it, asked)
    assert process_time() - began < 1
