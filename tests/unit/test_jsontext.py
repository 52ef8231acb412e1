import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import jsontext
from jobs.exceptions import InvalidText
from jobs.jsontext import parse


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "column 1"),
        (" ", "column 2"),
        ("{", "column 2"),
        ('{"a": 1', "column"),
        ('{"a": 1,}', "column"),
        ("{'a': 1}", "column 2"),
        ('{"a": 1} // no', "column 10"),
        ('{"a": 1}\n{"a": 1}', "line 2, column 1"),
        ("nul", "column 1"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"x": {"a": 1, "a": 1}}', "twice"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ('{"a": -Infinity}', "-Infinity"),
        ("1e999", "too large"),
        ("-1e999", "too large"),
        ("9" * 5_000, "too large"),
        ("-" + "9" * 5_000, "too large"),
        ("[" * 100_000, "deeper"),
        ("[" * 33 + "]" * 33, "deeper"),
        ('{"a":' * 100_000, "deeper"),
        ("\ufeff{}", "byte order mark"),
        ('"a\nb"', "column"),
        ("\u00a0{}", "column"),
        ("'" * 1_000_000, "column 1"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_is_no_plain_json_document_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(InvalidText, match="Invalid JSON format") as caught:
        parse(text)
    assert says in caught.value.hint


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        (' {"a": [1, 2.5, null, true, "x"]} \n', {"a": [1, 2.5, None, True, "x"]}),
        ("[" * 32 + "]" * 32, json.loads("[" * 32 + "]" * 32)),
        ('"' + "[" * 1_000 + '"', "[" * 1_000),
        ('"\\"[[["', '"[[['),
        ("1e-999", 0.0),
        ("9" * 100, int("9" * 100)),
        ('"\\u0000"', "\0"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_plain_json_document_is_read(text: str, value: Any) -> None:
    assert parse(text) == value


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except InvalidText as error:
        assert error.hint


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**90), 10**90) | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=8,
    )
)  # fmt: skip
def test_what_json_writes_is_read_back(value: Any) -> None:
    assert parse(json.dumps(value)) == value


@pytest.mark.parametrize("text", ['{"a"', " [1", "{", "["])
def test_an_opening_bracket_means_json(text: str) -> None:
    assert jsontext.looks_like_json(text)


@pytest.mark.parametrize("text", ["echo {}", "", "5", '"a"', "@/etc/passwd"])
def test_anything_else_means_a_command(text: str) -> None:
    assert not jsontext.looks_like_json(text)
