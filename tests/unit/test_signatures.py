"""A signature holds what is run, where and for whom, whatever a database makes of the row."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from jobs import signatures

JOB: dict[str, Any] = {
    "key": "job1",
    "queue": "default",
    "command": "echo hello",
    "argv": None,
    "task": None,
    "args": None,
    "cwd": "",
    "env": {},
    "timeout": None,
    "enqueued_by": "alice",
}
KEY = "k" * 60


def row(mode: str = "sign", key: str = KEY, **values: Any) -> SimpleNamespace:
    job = SimpleNamespace(**JOB | values)
    with override_settings(QUEUECTL={"SIGNATURES": mode}, SECRET_KEY=key):
        job.signature = signatures.sign(job)
    return job


def flaw(job: SimpleNamespace, mode: str = "sign", fallbacks: tuple[str, ...] = ()) -> str:
    with override_settings(
        QUEUECTL={"SIGNATURES": mode}, SECRET_KEY=KEY, SECRET_KEY_FALLBACKS=list(fallbacks)
    ):
        return signatures.flaw(job)


@pytest.mark.parametrize("mode", ["sign", "require"])
def test_what_is_unchanged_is_good(mode: str) -> None:
    assert flaw(row(), mode) == ""


CHANGED = {
    "key": "job2",
    "queue": "root",
    "command": "echo bye",
    "argv": ["echo", "hello"],
    "task": "site.tasks.hello",
    "args": {"args": [], "kwargs": {}},
    "cwd": "/",
    "env": {"PATH": "/tmp"},
    "timeout": 5.0,
    "enqueued_by": "bob",
}


@pytest.mark.parametrize("field", CHANGED)
def test_whatever_is_changed_makes_it_bad(field: str) -> None:
    job = row()
    setattr(job, field, CHANGED[field])
    assert set(CHANGED) == set(JOB)
    assert flaw(job) == signatures.BAD


def test_a_text_that_moves_from_one_field_to_another_makes_it_bad() -> None:
    job = row(command=None, argv=["a", "b"], env={})
    job.argv = ["a b"]
    assert flaw(job) == signatures.BAD


def test_one_by_another_key_is_bad_and_by_a_fallback_good() -> None:
    job = row(key="other" * 12)
    assert flaw(job) == signatures.BAD
    assert flaw(job, fallbacks=("other" * 12,)) == ""


def test_one_without_is_refused_only_where_that_is_required() -> None:
    job = row("off")
    assert job.signature is None
    assert (flaw(job), flaw(job, "require")) == ("", signatures.ABSENT)


def test_where_signatures_are_off_none_is_looked_at() -> None:
    job = row()
    job.command = "another"
    assert flaw(job, "off") == ""


@pytest.mark.parametrize("spoilt", ["[" * 100_000, "{", '"', "9" * 5_000])
def test_what_is_no_json_is_bad(spoilt: str) -> None:
    job = row(command=None, argv=["true"])
    job.argv = spoilt
    assert flaw(job) == signatures.BAD


NUMBERS = [1, -1, 0, 2**53 + 1, 10**30, 0.1, -0.5, 1.0, -0.0, 100.0, 1e16, 1e23, 1.5e300, 5e-324]


def written_out(number: float) -> str:
    """As PostgreSQL writes a number of jsonb: no exponent."""
    from decimal import Decimal

    return format(Decimal(json.dumps(number)), "f")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_that_is_written_out_is_the_same(number: float) -> None:
    job = row(command=None, task="a.b", args={"args": [number], "kwargs": {}})
    job.args = f'{{"kwargs": {{}}, "args": [{written_out(number)}]}}'
    assert flaw(job) == ""


@given(st.floats(allow_nan=False, allow_infinity=False, max_value=1e308, min_value=-1e308))
def test_any_number_that_is_written_out_is_the_same(number: float) -> None:
    job = row(command=None, task="a.b", args=[number])
    job.args = f"[{written_out(number)}]"
    assert flaw(job) == ""


@pytest.mark.parametrize("other", [0.2, 1, "0.1", [0.1], None])
def test_another_value_is_not(other: object) -> None:
    job = row(command=None, task="a.b", args=[0.1])
    job.args = json.dumps([other])
    assert flaw(job) == signatures.BAD
