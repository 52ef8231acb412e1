"""Secrets are taken out of what is kept of a run, wherever they lie in it."""

import json
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from jobs import clock, masks
from jobs.execution import masking, tasks
from jobs.execution.output import Capture
from jobs.outcome import Captured, Kind
from jobs.redaction import redacted
from jobs.work import About
from tests.unit.builders import work
from tests.unit.runners import OUTPUT_LIMIT, Runner

CANARY = re.compile(rb"canary-[0-9]{12}")
SECRET = b"canary-123456789012"
MASK = ("canary-[0-9]{12}", r"(?i)password=(\S+)")


def kept(pieces: list[bytes], limit: int, *patterns: str) -> Captured:
    capture = Capture(limit, masking.MARGIN_BYTES)
    for piece in pieces:
        capture.add(piece)
    return masking.stream(capture, masks.compiled(patterns))


# Streams


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    noise = st.binary(max_size=300)
    stream = b"".join(draw(st.lists(st.one_of(noise, st.just(SECRET)), max_size=12)))
    cuts = sorted(draw(st.sets(st.integers(0, len(stream)), max_size=8)) | {0, len(stream)})
    return [stream[start:end] for start, end in pairwise(cuts)]


@given(streams(), st.integers(2, 400))
def test_a_masked_stream_is_the_plain_one_with_stars_however_it_came_and_is_cut(
    pieces: list[bytes], limit: int
) -> None:
    stream = b"".join(pieces)
    starred = CANARY.sub(lambda match: b"*" * len(match[0]), stream)
    head, tail = starred[: limit - limit // 2], starred[limit - limit // 2 :][-(limit // 2) :]
    assert kept(pieces, limit, MASK[0]) == Captured(head, tail, len(stream))


@pytest.mark.parametrize("place", [1000, 990, 500_000, 1_000_000 - 1010, 1_000_000 - 1005])
def test_a_secret_at_a_cut_leaves_no_part_of_it(place: int) -> None:
    stream = bytearray(b"." * 1_000_000)
    stream[place : place + len(SECRET)] = SECRET
    found = kept([bytes(stream)], 2000, MASK[0])
    assert set(found.head + found.tail) <= set(b".*")
    assert (found.kept, found.total) == (2000, 1_000_000)


def test_an_expression_with_a_group_stars_only_what_the_group_matched() -> None:
    found = kept([b"Password=h\xfftt3r! user=me"], 1000, MASK[1])
    assert found.head + found.tail == b"Password=******* user=me"


def test_each_expression_meets_the_text_as_it_was() -> None:
    found = kept([b"password=canary-123456789012"], 1000, *MASK)
    assert found.head == b"password=" + b"*" * len(SECRET)
    assert masks.masked(b"abcd", masks.compiled(("abc", "bcd"))) == b"****"


def test_without_expressions_nothing_is_looked_at() -> None:
    assert masking.stream(Capture(100), ()) == Captured()
    capture = Capture(100)
    capture.add(SECRET)
    assert masking.stream(capture, ()).head == SECRET


def test_an_expression_that_takes_too_long_costs_the_output_and_not_the_runner() -> None:
    began = clock.monotonic()
    assert kept([b"a" * 60 + b"b"], 1000, r"(a+)+$") == Captured(total=61)
    assert clock.monotonic() - began < 5
    assert masking.text("a" * 60 + "b", masks.compiled((r"(a+)+$",))) == masking.WITHHELD


# Commands


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    runner = Runner(MASK=MASK)
    yield runner
    runner.close()


def test_a_secret_in_two_writes_is_masked_in_both_streams_and_in_the_error(runner: Runner) -> None:
    halves = "printf canary-123; sleep 0.2; echo 456789012 end"
    found = runner.run(work(f"{halves}; ({halves}) >&2; exit 3"))
    stars = b"*" * len(SECRET) + b" end\n"
    assert (found.stdout.head, found.stderr.head) == (stars, stars)
    assert found.error == f"{stars.decode().strip()} (exit code 3)"
    assert found.stdout.total == len(stars)


def test_what_could_not_start_does_not_tell_the_secret_in_its_path(runner: Runner) -> None:
    found = runner.run(work("true", cwd=f"/no/{SECRET.decode()}"))
    assert found.kind is Kind.NOT_STARTED and "canary" not in found.error and "/no/*" in found.error


def test_a_masked_flood_keeps_its_size(runner: Runner) -> None:
    found = runner.run(work(f"yes {SECRET.decode()} | head -c 1000000"))
    assert b"canary" not in found.stdout.head + found.stdout.tail
    assert (found.stdout.kept, found.stdout.total) == (OUTPUT_LIMIT, 1_000_000)


# Tasks


@override_settings(QUEUECTL={"MASK": list(MASK)})
def test_a_tasks_error_and_traceback_are_masked() -> None:
    given = work(
        command=None,
        task="tests.task_functions.fail",
        args=json.dumps({"args": [f"no {SECRET.decode()} ü"], "kwargs": {}}),
        about=About("default", 5, None, 0.0),
    )
    found = tasks.run(given, "worker", 0.0)
    assert found.error == f"ValueError: no {'*' * len(SECRET)} ü"
    assert "canary" not in found.traceback and "ü" in found.traceback


# On display


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mysql --password=hunter2 -u me", "mysql --password=*** -u me"),
        ("mysql --password hunter2 db", "mysql --password *** db"),
        ("tool '--api-key=a b' c", "tool '--api-key=***' c"),
        ("PGPASSWORD='a b' psql", "PGPASSWORD=*** psql"),
        ("curl 'https://u:pw@h/p?token=x&a=1'", "curl 'https://u:***@h/p?token=***&a=1'"),
        ("curl -H 'Authorization: Bearer abcdefgh'", "curl -H 'Authorization: Bearer ***'"),
        ("""post '{"secret": "x y", "a": 1}'""", """post '{"secret": ***, "a": 1}'"""),
        ("run canary-123456789012 é", "run *** é"),
        ("ls -l secrets *** --password-file f", "ls -l secrets *** --password-file f"),
        ("echo http://host:80/a@b \ud800", "echo http://host:80/a@b \ud800"),
        ("", ""),
    ],
)
@override_settings(QUEUECTL={"MASK": list(MASK)})
def test_a_command_is_shown_without_its_passwords(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "piece", ["-", "--a-", "'a", "password ", 'password="', "a://", "://:", "= "]
)
def test_showing_a_long_command_takes_no_long_time(piece: str) -> None:
    began = os.times().user
    redacted(piece * (131_000 // len(piece)))
    assert os.times().user - began < 2


# The setting


@pytest.mark.parametrize(
    "value",
    ["abc", [5], None, ["("], ["(?u)x"], [r"\N{DASH}"], [b"x"], ["x{99999999999999999999}"]],
)
def test_what_is_no_list_of_expressions_is_refused(value: Any) -> None:
    from tests.unit.test_conf import refusal

    assert "QUEUECTL['MASK']" in refusal(MASK=value)
