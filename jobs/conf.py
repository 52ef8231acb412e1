"""Every knob on one page.

`Settings` is the dict QUEUECTL of the host's settings, fixed while a process runs.
`RUNTIME` describes the settings kept in the database and obeyed by running workers
(`queuectl config set`); models/setting.py reads their values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from . import commands, confinement, masks, validation
from .commands import Template
from .exceptions import InvalidField
from .states import FINAL, JobState

POLICIES = ("disabled", "templates", "argv", "shell")
SIGNATURES = ("off", "sign", "require")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """QUEUECTL = {"LEASE_SECONDS": 60, …}; what is left out has the default given here."""

    DATABASE: str = "default"
    """Alias of the database that holds the queue."""

    LEASE_SECONDS: float = 60.0
    """A worker whose heartbeat is older has lost its jobs (on SQLite its lock file tells)."""

    HEARTBEAT_SECONDS: float = 15.0
    """How often a worker renews its lease; a changed setting is obeyed within this time."""

    RESCUE_SECONDS: float = 10.0
    """How often a worker looks for jobs of dead workers."""

    FENCE_MARGIN_SECONDS: float = 10.0
    """Commands are killed this long before a lease that was not renewed runs out."""

    GRACE_SECONDS: float = 30.0
    """How long running commands may go on once a worker has been asked to stop."""

    KILL_SECONDS: float = 5.0
    """From SIGTERM to SIGKILL."""

    MAX_LOST: int = 3
    """A job whose attempts were lost with their worker this often in a series is dead."""

    MAX_INTERRUPTS: int = 10
    """A job interrupted more often than this in a series is dead."""

    OUTPUT_LIMIT_BYTES: int = 1_048_576
    """Kept of each stream of an attempt: half from its head, half from its tail."""

    COMMAND_RUNNERS: int = 2
    """Processes of a worker that spawn and watch commands."""

    TASK_RUNNERS: int = 32
    """Most processes of a worker that run Django tasks, one at a time each; never more than its slots."""

    SHELL: str = "/bin/sh"
    """What runs a command text, as SHELL -c TEXT."""

    COMMAND_ENV: tuple[str, ...] = (
        "PATH",
        "HOME",
        "LANG",
        "LC_*",
        "TZ",
        "TMPDIR",
        "USER",
        "LOGNAME",
    )
    """Variables of the worker that a command may see; patterns such as "*" are allowed."""

    COMMAND_ENV_EXCLUDE: tuple[str, ...] = (
        "SECRET_KEY", "DATABASE_URL", "*PASSWORD*", "*SECRET*", "*TOKEN*", "PGPASSFILE", "QUEUECTL_*",
    )  # fmt: skip
    """Variables a command never sees, whatever COMMAND_ENV says; its own `env` is not affected."""

    CONFINE: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By queue, how its commands run: as which user, how nice, within which limits."""

    MASK: tuple[str, ...] = ()
    """Regular expressions for secrets: what matches is starred out of all that is kept of a run."""

    COMMAND_POLICY: str = "templates"
    """What the web may submit, whoever asks: "disabled", "templates", "argv" or "shell"."""

    COMMANDS: dict[str, Template] = field(default_factory=dict)
    """Command templates by name; commands/registration.py reads them."""

    SIGNATURES: str = "off"
    """Whether jobs are signed by SECRET_KEY: "off", "sign", or "require", to run none without one."""

    MOST_JOBS_OF_A_USER: int = 0
    """How many jobs that have not ended a user of the site may have; 0: any number."""

    HOLD_JOBS_OF_DISABLED_USERS: bool = False
    """Whether what a user had enqueued waits while that user is not active."""

    START_WORKERS_FROM_WEB: bool = False
    """Whether the page may start a worker, on the web host and with the web server's rights."""

    DUMPABLE: bool = False
    """For debuggers and core files: opens a worker's memory and environment to all its user runs."""

    LISTEN_AT: str = ""
    """HOST or HOST:PORT of PostgreSQL itself, for wake-ups, where the database's address is a pooler's."""

    LOCK_DIR: str = ""
    """Where workers keep their lock files; empty: beside the SQLite file, else in the temporary directory."""

    @property
    def fence_seconds(self) -> float:
        """How long before its lease runs out a runner asks its commands to end: killed, they are
        gone FENCE_MARGIN_SECONDS before it.
        """
        return self.FENCE_MARGIN_SECONDS + self.KILL_SECONDS


_SECONDS = {
    "LEASE_SECONDS": 5.0, "HEARTBEAT_SECONDS": 0.1, "RESCUE_SECONDS": 0.1, "FENCE_MARGIN_SECONDS": 1.0,
    "GRACE_SECONDS": 0.0, "KILL_SECONDS": 0.0,
}  # fmt: skip
"""Durations and the least each may be; the most is a day."""

_COUNTS = {
    "MAX_LOST": (1, 1000), "MAX_INTERRUPTS": (0, 1000), "OUTPUT_LIMIT_BYTES": (1024, 2**24),
    "COMMAND_RUNNERS": (1, 64), "TASK_RUNNERS": (1, 64), "MOST_JOBS_OF_A_USER": (0, 1_000_000),
}  # fmt: skip


def _problems(given: Settings) -> list[str]:
    """What is wrong with the settings, a sentence each."""
    found = []
    for name, low in _SECONDS.items():
        if not _is_number(getattr(given, name), low, 86_400):
            found.append(f"QUEUECTL['{name}'] must be a number of seconds from {low:g} to 86400")
    for name, (low, high) in _COUNTS.items():
        if not isinstance(getattr(given, name), int) or not _is_number(
            getattr(given, name), low, high
        ):
            found.append(f"QUEUECTL['{name}'] must be a whole number from {low} to {high}")
    for name in ("COMMAND_ENV", "COMMAND_ENV_EXCLUDE"):
        patterns: object = getattr(given, name)
        if not isinstance(patterns, tuple) or not all(isinstance(p, str) for p in patterns):
            found.append(f"QUEUECTL['{name}'] must be a list of names or patterns")
    for name in ("DATABASE", "SHELL", "LISTEN_AT", "LOCK_DIR"):
        if not isinstance(getattr(given, name), str):
            found.append(f"QUEUECTL['{name}'] must be text")
        elif name == "LISTEN_AT" and given.LISTEN_AT and not address(given.LISTEN_AT):
            found.append(
                f"QUEUECTL['{name}'] must be HOST or HOST:PORT, such as 'db.example.org:5432'"
            )
        elif name == "DATABASE" and given.DATABASE not in (known := _databases()):
            found.append(
                f"QUEUECTL['{name}'] is {validation.quoted(given.DATABASE)}, which is not in DATABASES; "
                f"name one of: {', '.join(known)}"
            )
    for name in ("HOLD_JOBS_OF_DISABLED_USERS", "START_WORKERS_FROM_WEB", "DUMPABLE"):
        if not isinstance(getattr(given, name), bool):
            found.append(f"QUEUECTL['{name}'] must be True or False")
    found += confinement.problems(given.CONFINE) + masks.problems(given.MASK)
    for name, words in (("COMMAND_POLICY", POLICIES), ("SIGNATURES", SIGNATURES)):
        if getattr(given, name) not in words:
            found.append(f"QUEUECTL['{name}'] must be one of {', '.join(words)}")
    if not found and given.LEASE_SECONDS - given.fence_seconds <= given.HEARTBEAT_SECONDS:
        limit = "LEASE_SECONDS - FENCE_MARGIN_SECONDS - KILL_SECONDS"
        found.append(f"QUEUECTL['HEARTBEAT_SECONDS'] must be shorter than {limit}")
    return found


def _databases() -> list[str]:
    """The aliases of the site; Django adds the default one where there is none at all."""
    return list(django_settings.DATABASES) or [Settings.DATABASE]


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:@?]+)(?::(?P<port>[0-9]{1,5}))?\Z")


def address(given: str) -> dict[str, str] | None:
    """Host and port of HOST or HOST:PORT, an IPv6 address in brackets; None if it is neither.

    >>> address("db:5433"), address("[::1]"), address("a:b")
    ({'host': 'db', 'port': '5433'}, {'host': '::1'}, None)
    """
    found = _ADDRESS.match(given)
    if found is None or int(found["port"] or 1) not in range(1, 65_536):
        return None
    parts = {"host": found["host"].strip("[]"), "port": found["port"]}
    return {name: value for name, value in parts.items() if value}


@cache
def get() -> Settings:
    """The settings in force. Raises ImproperlyConfigured for an unknown name or a bad value."""
    settings, problems = read()
    if problems:
        raise ImproperlyConfigured("; ".join(problems))
    return settings


def read() -> tuple[Settings, list[str]]:
    """The settings as they are given, and what is wrong with them, a sentence each."""
    given: Any = getattr(django_settings, "QUEUECTL", {})
    if not isinstance(given, Mapping):
        return Settings(), ["QUEUECTL must be a dict of settings"]
    known = {field.name: field for field in fields(Settings)}
    unknown = []
    for name in given:
        if name not in known:
            near = validation.nearest(name, known)
            hint = f"; did you mean {near!r}?" if near else ""
            unknown.append(f"QUEUECTL has an unknown setting {validation.quoted(name)}{hint}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if name in known
    }
    values["COMMANDS"], wrong = commands.registered(given.get("COMMANDS", {}))
    settings = Settings(**values)
    return settings, [*unknown, *_problems(settings), *wrong]


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "QUEUECTL":
        get.cache_clear()


setting_changed.connect(_forget)


@dataclass(frozen=True)
class RuntimeSetting:
    """One setting that lives in the database."""

    name: str
    default: int | float
    low: float
    high: float
    help: str

    @property
    def parse(self) -> Callable[[str], int | float]:
        return int if isinstance(self.default, int) else float

    def holds(self, value: object) -> bool:
        """Whether this is a number that it may be."""
        return _is_number(value, self.low, self.high)

    def read(self, text: str) -> int | float:
        """The value a person typed. Raises InvalidField, naming what is accepted."""
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        accepted = f"{self.name} takes {kind} from {self.low:g} to {self.high:.12g}"
        if not text.isascii() or text != text.strip() or "_" in text or len(text) > 40:
            raise InvalidField(self.name, f"Invalid value type for '{self.name}'", hint=accepted)
        try:
            value = self.parse(text)
        except ValueError:
            message = f"Invalid value type for '{self.name}'"
            raise InvalidField(self.name, message, hint=accepted) from None
        if not self.holds(value):
            raise InvalidField(self.name, f"Invalid value for '{self.name}'", hint=accepted)
        return value


RUNTIME = {
    setting.name: setting
    for setting in (
        RuntimeSetting("max-retries", 3, 0, 100, "retries of a new job after its first run"),
        RuntimeSetting("backoff-base", 2.0, 1, 100, "the n-th retry waits base^n seconds"),
        RuntimeSetting("worker-poll-interval", 1.0, 0.05, 3600, "seconds between looks for work"),
        RuntimeSetting("job-timeout", 300, 1, 2_592_000, "seconds a command may run"),
        RuntimeSetting("backoff-jitter", 0.0, 0, 1, "that part of a wait more at most, by chance"),
        *(
            RuntimeSetting(
                f"prune-{state}-after",
                0,
                0,
                3_153_600_000,
                f"seconds a {state} job is kept; 0: for ever",
            )
            for state in FINAL
        ),
        *(
            RuntimeSetting(
                f"prune-{state}-above", 0, 0, 1_000_000_000, f"{state} jobs that are kept; 0: all"
            )
            for state in FINAL
        ),
    )
}


def runtime(name: str) -> RuntimeSetting:
    """Find a setting by its name, with `-` or `_`. Raises InvalidField for an unknown one."""
    found = RUNTIME.get(name.replace("_", "-"))
    if found is None:
        raise InvalidField(
            "key", f"Unknown configuration key: {name}", hint=f"known keys: {', '.join(RUNTIME)}"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The runtime settings of one moment, as a turn uses them."""

    max_retries: int
    backoff_base: float
    worker_poll_interval: float
    job_timeout: float
    backoff_jitter: float
    keep: tuple[Retention, ...]
    """Only the states that are pruned at all."""


@dataclass(frozen=True)
class Retention:
    """How long, and how many, final jobs of a state are kept; 0 means without limit."""

    state: JobState
    seconds: float
    number: int


def policy(stored: dict[str, int | float]) -> Policy:
    """Build a Policy from the stored values, defaults where nothing is stored."""
    value = {name: stored.get(name, setting.default) for name, setting in RUNTIME.items()}
    kept = [Retention(s, value[f"prune-{s}-after"], int(value[f"prune-{s}-above"])) for s in FINAL]
    return Policy(
        max_retries=int(value["max-retries"]),
        backoff_base=value["backoff-base"],
        worker_poll_interval=value["worker-poll-interval"],
        job_timeout=value["job-timeout"],
        backoff_jitter=value["backoff-jitter"],
        keep=tuple(keep for keep in kept if keep.seconds or keep.number),
    )
