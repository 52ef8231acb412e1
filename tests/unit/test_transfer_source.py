"""Files are read bit by bit, and whatever is wrong with one is a sentence that names the line."""

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.exceptions import InvalidText, QueueCTLError
from jobs.transfer import formats, original, source
from jobs.transfer.source import Source, Text, lines, open_source


def quiet(done: int) -> None:
    pass


class Trickle(io.RawIOBase):
    """Gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, step: int) -> None:
        self.data, self.step = data, step

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        taken = self.step if size < 0 else min(self.step, size)
        piece, self.data = self.data[:taken], self.data[taken:]
        return piece


class Broken(Trickle):
    """A disk that fails where its good part ends."""

    def read(self, size: int = -1) -> bytes:
        if piece := super().read(size):
            return piece
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def opened(data: bytes, step: int = 1_000_000) -> Source:
    return open_source(Trickle(data, step), quiet)  # type: ignore[arg-type]


def jobs_of(data: bytes, step: int = 1_000_000) -> list[tuple[str, Any]]:
    return list(original.entries(opened(data, step)))


def refusal(data: bytes) -> QueueCTLError:
    with pytest.raises(QueueCTLError) as caught:
        found = opened(data)
        list(formats.format_of(found).entries(found))
    return caught.value


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    jobs=st.dictionaries(st.text(max_size=5), st.dictionaries(st.text(), VALUES), max_size=5),
    indent=st.sampled_from([None, 2]),
    step=st.integers(1, 50),
    chunk=st.integers(1, 50),
)
def test_an_object_read_in_bits_is_the_object(
    jobs: dict[str, Any], indent: int | None, step: int, chunk: int
) -> None:
    data = json.dumps(jobs, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "CHUNK", chunk)
        found = jobs_of(data, step)
    assert [value for _, value in found] == list(jobs.items())


def test_a_place_is_the_id_and_the_line() -> None:
    found = jobs_of(b'{\n  "a": {\n  },\n  "b\\n": {}\n}')
    assert [place for place, _ in found] == ['job "a" (line 2)', 'job "b\\n" (line 4)']


def test_a_file_cut_anywhere_is_refused() -> None:
    data = json.dumps({"a": {"x": [1, "é\\"]}, "b": {}}, indent=2, ensure_ascii=False).encode()
    for end in range(len(data)):
        refusal(data[:end])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b" \n ", "is empty"),
        (b"[]", "no file of jobs"),
        (b"null", "no file of jobs"),
        (b"42", "no file of jobs"),
        (b"#!/bin/sh\nrm -rf /\n", "no file of jobs"),
        (b"PK\x03\x04", "no file of jobs"),
        (b"{'a': 1}", "no file of jobs"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ('{"a": {}}'.encode("utf-16"), "UTF-16"),
        ('{"a": {}}'.encode("utf-16-le"), "UTF-16"),
        ('{"a": {}}'.encode("utf-32-be"), "UTF-32"),
        (b"\0" * 5000, "no text"),
        (b'{"a": {"x": "\xff"}}', "line 1 is not UTF-8"),
        (b'{\n"a": {},\n"\xc3', "line 3 is not UTF-8"),
        (b'{"a": {}', "torn"),
        (b'{"a": {"x', "torn"),
        (b'{"a": {}} {}', "more after the end"),
        (b'{"a": {}}]', "more after the end"),
        (b'{"a": {},}', "id in double quotes"),
        (b'{"a": {} "b": {}}', "expecting ',' or '}'"),
        (b'{"a": {x: 1}}', "line 1: Invalid JSON format"),
        (b'{"a": {}, "b": // no\n {}}', "Invalid JSON format"),
        (b'{"a": {"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nested"),
        (b'{"a": {"x":' + b"[" * 100_000, "nested"),
        (b'{"\\ud800": NaN', "torn"),
        (b'{"format": "queuectl", "version": 2}\n', "cannot read"),
        (b'{"format": "other", "version": 1}\n', "cannot read"),
        (b'{"format": "queuectl"', "line 1: Invalid JSON format"),
    ],
    ids=lambda value: repr(value)[:30] if isinstance(value, bytes) else None,
)
def test_what_is_no_file_of_jobs_is_refused_in_a_sentence(data: bytes, says: str) -> None:
    error = refusal(data)
    assert says in f"{error} {error.hint}"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b'{"x": 1, "x": 2}', "twice"),
        (b'{"x": NaN}', "NaN"),
        (b'{"x": -Infinity}', "-Infinity"),
        (b'{"x": 1e999}', "too large"),
        (b'{"x": ' + b"9" * 5000 + b"}", "too large"),
    ],
)
def test_what_is_json_but_refused_does_not_hide_the_rest(value: bytes, says: str) -> None:
    found = jobs_of(b'{"a": ' + value + b', "b": {}}', step=7)
    (_, wrong), (_, right) = found
    assert isinstance(wrong, InvalidText)
    assert says in wrong.hint
    assert right == ("b", {})


def test_a_value_longer_than_memory_likes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LONGEST", 3000)
    monkeypatch.setattr(source, "CHUNK", 1000)
    with pytest.raises(InvalidText, match="line 2: a value is longer than 3,000 characters"):
        jobs_of(b'{"a": {},\n"b": {"x": "' + b"y" * 100_000 + b'"}}')
    with pytest.raises(InvalidText, match="line 2 is longer than 3,000 bytes"):
        list(lines(opened(b"a\n" + b"y" * 100_000 + b"\n")))


def test_memory_does_not_grow_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "CHUNK", 1000)
    text = Text(opened(b"[%s]" % b",".join([b'"abcdefgh"'] * 10_000)))
    text.take("[")
    longest = 0
    while True:
        assert text.value() == "abcdefgh"
        longest = max(longest, len(text.buffer))
        if text.take(",]") == "]":
            break
    assert longest < 2100


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"{}", "jobs.json"),
        (b' \n{ "format" : { } }', "jobs.json"),
        (b'{"max_retries": {}}', "jobs.json"),
        (b'{"max_retries": 3}', "config.json"),
        (b'{"backoff_base": -1.5}', "config.json"),
        (b'{"format": "queuectl", "version": 1}', "queuectl"),
        (b'{"a": {', "jobs.json"),
        (b'{"a', "jobs.json"),
        (b"{", "jobs.json"),
    ],
)
def test_a_format_is_told_by_the_beginning_of_the_file(data: bytes, name: str) -> None:
    assert formats.format_of(opened(data, step=1)).name == name


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/dev/zero", "it is a device, not a file"),
        ("/dev/null", "it is a device, not a file"),
        ("/", "it is a directory, not a file"),
        ("/no/such/file", "No such file or directory"),
        ("a\0b", "a NUL in its name"),
        ("x" * 300, "File name too long"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(path: str, why: str) -> None:
    with pytest.raises(QueueCTLError, match=why):
        open_source(path, quiet)


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(QueueCTLError, match="symbolic links"):
        open_source(tmp_path / "link", quiet)


def test_what_fails_in_the_middle_is_told_as_a_failure_to_read() -> None:
    whole = b'{"format": "queuectl", "version": 1}\n' + b'{"end": {"jobs": 0}}\n' * 100_000
    found = open_source(Broken(whole, 1_000_000), quiet)  # type: ignore[arg-type]
    with pytest.raises(QueueCTLError, match="Cannot read the input: Input/output error"):
        list(lines(found))
