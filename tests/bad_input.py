"""What people get wrong, as one table for every surface that takes the field.

A surface is where something is asked for:

    json       queuectl enqueue '{...}'         new       the page's form for a new job
    line       queuectl enqueue - < lines       button    the page's Move and Set priority
    option     queuectl enqueue --priority ...  action    the admin's Move and Set priority of many
    python     operations.enqueue({...})        press     the admin's Move and Set priority of one
    original   import of a jobs.json            native    import of our own format
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

LAST_DAY, SECOND = datetime(9999, 12, 31, 20, tzinfo=UTC), timedelta(seconds=1)

JSON = ("json", "line", "python")
IMPORTS = ("original", "native")

TAKEN: dict[str, set[str]] = {
    "json": {"id", "command", "argv", "queue", "priority", "max_retries", "timeout", "backoff_base",
             "run_at", "delay", "cwd", "env", "unique_key", "field"},
    "option": {"id", "command", "queue", "priority", "max_retries", "timeout", "backoff_base", "run_at",
               "cwd", "env", "unique_key"},
    "new": {"id", "command", "queue", "priority", "max_retries", "run_at"},
    "button": {"queue", "priority"},
    "original": {"id", "command", "priority", "max_retries", "run_at", "state", "field"},
    "native": {"id", "command", "argv", "task", "queue", "priority", "max_retries", "timeout",
               "backoff_base", "run_at", "cwd", "env", "unique_key", "state", "field"},
}  # fmt: skip
"""The fields each surface has; `field` is the name of a field itself."""

TAKEN["line"] = TAKEN["python"] = TAKEN["json"]
TAKEN["action"] = TAKEN["press"] = TAKEN["button"]

ACCEPTED = {
    "id": "text of 1 to 128 printable characters",
    "command": "text for the shell",
    "argv": "a list of 1 to 256 texts without NUL",
    "task": "the path of a function, up to 255 characters",
    "queue": "1 to 64 letters, digits, '-', '_' and '.'",
    "priority": "a whole number from -1000 to 1000",
    "max_retries": "a whole number from 0 to 100",
    "timeout": "a number of seconds from 0.001 to 2,592,000",
    "backoff_base": "a number from 1 to 100",
    "run_at": "a time",
    "delay": "a number of seconds from 0 to",
    "cwd": "an absolute path",
    "env": "env",
    "unique_key": "text of 1 to 128 printable characters",
    "state": "one of pending",
    "field": "field",
}
"""What the one sentence says of each."""

WIDER = {"priority": "a whole number from", "max_retries": "a whole number from 0 to"}
"""What an import says instead: it takes what was stored once."""

SAME = object()
KEPT = dict.fromkeys(IMPORTS, "an import keeps what was stored once")
FORMS = ("new", "button", "action", "press")


@dataclass(frozen=True)
class Bad:
    """One wrong value."""

    field: str
    name: str
    value: object
    """As JSON holds it."""

    typed: Any = SAME
    """As text in a form or an option; None where it cannot be typed there."""

    says: str = ""
    """Words of the sentence besides those of the field."""

    instead: Mapping[str, str] = field(default_factory=dict)
    """What a surface says in words of its own."""

    not_on: Mapping[str, str] = field(default_factory=dict)
    """Where it cannot come, or is not wrong, and why."""

    def as_typed(self) -> str | None:
        if self.typed is not SAME:
            return self.typed  # type: ignore[no-any-return]
        return self.value if isinstance(self.value, str) else None

    def is_on(self, surface: str) -> bool:
        typed = surface not in (*JSON, *IMPORTS)
        return (
            self.field in TAKEN[surface]
            and surface not in self.not_on
            and not (typed and self.as_typed() is None)
        )

    def words(self, surface: str) -> list[str]:
        """What the sentence of this surface must contain."""
        if surface in self.instead:
            return [self.instead[surface]]
        wider = WIDER if surface in IMPORTS else {}
        wrong = f"Unknown {self.field}" if self.field == "field" else f"Invalid {self.field}: "
        return [wrong, {**ACCEPTED, **wider}[self.field], self.says]

    def __str__(self) -> str:
        return f"{self.field} {self.name}"


NO_NUL = "an argument of a program holds no NUL"
MADE_UP = {"new": "an empty field asks for one to be made"}
DEFAULT = {"new": "an empty field takes the default"}
NULLS = dict.fromkeys(FORMS, "Null characters are not allowed")
REQUIRED = dict.fromkeys(FORMS, "This field is required")
NUL: dict[str, Any] = {"instead": NULLS, "not_on": {"option": NO_NUL}}
SURROGATE: dict[str, Any] = {"not_on": dict.fromkeys(FORMS, "no other charset is read")}

FIELDS = (
    Bad("id", "empty", "", not_on=MADE_UP),
    Bad("id", "of spaces", "  ", not_on=KEPT),
    Bad("id", "number", 12, typed=None),
    Bad("id", "true", True, typed=None),
    Bad("id", "null", None, typed=None),
    Bad("id", "list", ["a"], typed=None),
    Bad("id", "newline", "a\nb", says=r"a\nb"),
    Bad("id", "NUL", "a\0b", **NUL),
    Bad("id", "ESC", "a\x1b[31m"),
    Bad("id", "C1", "a\x9b31m", says=r"a\x9b31m"),
    Bad("id", "DEL", "a\x7f"),
    Bad("id", "that turns text round", "a\u202eb", says=r"a\u202eb"),
    Bad("id", "zero-width", "a\u200bb", says=r"a\u200bb"),
    Bad("id", "a filler nobody sees", "a\u3164b", not_on=KEPT),
    Bad("id", "a variation nobody sees", "a\ufe0fb", not_on=KEPT),
    Bad("id", "lone surrogate", "a\udcff", says=r"a\udcff", **SURROGATE),
    Bad("id", "not NFC", "e\u0301", not_on=KEPT),
    Bad("id", "leading dash", "-rf", says="not beginning with '-'", not_on=KEPT),
    Bad("id", "space at its end", "a ", says="no space at its ends", not_on=KEPT),
    Bad("id", "of 129 characters", "x" * 129),
    Bad("command", "empty", "", instead=REQUIRED),
    Bad("command", "of spaces", " \n\t", says="not only spaces"),
    Bad("command", "null", None, typed=None, instead={"native": "one of 'command', 'argv'"}),
    Bad("command", "number", 42, typed=None, says="42"),
    Bad("command", "list", ["ls"], typed=None),
    Bad("command", "object", {"a": 1}, typed=None),
    Bad("command", "NUL", "echo a\0b", **NUL),
    Bad("command", "lone surrogate", "echo \udcff", **SURROGATE),
    Bad("command", "of 131,072 bytes", "x" * 131_072, says="131,071 bytes"),
    Bad("command", "of 131,072 bytes in 65,536 characters", "é" * 65_536, says="131,071 bytes"),
    Bad("argv", "empty", []),
    Bad("argv", "of nothing", [""]),
    Bad("argv", "of numbers", [1]),
    Bad("argv", "nested", [["ls"]]),
    Bad("argv", "text", "ls -l", typed=None),
    Bad("argv", "object", {"0": "ls"}),
    Bad("argv", "of 257", ["x"] * 257),
    Bad("argv", "NUL", ["echo", "a\0b"]),
    Bad("argv", "lone surrogate", ["echo", "\udcff"]),
    Bad("task", "empty", ""),
    Bad("task", "no path", "noop"),
    Bad("task", "for the shell", "a.b; true"),
    Bad("task", "number", 5),
    Bad("task", "too long", "a." + "b" * 254),
    Bad("queue", "empty", "", instead=REQUIRED, not_on=DEFAULT),
    Bad("queue", "with a space", "a b"),
    Bad("queue", "SQL", "default;drop"),
    Bad("queue", "pattern", "*"),
    Bad("queue", "all", "all", says="not the word 'all'"),
    Bad("queue", "ALL", "ALL", says="not the word 'all'"),
    Bad("queue", "path", "../x"),
    Bad("queue", "other letters", "grün"),
    Bad("queue", "ESC", "a\x1b[2J", says=r"a\u001b[2J"),
    Bad("queue", "NUL", "a\0", **NUL),
    Bad("queue", "number", 5, typed=None),
    Bad("queue", "of 65 characters", "x" * 65),
    Bad("priority", "word", "high", says="high"),
    Bad("priority", "text", "5", typed=None),
    Bad("priority", "empty", "", instead=REQUIRED, not_on=DEFAULT),
    Bad("priority", "with a space", "5 "),
    Bad("priority", "underscore", "1_000"),
    Bad("priority", "in other digits", "\u0665"),
    Bad("priority", "with a plus", "+5"),
    Bad("priority", "1.5", 1.5, typed="1.5"),
    Bad("priority", "true", True, typed="true"),
    Bad("priority", "list", [5], typed=None),
    Bad("priority", "1001", 1001, typed="1001", not_on=KEPT),
    Bad("priority", "-1001", -1001, typed="-1001", not_on=KEPT),
    Bad("priority", "2^63", 2**63, typed=str(2**63)),
    Bad("priority", "10^20", 10**20, typed=str(10**20)),
    Bad("max_retries", "-1", -1, typed="-1"),
    Bad("max_retries", "101", 101, typed="101", not_on=KEPT),
    Bad("max_retries", "10^20", 10**20, typed=str(10**20)),
    Bad("max_retries", "1.5", 1.5, typed="1.5"),
    Bad("max_retries", "word", "NaN"),
    Bad("max_retries", "true", True, typed=None),
    Bad("timeout", "0", 0, typed="0"),
    Bad("timeout", "-5", -5, typed=None),
    Bad("timeout", "too long", 10**12, typed=str(10**12)),
    Bad("timeout", "of 400 digits", 10**90, typed=None),
    Bad("timeout", "text", "5", typed=None),
    Bad("timeout", "true", True, typed=None),
    Bad("backoff_base", "0", 0, typed="0"),
    Bad("backoff_base", "-2", -2, typed="-2"),
    Bad("backoff_base", "1000", 1000, typed="1000"),
    Bad("backoff_base", "inf", "inf"),
    Bad("backoff_base", "nan", "nan"),
    Bad("run_at", "word", "tomorrow"),
    Bad("run_at", "empty", "", not_on={"new": "an empty field asks for as soon as it can"}),
    Bad("run_at", "0", 0, typed="0"),
    Bad("run_at", "number", 1e18, typed="1e18"),
    Bad("run_at", "30 February", "2030-02-30T00:00:00Z"),
    Bad("run_at", "24:61", "2030-01-01T24:61:00Z"),
    Bad("run_at", "second 60", "2030-01-01T00:00:60Z"),
    Bad("run_at", "zone of a day", "2030-01-01T00:00:00+24:00"),
    Bad("run_at", "in year 0", "0000-01-01T00:00:00Z"),
    Bad("run_at", "before year 1", "0001-01-01T00:00:00+14:00"),
    Bad("run_at", "after year 9999", "9999-12-31T23:00:00-14:00"),
    Bad("run_at", "on the first day", "0001-01-01T00:00:00Z", not_on=KEPT),
    Bad("run_at", "on the last day", "9999-12-31T23:59:59Z"),
    Bad("run_at", "in other digits", "\uff12030-01-01T00:00:00Z"),
    Bad("run_at", "in 60 years", "2090-01-01T00:00:00Z", says="within ten years",
        not_on={**KEPT, "line": "the time is known when all are stored"}),
    Bad("delay", "-1", -1),
    Bad("delay", "too long", 10**12),
    Bad("delay", "text", "5"),
    Bad("delay", "true", True),
    Bad("cwd", "relative", "here", not_on={"option": "a relative one is taken from here"}),
    Bad("cwd", "empty", "", not_on={"native": "it is what a job without one has",
                                    "option": "it is taken for here"}),
    Bad("cwd", "number", 5, typed=None),
    Bad("cwd", "NUL", "/a\0b", **NUL),
    Bad("cwd", "too long", "/" + "x" * 4096),
    Bad("env", "list", ["A=1"], typed="A", says="an object of up to 256 texts",
        instead={"option": "write --env NAME=VALUE"}),
    Bad("env", "number", {"A": 1}, typed=None, says='"A"'),
    Bad("env", "nested", {"A": [[[[]]]]}, typed=None, says='"A"'),
    Bad("env", "name with =", {"A=B": "1"}, typed=None, says="names are letters"),
    Bad("env", "name with a space", {"A B": "1"}, typed="A B=1", says="names are letters"),
    Bad("env", "empty name", {"": "1"}, typed="=1", says="names are letters"),
    Bad("env", "name that begins with a digit", {"1A": "1"}, typed="1A=1", says="names are letters"),
    Bad("env", "NUL", {"A": "s3cret\0"}, says='"A"'),
    Bad("env", "of the worker's", {"QUEUECTL_LEASE": "1"}, typed="QUEUECTL_LEASE=1",
        says="is set by the worker"),
    Bad("env", "of 257", {f"A{i}": "" for i in range(257)}, says="up to 256"),
    Bad("env", "too large", {f"A{i}": "x" * 100_000 for i in range(11)}, says="1,048,576",
        not_on={"line": "no line is as long"}),
    Bad("unique_key", "empty", ""),
    Bad("unique_key", "number", 5, typed=None),
    Bad("unique_key", "ESC", "a\x1b"),
    Bad("unique_key", "leading dash", "-x", says="not beginning with '-'", not_on=KEPT),
    Bad("unique_key", "space at its end", "a ", says="no space at its ends", not_on=KEPT),
    Bad("unique_key", "of 129 characters", "x" * 129),
    Bad("state", "unknown", "bogus"),
    Bad("state", "number", 1, typed=None),
    Bad("state", "null", None, typed=None),
    Bad("field", "misspelled", "comand", says="did you mean 'command'?"),
    Bad("field", "unknown", "zzzzzz", says="known fields: "),
    Bad("field", "of the machine", "lease", says="known fields: "),
    Bad("field", "ESC", "\x1b[31m", says=r"\u001b[31m"),
    Bad("field", "of 10,000 characters", "x" * 10_000, says="known fields: "),
)  # fmt: skip


def cells() -> list[tuple[str, str, list[Bad]]]:
    """Every surface with every field it takes, and the rows of it that can come there."""
    found = []
    for surface, fields in TAKEN.items():
        for name in sorted(fields):
            rows = [row for row in FIELDS if row.field == name and row.is_on(surface)]
            assert rows, f"no bad value for {name} on {surface}"
            found.append((surface, name, rows))
    return found


def job(**fields: object) -> str:
    return json.dumps({"command": "true", **fields})


@dataclass(frozen=True)
class Text:
    """A text that is not the JSON it should be, where one job may stand."""

    name: str
    data: str | bytes
    says: str
    instead: Mapping[str, str] = field(default_factory=dict)
    not_on: Mapping[str, str] = field(default_factory=dict)

    def words(self, surface: str) -> str:
        return self.instead.get(surface, self.says)

    def __str__(self) -> str:
        return self.name


FOR_THE_SHELL = {"json": "it is taken for a command"}
NO_ARGUMENT = {"json": "a program's arguments are text"}

TEXTS = (
    Text("not JSON", "{'id': 'a'}", "double quotes"),
    Text("truncated", '{"id": "a", "command": "tr', "column", {"original": "is torn"}),
    Text("comma at the end", '{"command": "true",}', "Invalid JSON format"),
    Text("comments", '{"command": "true" /* so */}', "expecting ',' delimiter"),
    Text("two documents", job() + job(), "column", {"original": "The field 'id' is missing"}),
    Text("byte order mark", "\ufeff" + job(), "byte order mark",
         dict.fromkeys(IMPORTS, "expecting value")),
    Text("duplicate keys", '{"command": "true", "command": "false"}', "'command' is there twice"),
    Text("NaN", '{"command": "true", "timeout": NaN}', "NaN is not a JSON number"),
    Text("infinite", '{"command": "true", "timeout": 1e999}', "1e999 is too large"),
    Text("5,000 digits", '{"command": "true", "priority": %s}' % ("9" * 5000), "is too large"),
    Text("nesting bomb", '{"command": ' + "[" * 100_000, "nested"),
    Text("33 levels", '{"command": ' + "[" * 33 + "]" * 33 + "}", "nested deeper than 32",
         {"original": "The field 'id' is missing"}),
    Text("number", "42", "must be a JSON object", not_on=FOR_THE_SHELL),
    Text("null", "null", "must be a JSON object", not_on=FOR_THE_SHELL),
    Text("text", '"echo"', "must be a JSON object", not_on=FOR_THE_SHELL),
    Text("invalid UTF-8", b'{"command": "echo \xff"}', "not UTF-8", not_on=NO_ARGUMENT),
    Text("UTF-16", job().encode("utf-16"), "not UTF-8", not_on=NO_ARGUMENT),
)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A whole command that is wrong, where no field is."""

    name: str
    words: tuple[str, ...]
    says: str
    code: int = 1
    stdin: bytes = b""

    def __str__(self) -> str:
        return self.name


COMMANDS = (
    # A job
    Command("no command", ("enqueue", '{"id": "a"}'), "Job must have a 'command' field"),
    Command("command and argv", ("enqueue", job(argv=["true"])), "'command' or 'argv', not both"),
    Command("run_at and delay", ("enqueue", job(run_at="2030-01-01", delay=1)),
            "'delay' or 'run_at', not both"),
    Command("an item of an array", ("enqueue", f"[{job()}, {job(priority=9999)}]"),
            "item 2: Invalid priority: 9999"),
    Command("a number in an array", ("enqueue", f"[{job()}, 42]"), "item 2: A job must be"),
    Command("options with an array", ("enqueue", "-p", "1", f"[{job()}]"), "not with an array"),
    Command("twice", ("enqueue", "-p", "1", job(priority=2)), "'priority' is given twice"),
    Command("nothing to enqueue", ("enqueue",), "Nothing to enqueue"),
    Command("words without --", ("enqueue", "echo", "hi"), "several words comes after --"),
    Command("nothing after --", ("enqueue", "--"), "After -- comes the command"),
    Command("a line with options", ("enqueue", "-", "-p", "1"), "carry their own fields"),
    Command("a missing file", ("enqueue", "--file", "/no/such/file"),
            "Cannot read /no/such/file: No such file or directory"),
    Command("a directory", ("enqueue", "--file", "/"), "Cannot read /: Is a directory"),
    Command("a device", ("enqueue", "--file", "/dev/zero"),
            "Cannot read /dev/zero: it is a device, not a file"),
    Command("UTF-16 lines", ("enqueue", "-"), "line 1 is not UTF-8", stdin=job().encode("utf-16")),
    Command("a line of 2 MB", ("enqueue", "-"), "line 1 is longer than 1,048,576 bytes",
            stdin=b'{"command": "' + b"x" * 2_000_000),
    Command("the last of 1,000 lines", ("enqueue", "-"), 'line 1000: Invalid priority: "x"',
            stdin=f"{job()}\n".encode() * 999 + job(priority="x").encode()),
    Command("an array as a line", ("enqueue", "-"), "line 1: A job must be a JSON object",
            stdin=f"[{job()}]".encode()),
    Command("an id twice with other content", ("enqueue", "-"), "Job with id 'a' already exists",
            stdin=f"{job(id='a')}\n{job(id='a', priority=1)}".encode()),
    Command("an id that is taken", ("enqueue", job(id="j", priority=1)),
            "Job with id 'j' already exists"),
    # A job that is there, or is not
    *(
        Command(f"{verb} of {what}", ("job", verb, typed), f"Job '{said}' not found")
        for verb in ("show", "output", "retry", "cancel", "run-now", "discard")
        for what, typed, said in (
            ("nobody", "nobody", "nobody"), ("SQL", "' OR 1=1 --", "' OR 1=1 --"),
            ("a pattern", "%", "%"), ("an underscore", "_", "_"), ("nothing", "", ""),
            ("ESC", "\x1b[2J", r"\x1b[2J"), ("a lone surrogate", "\udcff", r"\udcff"),
        )
    ),
    Command("retry of pending", ("dlq", "retry", "j"), "Job 'j' is not in Dead Letter Queue"),
    Command("run-now of pending", ("job", "run-now", "j"), "Job 'j' is pending"),
    Command("discard of pending as dead", ("dlq", "discard", "j"), "needs a job that is dead"),
    Command("no job to retry", ("dlq", "retry"), "Say which jobs: ids, or --all"),
    Command("ids and all", ("dlq", "retry", "j", "--all"), "Say which jobs: ids, or --all"),
    Command("an attempt that is none", ("job", "output", "j", "--attempt", "0"), "no attempt 0"),
    # Settings
    Command("an unknown setting", ("config", "set", "colour", "red"),
            "Unknown configuration key: colour"),
    Command("an unknown setting to get", ("config", "get", "colour"), "known keys: max-retries"),
    # Queues and workers
    Command("pause of nothing", ("queue", "pause", "nobody"), "known queues: default"),
    Command("pause of NUL", ("queue", "pause", "a\0"), r"Queue 'a\x00' not found"),
    Command("resume of what is not paused", ("queue", "resume", "default"), "is not paused"),
    Command("count 0", ("worker", "start", "--count", "0"), "Worker count must be at least 1"),
    Command("count -1", ("worker", "start", "--count", "-1"), "Worker count must be at least 1"),
    Command("a queue to serve", ("worker", "start", "-q", "a b"), 'Invalid queue: "a b"'),
    Command("a worker's name", ("worker", "start", "--name", "a\nb"), r"a\nb"),
    Command("a log without --detach", ("worker", "start", "--log", "x"), "goes with --detach"),
    # Files
    Command("import of nothing", ("import", "-"), "is empty"),
    Command("import of a number", ("import", "-"), "no file of jobs", stdin=b"42"),
    Command("import of an array", ("import", "-"), "no file of jobs", stdin=b"[]"),
    Command("import of UTF-16", ("import", "-"), "save it as plain UTF-8",
            stdin="{}".encode("utf-16")),
    Command("import of a BOM", ("import", "-"), "save it as plain UTF-8", stdin=b"\xef\xbb\xbf{}"),
    Command("import of a torn file", ("import", "-"), "is torn", stdin=b'{"a": {"id": "a", "comm'),
    Command("import of a torn export", ("import", "-"), "is torn",
            stdin=b'{"format": "queuectl", "version": 1}\n'),
    Command("import of another version", ("import", "-"), "it reads format 'queuectl', version 1",
            stdin=b'{"format": "queuectl", "version": 2}\n{"end": {"jobs": 0}}'),
    Command("import of a directory", ("import", "/"), "it is a directory"),
    Command("import of a device", ("import", "/dev/zero"), "it is a device"),
    Command("import of what is missing", ("import", "/no/such/file"), "No such file"),
    Command("export to a directory", ("export", "/"), "it is a directory"),
    Command("export to nowhere", ("export", "/no/such/place"), "No such file"),
    # Usage
    Command("nothing", (), "COMMAND", 2),
    Command("an unknown command", ("enqueu",), "did you mean 'enqueue'?", 2),
    Command("an unknown command of a group", ("dlq", "lits"), "did you mean 'list'?", 2),
    Command("an unknown option", ("status", "--jsno"), "--jsno", 2),
    Command("an unknown state", ("list", "--state", "done"), "state 'done' is not known", 2),
    Command("a missing id", ("job", "show"), "missing: id", 2),
    Command("a missing value", ("config", "set", "max-retries"), "missing: value", 2),
    Command("count 1e3", ("worker", "start", "--count", "1e3"), "from 1 to 4096", 2),
    Command("count nothing", ("worker", "start", "--count", ""), "from 1 to 4096", 2),
    Command("count 10 million", ("worker", "start", "--count", "10000000"), "from 1 to 4096", 2),
    Command("count 1_0", ("worker", "start", "--count", "1_0"), "from 1 to 4096", 2),
    Command("count in other digits", ("worker", "start", "--count", "٣"), "from 1 to 4096", 2),
    Command("a span that is none", ("enqueue", "--in", "soon", "true"), "such as 90s", 2),
    Command("a span below 0", ("enqueue", "--timeout=-5", "true"), "such as 90s", 2),
    Command("a limit that is none", ("list", "--limit", "many"), "from 1 to 1000000", 2),
    Command("a limit of 0", ("list", "--limit", "0"), "from 1 to 1000000", 2),
    Command("a port that is none", ("web", "--port", "65536"), "from 1 to 65535", 2),
)  # fmt: skip

SETTINGS = (
    Bad("max-retries", "word", "five"),
    Bad("max-retries", "-1", -1, typed="-1"),
    Bad("max-retries", "101", 101, typed="101"),
    Bad("max-retries", "1.5", 1.5, typed="1.5"),
    Bad("max-retries", "empty", "", instead={"setting": "This field is required"}),
    Bad("max-retries", "with a space", "5 "),
    Bad("max-retries", "underscore", "1_0"),
    Bad("max-retries", "in other digits", "\u0665"),
    Bad("max-retries", "of 400 digits", "9" * 400),
    Bad("max-retries", "true", True, typed=None),
    Bad("max-retries", "null", None, typed=None),
    Bad("max-retries", "list", [3], typed=None),
    Bad("backoff-base", "0", 0, typed="0"),
    Bad("backoff-base", "1000", 1000, typed="1000"),
    Bad("backoff-base", "nan", "nan"),
    Bad("worker-poll-interval", "inf", "inf"),
    Bad("worker-poll-interval", "0", 0, typed="0"),
    Bad("worker-poll-interval", "-1", -1, typed="-1"),
    Bad("worker-poll-interval", "1e400", "1e400"),
    Bad("worker-poll-interval", "NUL", "1\0", instead={"setting": "Null characters are not allowed"},
        not_on={"option": NO_NUL}),
    Bad("job-timeout", "0", 0, typed="0"),
    Bad("job-timeout", "10^12", 10**12, typed=str(10**12)),
)  # fmt: skip
"""Where they are set: config set, the admin's form, a config.json, our own format."""

UNTIL = (
    Bad("until", "word", "tomorrow", says="a time"),
    Bad("until", "past", "2001-01-01T00:00", says="a time to come"),
    Bad("until", "30 February", "2030-02-30T00:00", says="a time"),
    Bad("until", "24:61", "2030-01-01T24:61", says="a time"),
    Bad("until", "before year 1", "0001-01-01T00:00:00+14:00", says="a time"),
    Bad("until", "after year 9999", "9999-12-31T23:00:00-14:00", says="a time"),
    Bad("until", "on the last day", "9999-12-31T23:59:59Z", says="a time"),
    Bad("until", "too long a span", "9999999d", says="a time"),
    Bad("until", "a span to the last day", f"{(LAST_DAY - datetime.now(UTC)) // SECOND}s", says="a time"),
    Bad("until", "NUL", "2030\0", says="a time", instead=NULLS),
)  # fmt: skip
"""Until when a queue is paused: queue pause, the admin's action."""

TAKEN_ALREADY: dict[str, tuple[str, str]] = {
    "retry": ("pending", "not in Dead Letter Queue"),
    "run-now": ("pending", "scheduled or failed"),
    "cancel": ("completed", "pending or scheduled"),
    "move": ("completed", "pending or scheduled"),
    "set-priority": ("processing", "pending or scheduled"),
    "discard": ("processing", "pending or scheduled"),
}
"""Verbs, a state that does not allow each, and what is said then."""

DATABASE_COMMANDS = (
    ("enqueue", "true"), ("status",), ("list",), ("dlq", "list"), ("config", "show"), ("worker", "list"),
    ("worker", "stop"), ("queue", "list"), ("job", "show", "a"), ("metrics",),
)  # fmt: skip
"""Commands that ask the database for something, and nothing else."""
