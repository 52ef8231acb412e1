import pytest

from jobs import conf
from jobs.execution import environment
from tests.unit.builders import work

DEFAULTS = conf.Settings()
WORKERS = {
    "PATH": "/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LC_TIME": "C",
    "TZ": "UTC",
    "SECRET_KEY": "s",
    "DATABASE_URL": "postgres://",
    "PGPASSWORD": "p",
    "AWS_SECRET_ACCESS_KEY": "a",
    "GITHUB_TOKEN": "t",
    "QUEUECTL_LEASE": "l",
    "EDITOR": "vi",
}


def test_by_default_a_command_sees_only_what_is_listed() -> None:
    found = environment.allowed(WORKERS, DEFAULTS.COMMAND_ENV, DEFAULTS.COMMAND_ENV_EXCLUDE)
    assert set(found) == {"PATH", "HOME", "LANG", "LC_TIME", "TZ"}


def test_a_command_allowed_everything_still_sees_no_secret() -> None:
    found = environment.allowed(WORKERS, ["*"], DEFAULTS.COMMAND_ENV_EXCLUDE)
    assert set(found) == {"PATH", "HOME", "LANG", "LC_TIME", "TZ", "EDITOR"}


def test_patterns_tell_upper_case_from_lower() -> None:
    assert environment.allowed({"path": "x"}, ["PATH"], []) == {}


def test_a_jobs_own_variable_wins_over_the_workers() -> None:
    assert environment.of(work(env={"PATH": "/opt"}), {"PATH": "/bin"})["PATH"] == "/opt"


@pytest.mark.parametrize(
    ("name", "value"), [("QUEUECTL_JOB_ID", "job1"), ("QUEUECTL_ATTEMPT", "4")]
)
def test_a_job_cannot_forge_its_identity(name: str, value: str) -> None:
    found = environment.of(work(key="job1", number=4, env={name: "forged"}), {})
    assert found[name] == value
