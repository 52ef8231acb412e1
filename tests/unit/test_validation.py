"""Every bad input is refused by name, before any database sees it."""

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import validation
from jobs.exceptions import InvalidField
from tests.unit.builders import NOW

LONGEST = 131_071
job_request = partial(validation.job_request, now=NOW)


def is_harmless(text: str) -> bool:
    return all(c.isprintable() or unicodedata.category(c) == "Zs" for c in text)


def refusal(given_job: object) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        job_request(given_job)
    return caught.value


BAD_NAMES = [
    "", " ", "   ", "x" * 129, "a\nb", "a\rb", "a\tb", "a\0b", "a\x1bb", "a\x9bb", "a\x7fb",
    "a\u202eb", "a\u200bb", "a\u2066b", "e\u0301", "\ud800", "-x", "--", " a", "a ", "\u00a0a",
    12, 1.5, None, True, [], {},
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_NAMES, ids=ascii)
def test_an_id_that_is_no_clean_text_is_refused(value: object) -> None:
    assert refusal({"id": value, "command": "true"}).field == "id"


@pytest.mark.parametrize(
    "value",
    ["a", "x" * 128, "12", "..", "a.b", "a b", "<script>", "é", "名前", "' OR 1=1 --", "%", "_", "null"],
    ids=ascii,
)  # fmt: skip
def test_any_printable_text_may_be_an_id(value: str) -> None:
    assert job_request({"id": value, "command": "true"}).key == value


@pytest.mark.parametrize("value", [v for v in BAD_NAMES if v is not None], ids=ascii)
def test_a_unique_key_that_is_no_clean_text_is_refused(value: object) -> None:
    assert refusal({"command": "true", "unique_key": value}).field == "unique_key"


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "x" * 65, "default;drop", "a b", "a\nb", "a\n", "\x1b[31m", "*", "all", "ALL", "All", "-a",
        ".a", "_a", "é", "a/b", 5, True, ["a"], {},
    ],
    ids=ascii,
)  # fmt: skip
def test_a_queue_of_anything_but_a_plain_name_is_refused(value: object) -> None:
    assert refusal({"command": "true", "queue": value}).field == "queue"


@pytest.mark.parametrize("value", ["a", "A1", "x" * 64, "a.b-c_d", "0", "alls"])
def test_a_plain_name_may_be_a_queue(value: str) -> None:
    assert job_request({"command": "true", "queue": value}).queue == value


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "\n\t", "x" * (LONGEST + 1), "é" * 65_536, "x" * 10_000_000,
        "a\0b", "a\ud800b", None, 5, 1.5,
        True, [], ["a"], {}, {"a": 1},
    ],
    ids=lambda value: ascii(value)[:20],
)  # fmt: skip
def test_a_command_that_no_shell_could_be_given_is_refused(value: object) -> None:
    assert refusal({"command": value}).field == "command"


@pytest.mark.parametrize("given_job", [{}, {"id": "a"}])
def test_a_job_without_a_command_is_told_the_field_it_lacks(given_job: dict[str, Any]) -> None:
    assert str(refusal(given_job)) == "Job must have a 'command' field"


@pytest.mark.parametrize(
    "value",
    [
        "x" * LONGEST, "é" * 65_535, "a\r\nb", "a \\", "echo 'open",
        "# only a comment", " true ", "echo \x1b[2J",
        "-x", "{", "@/etc/passwd",
    ],
    ids=lambda value: ascii(value)[:20],
)  # fmt: skip
def test_a_command_is_kept_as_it_came_for_the_shell_to_judge(value: str) -> None:
    assert job_request({"command": value}).command == value


@pytest.mark.parametrize(
    "value",
    [
        [], [""], ["", "a"], [["a"]], ["a", 5], ["a", None], ["a\0"], ["a", "\ud800"], ["a"] * 257,
        ["a"] * 100_000, "ls", {"a": 1}, 5, True, ["x" * (LONGEST + 1)],
    ],
    ids=lambda value: ascii(value)[:20],
)  # fmt: skip
def test_an_argv_of_anything_but_texts_is_refused(value: object) -> None:
    assert refusal({"argv": value}).field == "argv"


@pytest.mark.parametrize("value", [["ls"], ["a"] * 256, ["echo", "", "$(id)", "é", "-x"]])
def test_texts_may_be_an_argv(value: list[str]) -> None:
    assert job_request({"argv": value}).argv == value


def test_a_job_is_a_command_or_an_argv_and_not_both() -> None:
    assert refusal({"command": "ls", "argv": ["ls"]}).field == "argv"


@pytest.mark.parametrize(
    "value",
    [
        {"A=B": "x"}, {"A\0": "x"}, {"": "x"}, {"1A": "x"}, {"A-B": "x"}, {"A\n": "x"}, {"A": "x\0"},
        {"A": 5}, {"A": None}, {"A": "\ud800"}, {f"A{i}": "x" for i in range(257)},
        {f"A{i}": "x" for i in range(10_000)}, {"QUEUECTL_LEASE": "x"},
        {"QUEUECTL_JOB_ID": "x"}, [], "A=B", 5,
    ],
    ids=lambda value: ascii(value)[:24],
)  # fmt: skip
def test_an_env_that_no_process_could_have_is_refused(value: object) -> None:
    assert refusal({"command": "true", "env": value}).field == "env"


def test_a_refused_variable_keeps_its_value_to_itself() -> None:
    error = refusal({"command": "true", "env": {"BAD-NAME": "hunter2"}})
    assert "hunter2" not in f"{error} {error.hint}"


@pytest.mark.parametrize(
    "value", ["relative", "", ".", "~", "/a\0b", "/" + "x" * 5000, 5, True, []]
)
def test_a_cwd_that_is_no_absolute_path_is_refused(value: object) -> None:
    assert refusal({"command": "true", "cwd": value}).field == "cwd"


NO_NUMBERS: list[object] = ["5", "5 ", "1_000", "٣", "high", True, False, [], {}, float("nan")]


@pytest.mark.parametrize(
    "value",
    [*NO_NUMBERS, 1.5, 5.0, 1001, -1001, 10**20, 2**63, float("inf"), 10**400],
    ids=lambda v: ascii(v)[:12],
)
def test_a_priority_that_is_no_whole_number_in_bounds_is_refused(value: object) -> None:
    assert refusal({"command": "true", "priority": value}).field == "priority"


@pytest.mark.parametrize("value", [-1000, -1, 0, 5, 1000])
def test_a_whole_number_in_bounds_may_be_a_priority(value: int) -> None:
    assert job_request({"command": "true", "priority": value}).priority == value


@pytest.mark.parametrize(
    "value", [*NO_NUMBERS, -1, 101, 10**6, 1.5, float("inf"), 10**400], ids=lambda v: ascii(v)[:12]
)
def test_max_retries_out_of_bounds_are_refused(value: object) -> None:
    assert refusal({"command": "true", "max_retries": value}).field == "max_retries"


@pytest.mark.parametrize("value", [0, 1, 100])
def test_max_retries_in_bounds_are_taken(value: int) -> None:
    assert job_request({"command": "true", "max_retries": value}).max_retries == value


@pytest.mark.parametrize(
    "value", [*NO_NUMBERS, 0, -5, float("inf"), 10**12, 10**400], ids=lambda v: ascii(v)[:12]
)
def test_a_timeout_out_of_bounds_is_refused(value: object) -> None:
    assert refusal({"command": "true", "timeout": value}).field == "timeout"


@pytest.mark.parametrize("value", [0.001, 0.5, 1, 2_592_000])
def test_a_timeout_in_bounds_is_taken(value: float) -> None:
    assert job_request({"command": "true", "timeout": value}).timeout == value


@pytest.mark.parametrize(
    "value",
    [*NO_NUMBERS, 0, -2, 0.5, 101, 1000, float("inf"), 10**400],
    ids=lambda v: ascii(v)[:12],
)
def test_a_backoff_base_out_of_bounds_is_refused(value: object) -> None:
    assert refusal({"command": "true", "backoff_base": value}).field == "backoff_base"


@pytest.mark.parametrize(
    "value", [*NO_NUMBERS, -1, 315_619_201, 10**12, float("inf")], ids=lambda v: ascii(v)[:12]
)
def test_a_delay_out_of_bounds_is_refused(value: object) -> None:
    assert refusal({"command": "true", "delay": value}).field == "delay"


def test_a_job_takes_a_delay_or_a_time_and_not_both() -> None:
    given_job = {"command": "true", "delay": 5, "run_at": "2030-01-01T00:00:00Z"}
    assert refusal(given_job).field == "delay"


@pytest.mark.parametrize(
    "value",
    [
        "tomorrow", "", " ", 0, 5, 1e18, True, [], "2026-02-30",
        "2026-02-30T00:00:00Z", "2026-01-01T24:61:00Z",
        "2026-01-01T25:00Z", "2026-01-01T00:60Z", "2026-01-01T00:00:60Z", "2026-13-01", "2026-W01-1",
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00+25:00",
        "2026-01-01T00:00:00Z\n", " 2026-01-01", "20260101", "1767225600", "2026-01-01T00:00:00 Z",
        "\uff12026-01-01",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_run_at_that_is_no_date_is_refused(value: object) -> None:
    assert refusal({"command": "true", "run_at": value}).field == "run_at"


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2030-12-31T23:59:00Z", datetime(2030, 12, 31, 23, 59, tzinfo=UTC)),
        ("2030-12-31T23:59:00+02:00", datetime(2030, 12, 31, 21, 59, tzinfo=UTC)),
        ("2030-12-31 23:59:00.25Z", datetime(2030, 12, 31, 23, 59, 0, 250_000, tzinfo=UTC)),
        ("1999-01-01T00:00Z", datetime(1999, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_run_at_is_a_moment_in_utc(value: str, moment: datetime) -> None:
    assert job_request({"command": "true", "run_at": value}).run_at == moment


@pytest.mark.parametrize(("value", "hour"), [("2030-07-01T12:00", 10), ("2030-01-01T12:00", 11)])
def test_a_run_at_without_a_zone_is_in_the_projects(value: str, hour: int) -> None:
    with timezone.override("Europe/Berlin"):
        found = job_request({"command": "true", "run_at": value}).run_at
    assert found is not None and (found.hour, found.tzinfo) == (hour, UTC)


def test_more_than_ten_years_ahead_is_taken_for_a_slip() -> None:
    far = (NOW + timedelta(days=3660)).isoformat()
    assert "within ten years" in refusal({"command": "true", "run_at": far}).hint
    assert job_request({"command": "true", "run_at": far}, now=NOW + timedelta(days=30))


@pytest.mark.parametrize("value", [None, [], [{"command": "a"}], 42, "true", True, 1.5])
def test_a_job_that_is_no_object_is_refused(value: object) -> None:
    assert refusal(value).field == "job"


@pytest.mark.parametrize(
    "name", ["comand", "lease", "worker", "result", "due_at", "key", "", "\x1b[2J", "__class__"]
)
def test_a_field_that_does_not_exist_is_refused(name: str) -> None:
    assert refusal({"command": "true", name: "x"}).field == name


def test_a_slip_in_a_field_is_answered_with_the_nearest() -> None:
    assert refusal({"comand": "true"}).hint == "did you mean 'command'?"


def test_no_slip_is_made_up_of_a_long_name() -> None:
    """To compare two takes the square of their length, and of some the cube."""
    assert validation.nearest("x" * 40, ["x" * 41, "x" * 39 + "y"]) == "x" * 39 + "y"
    assert validation.nearest("x" * 40, ["x" * 41]) is None
    assert validation.nearest("x" * 41, ["x" * 40]) is None


def test_what_describes_a_job_is_ignored_with_a_warning_each() -> None:
    given_job = {
        "command": "true",
        "state": "dead",
        "attempts": 9,
        "created_at": "",
        "updated_at": 0,
    }
    assert [w.split("'")[1] for w in job_request(given_job).warnings] == [
        "state",
        "attempts",
        "created_at",
        "updated_at",
    ]


@pytest.mark.parametrize(
    "given_job",
    [
        {"command": "true", "priority": 10**5000},
        {"command": "true", "timeout": 10**5000},
        {"id": 10**5000, "command": "true"},
    ],
    ids=["priority", "timeout", "id"],
)
def test_a_number_too_long_to_print_is_refused_like_any_other(given_job: dict[str, Any]) -> None:
    refusal(given_job)


def test_a_value_too_deep_to_print_is_refused_like_any_other() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert refusal({"command": deep}).field == "command"


@pytest.mark.parametrize("value", ["\x1b]0;x\x07", "a\x9b31m", "a\rb", "\u202e" * 3, "x" * 500])
def test_a_refusal_shows_the_value_harmless_and_short(value: str) -> None:
    said = str(refusal({"command": "true", "queue": value}))
    assert said.isprintable() and len(said) < 100


FIELDS = st.sampled_from([*validation.CHECKS, *validation.IGNORED])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


# The first text that is drawn reads Hypothesis's tables of characters: seconds on a machine that is full.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(FIELDS, VALUES, max_size=6))
def test_whatever_is_asked_is_taken_or_refused_by_name(given_job: dict[str, Any]) -> None:
    try:
        found = job_request(given_job)
    except InvalidField as error:
        assert is_harmless(str(error))
    else:
        assert (found.command is None) != (found.argv is None)


def test_the_same_content_under_another_id_has_the_same_digest() -> None:
    one = job_request({"id": "a", "command": "true", "priority": 1})
    assert one.digest == job_request({"priority": 1, "command": "true", "id": "b"}).digest


@pytest.mark.parametrize(
    "other",
    [
        {"command": "false"},
        {"command": "true", "priority": 1},
        {"command": "true", "env": {"A": "1"}},
        {"command": "true", "queue": "mail"},
        {"argv": ["true"]},
    ],
    ids=json.dumps,
)
def test_other_content_has_another_digest(other: dict[str, Any]) -> None:
    assert job_request({"command": "true"}).digest != job_request(other).digest


def test_what_is_ignored_does_not_change_the_digest() -> None:
    plain = job_request({"command": "true"})
    assert plain.digest == job_request({"command": "true", "state": "pending"}).digest


def test_env_stays_out_of_a_requests_repr() -> None:
    assert "hunter2" not in repr(job_request({"command": "true", "env": {"A": "hunter2"}}))


@given(st.text())
def test_storable_text_is_what_either_database_takes(text: str) -> None:
    found = validation.storable(text)
    assert "\0" not in found
    found.encode()


def test_storable_keeps_ordinary_text() -> None:
    assert validation.storable("naïve \x1b[31m 名\n") == "naïve \x1b[31m 名\n"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.text())
def test_visible_text_has_nothing_that_a_terminal_obeys(text: str) -> None:
    assert is_harmless(validation.visible(text))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"), ("é 名", "é 名"), ("\x1b[31m", "\\x1b[31m"), ("\x9b", "\\x9b"), ("\x7f", "\\x7f"),
        ("a\rb\n", "a\\x0db\\x0a"), ("\u202e", "\\u202e"), ("\u200b", "\\u200b"), ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"), ("\u2028", "\\u2028"),
    ],
    ids=ascii,
)  # fmt: skip
def test_what_cannot_be_seen_is_spelled_out(text: str, seen: str) -> None:
    assert validation.visible(text) == seen
