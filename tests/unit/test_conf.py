from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from jobs import conf
from jobs.checks import settings_are_sound
from jobs.exceptions import InvalidField


def refusal(**given: Any) -> str:
    with override_settings(QUEUECTL=given), pytest.raises(ImproperlyConfigured) as caught:
        conf.get()
    return str(caught.value)


@pytest.mark.parametrize("given", [5, None, [], ["MAX_LOST"], "MAX_LOST"], ids=str)
def test_settings_that_are_no_dict_are_refused_in_one_sentence(given: object) -> None:
    with override_settings(QUEUECTL=given):
        with pytest.raises(ImproperlyConfigured, match="QUEUECTL must be a dict of settings"):
            conf.get()
        [error] = settings_are_sound()
        assert error.id == "queuectl.E001"


def test_an_unknown_setting_is_answered_with_the_nearest() -> None:
    said = refusal(LEASE_SECOND=60)
    assert "LEASE_SECOND" in said and "'LEASE_SECONDS'" in said


def test_an_unknown_setting_like_no_other_is_named() -> None:
    assert "'ZZZ'" in refusal(ZZZ=1)


@pytest.mark.parametrize("name", [5, 10**5000, None], ids=["number", "long number", "none"])
def test_a_setting_whose_name_is_no_text_is_refused_like_any_other(name: object) -> None:
    with override_settings(QUEUECTL={name: 1, "CONFINE": {name: {name: 1}, "m": {name: 1}}}):
        _, (unknown, *entries) = conf.read()
    assert unknown.startswith("QUEUECTL has an unknown setting ")
    assert [entry.startswith("QUEUECTL['CONFINE']") for entry in entries] == [True, True]


@pytest.mark.parametrize(
    "name",
    [
        "LEASE_SECONDS", "HEARTBEAT_SECONDS", "RESCUE_SECONDS", "FENCE_MARGIN_SECONDS", "GRACE_SECONDS",
        "KILL_SECONDS",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", ["60", None, True, -1, float("nan"), float("inf"), 10**9, [5]])
def test_seconds_that_are_no_number_in_bounds_are_refused(name: str, value: object) -> None:
    assert name in refusal(**{name: value})


@pytest.mark.parametrize(
    "name", ["OUTPUT_LIMIT_BYTES", "COMMAND_RUNNERS", "MAX_LOST", "MAX_INTERRUPTS"]
)
@pytest.mark.parametrize("value", ["2", None, True, -1, float("nan")])
def test_counts_that_are_no_number_in_bounds_are_refused(name: str, value: object) -> None:
    assert name in refusal(**{name: value})


def test_a_database_that_is_not_among_those_of_the_site_is_refused() -> None:
    assert "'quue', which is not in DATABASES; name one of: default" in refusal(DATABASE="quue")
    assert "'DATABASE'] must be text" in refusal(DATABASE=["default"])


@pytest.mark.parametrize(
    "value", [5, None, "a b", "db:", "db:0", "db:65536", "db:port", "postgresql://db:5432", "u@db"]
)
def test_an_address_that_is_no_host_and_port_is_refused(value: object) -> None:
    assert "LISTEN_AT" in refusal(LISTEN_AT=value)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("db.example.org", {"host": "db.example.org"}),
        ("db:6432", {"host": "db", "port": "6432"}),
        ("[::1]:5432", {"host": "::1", "port": "5432"}),
        ("/var/run/postgresql:5433", {"host": "/var/run/postgresql", "port": "5433"}),
    ],
)
def test_an_address_is_a_host_and_perhaps_a_port(value: str, parts: dict[str, str]) -> None:
    assert conf.address(value) == parts


@pytest.mark.parametrize("name", ["COMMAND_ENV", "COMMAND_ENV_EXCLUDE"])
@pytest.mark.parametrize("value", ["PATH", [5], 5, None])
def test_patterns_that_are_no_list_of_texts_are_refused(name: str, value: object) -> None:
    assert name in refusal(**{name: value})


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"LEASE_SECONDS": 4, "HEARTBEAT_SECONDS": 1, "FENCE_MARGIN_SECONDS": 1}, "LEASE_SECONDS"),
        ({"HEARTBEAT_SECONDS": 60}, "HEARTBEAT_SECONDS"),
        ({"HEARTBEAT_SECONDS": 50}, "HEARTBEAT_SECONDS"),
        ({"HEARTBEAT_SECONDS": 46}, "KILL_SECONDS"),
        ({"KILL_SECONDS": 40}, "KILL_SECONDS"),
        ({"FENCE_MARGIN_SECONDS": 60}, "FENCE_MARGIN_SECONDS"),
        ({"FENCE_MARGIN_SECONDS": 0.5}, "FENCE_MARGIN_SECONDS"),
        ({"OUTPUT_LIMIT_BYTES": 1023}, "OUTPUT_LIMIT_BYTES"),
        ({"COMMAND_RUNNERS": 0}, "COMMAND_RUNNERS"),
        ({"COMMAND_RUNNERS": 65}, "COMMAND_RUNNERS"),
    ],
)
def test_values_that_do_not_go_together_are_refused(given: dict[str, Any], named: str) -> None:
    assert named in refusal(**given)


def test_what_is_left_out_has_its_default() -> None:
    with override_settings(QUEUECTL={"MAX_LOST": 5}):
        assert conf.get() == conf.Settings(MAX_LOST=5)


def test_a_changed_setting_is_seen_at_once() -> None:
    with override_settings(QUEUECTL={"MAX_LOST": 5}):
        conf.get()
        with override_settings(QUEUECTL={"MAX_LOST": 6}):
            assert conf.get().MAX_LOST == 6


def test_a_list_may_stand_for_a_tuple() -> None:
    with override_settings(QUEUECTL={"COMMAND_ENV": ["A", "B*"]}):
        assert conf.get().COMMAND_ENV == ("A", "B*")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("max-retries", text) for text in (
            "", " ", "five", "-1", "101", "1.5", "1e1", "1_0", " 5", "5 ", "٣", "0x5", "nan", "inf", "true",
            "9" * 400, "9" * 5000,
        )],
        *[("backoff-base", text) for text in ("", "0", "0.5", "101", "nan", "inf", "-inf", "-2", "two", "1_0",
                                              "9" * 400)],
        *[("worker-poll-interval", text) for text in ("0", "-1", "nan", "inf", "3601", "1s")],
        *[("job-timeout", text) for text in ("0", "-5", "1.5", "nan", "1e400", "2592001", "9" * 400)],
    ],
    ids=lambda value: ascii(value)[:12],
)  # fmt: skip
def test_a_runtime_setting_out_of_bounds_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(InvalidField) as caught:
        conf.runtime(name).read(text)
    assert caught.value.field == name and caught.value.hint.startswith(f"{name} takes")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max-retries", "0", 0),
        ("max-retries", "100", 100),
        ("max_retries", "5", 5),
        ("backoff-base", "1", 1.0),
        ("backoff_base", "2.5", 2.5),
        ("worker-poll-interval", "0.05", 0.05),
        ("job-timeout", "2592000", 2_592_000),
    ],
)
def test_a_runtime_setting_in_bounds_is_read(name: str, text: str, value: float) -> None:
    assert conf.runtime(name).read(text) == value


@pytest.mark.parametrize("name", ["", "retries", "max retries", "MAX-RETRIES", "max-retries\n"])
def test_an_unknown_runtime_setting_is_answered_with_the_known(name: str) -> None:
    with pytest.raises(InvalidField, match="Unknown configuration key") as caught:
        conf.runtime(name)
    assert "max-retries, backoff-base, worker-poll-interval, job-timeout" in caught.value.hint


def test_a_policy_takes_what_is_stored_and_the_rest_by_default() -> None:
    found = conf.policy({"max-retries": 7})
    assert (found.max_retries, found.backoff_base) == (7, 2.0)
    assert (found.worker_poll_interval, found.job_timeout) == (1.0, 300)
