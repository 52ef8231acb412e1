from typing import Any

import pytest

from jobs import confinement
from jobs.checks import settings_are_sound, users_are_known
from jobs.confinement import Confinement
from tests.unit.test_conf import override_settings, refusal


def test_a_queues_entry_adds_to_what_holds_for_every_queue() -> None:
    given = {"*": {"nice": 3, "open_files": 100}, "media": {"nice": 5, "processes": 9}}
    assert confinement.of("media", given) == Confinement(nice=5, open_files=100, processes=9)
    assert confinement.of("mail", given) == Confinement(nice=3, open_files=100)
    assert confinement.of("mail", {"media": {"nice": 5}}) is None


def test_a_queue_that_says_nothing_of_the_user_keeps_that_of_every_queue() -> None:
    found = confinement.of("media", {"*": {"user": "jobs"}, "media": {"nice": 5}})
    assert found == Confinement(user="jobs", nice=5, umask=0o077, no_new_privs=True)


def test_a_user_brings_a_private_umask_and_no_new_privileges_unless_said_otherwise() -> None:
    said = {"user": "jobs", "umask": 0o022, "no_new_privs": False}
    assert confinement.of("a", {"a": said}) == Confinement(**said)
    assert confinement.of("a", {"a": {"nice": 1}}) == Confinement(nice=1)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([], "must be a dict of queues"),
        ({"media": 5}, "['media'] must be the name of a queue, or '*', and a dict"),
        ({5: {}}, "[5] must be the name of a queue"),
        *[({name: {"user": "x"}}, f"[{name!r}] must be the name of a queue")
          for name in ("media ", "", "*x", "all", "m" * 65, "m\n")],
        ({"m": {"usr": "x"}}, "unknown 'usr'; did you mean 'user'?"),
        ({"m": {"zzzz": 1}}, "['m'] has an unknown 'zzzz'"),
        ({"m": {5: 1}}, "['m'] has an unknown 5"),
        *[({"m": {"user": value}}, "['m']['user'] must be a name") for value in ("", -1, 2**32, True, None)],
        ({"m": {"user": "x", "group": []}}, "['m']['group'] must be a name"),
        ({"m": {"group": "x"}}, "['m'] has a group, which takes a user too"),
        ({"m": {"no_new_privs": 1}}, "['m']['no_new_privs'] must be True or False"),
        *[({"m": {"umask": value}}, "number from 0 to 0o777") for value in (-1, 0o1000, "077", True)],
        *[({"m": {"nice": value}}, "number from -20 to 19") for value in (-21, 20, 1.0, None)],
        *[({"m": {"processes": value}}, "number of at least 1") for value in (0, "50", float("inf"), 2**63)],
        ({"m": {"open_files": 7}}, "number of at least 8"),
        ({"m": {"memory_bytes": 1024}}, "number of at least 16777216"),
        ({"m": {"file_bytes": -1}}, "number of at least 0"),
        ({"m": {"cpu_seconds": 0}}, "number of at least 1"),
        ({"m": {"core_bytes": "0"}}, "number of at least 0"),
    ],
)  # fmt: skip
def test_an_entry_that_makes_no_sense_is_refused_by_name(given: Any, named: str) -> None:
    said = refusal(CONFINE=given)
    assert "QUEUECTL['CONFINE']" in said and named in said


@pytest.mark.parametrize("name", ["DUMPABLE", "START_WORKERS_FROM_WEB"])
@pytest.mark.parametrize("value", ["no", 1, None])
def test_switches_take_true_or_false_only(name: str, value: object) -> None:
    assert refusal(**{name: value}) == f"QUEUECTL['{name}'] must be True or False"


def test_the_check_tells_of_wrong_settings_and_unknown_users() -> None:
    with override_settings(QUEUECTL={"CONFINE": {"media": {"user": "no-such-user"}}}):
        [warning] = users_are_known()
    assert warning.id == "queuectl.W001" and "no such user: no-such-user" in warning.msg
    with override_settings(QUEUECTL={"CONFINE": {"media": {"nice": 99}}}):
        [error] = settings_are_sound()
        assert users_are_known() == []
    assert error.id == "queuectl.E001" and "-20 to 19" in error.msg
    with override_settings(QUEUECTL={"CONFINE": {"media": {"nice": 9}}}):
        assert settings_are_sound() == users_are_known() == []
