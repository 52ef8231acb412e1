"""The session of the original's README, typed line by line, with what it printed."""

import re
from subprocess import CompletedProcess

import pytest

from tests.acceptance.site import Site

ALONE = ("enqueue", "worker", "status", "dlq")
"""Verbs that stand under manage.py without the umbrella's name."""


class Shell:
    def __init__(self, site: Site, door: str) -> None:
        self.site, self.door = site, door

    def ask(self, *words: str) -> CompletedProcess[str]:
        if self.door == "queuectl":
            return self.site.queuectl(*words, check=False)
        umbrella = () if words[0] in ALONE else ("queuectl",)
        return self.site.manage(*umbrella, *words, check=False)

    def lines(self, *words: str) -> list[str]:
        """What a command that succeeds prints, and it prints nothing on stderr."""
        result = self.ask(*words)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.endswith("\n")
        return [line.rstrip(" ") for line in result.stdout[:-1].split("\n")]


@pytest.fixture(params=["queuectl", "manage.py"])
def shell(site: Site, request: pytest.FixtureRequest) -> Shell:
    return Shell(site, request.param)


HEAD = [
    "",
    "ID                   State        Attempts   Command",
    "-" * 82,
]


def test_the_session_prints_the_lines_of_the_original(site: Site, shell: Shell) -> None:
    say = shell.lines
    # Before there is anything
    assert say("list") == ["No jobs found"]
    assert say("dlq", "list") == ["No jobs in Dead Letter Queue"]
    assert say("worker", "stop") == ["No workers are running"]
    assert say("config", "show")[:6] == [
        "Current Configuration:",
        "-" * 40,
        "max-retries: 3",
        "backoff-base: 2.0",
        "worker-poll-interval: 1.0",
        "job-timeout: 300",
    ]

    # Enqueue a job
    job = '{"id":"job1","command":"echo Hello World"}'
    assert say("enqueue", job) == ["Job 'job1' enqueued successfully"]
    assert say("config", "set", "max-retries", "1") == ["Configuration 'max-retries' set to 1"]
    assert say("config", "set", "backoff_base", "1") == ["Configuration 'backoff_base' set to 1.0"]
    job = '{"id":"job2","command":"echo it broke >&2; exit 3","priority":7}'
    assert say("enqueue", job) == ["Job 'job2' enqueued successfully"]
    assert say("list") == [
        *HEAD,
        "job1                 pending      0/3         echo Hello World",
        "job2                 pending      0/1         echo it broke >&2; exit 3",
    ]

    # Start workers
    worker = site.start_worker("--count", "2")
    assert worker.output == "Started 2 worker(s)\n"
    site.wait_for("completed", "job1")
    site.wait_for("dead", "job2")

    # Check status
    assert say("status")[:8] == [
        "=== Queue Status ===",
        "Total Jobs: 2",
        "Pending: 0",
        "Processing: 0",
        "Completed: 1",
        "Failed: 0",
        "Dead (DLQ): 1",
        "Active Workers: 2",
    ]
    assert say("list", "--state", "completed") == [
        *HEAD,
        "job1                 completed    0/3         echo Hello World",
    ]
    assert say("list", "--state", "pending") == ["No jobs found"]

    # What they printed
    assert say("job", "output", "job1") == ["=== STDOUT ===", "Hello World"]
    assert say("job", "output", "job1", "--stdout") == ["Hello World"]
    assert say("job", "output", "job1", "--stderr") == ["(no stderr output)"]
    assert say("job", "output", "job2", "--stdout") == ["(no stdout output)"]
    assert say("job", "output", "job2", "--stderr") == ["it broke"]

    # View jobs in DLQ
    listed = say("dlq", "list")
    assert listed[:6] == [
        "",
        "Dead Letter Queue (1 jobs):",
        "-" * 80,
        "",
        "Job ID: job2",
        "  Command: echo it broke >&2; exit 3",
    ]
    assert listed[6] == "  Attempts: 1/1"
    assert re.fullmatch(r"  Failed At: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", listed[7])
    assert listed[8].startswith("  Error: ")
    assert "it broke" in listed[8]
    assert len(listed) == 9

    # Retry a DLQ job
    assert say("dlq", "retry", "job2") == ["Job 'job2' moved back to queue for retry"]
    site.wait_for("dead", "job2")
    assert len(site.attempts("job2")) == 4

    # Stop, from another terminal
    assert say("worker", "stop") == ["Stopping workers gracefully...", "All workers stopped"]
    assert worker.wait(5) == 0
    assert say("status")[7] == "Active Workers: 0"


def test_refusals_are_the_sentences_of_the_original(site: Site) -> None:
    def refused(*words: str) -> str:
        result = site.queuectl(*words, check=False)
        assert (result.returncode, result.stdout) == (1, "")
        return result.stderr.splitlines()[0]

    site.queuectl("enqueue", '{"id":"job1","command":"true"}')
    taken = '{"id":"job1","command":"false"}'
    assert refused("enqueue", taken) == "Error: Job with id 'job1' already exists"
    assert refused("enqueue", "{'id': 1}") == "Error: Invalid JSON format"
    assert refused("worker", "start", "--count", "0") == ("Error: Worker count must be at least 1")
    assert refused("dlq", "retry", "job9") == "Error: Job 'job9' not found"
    assert refused("dlq", "retry", "job1") == "Error: Job 'job1' is not in Dead Letter Queue"
    assert refused("job", "output", "job9") == "Error: Job 'job9' not found"
    assert refused("job", "output", "job1", "--stdout", "--stderr") == (
        "Error: Cannot use --stdout and --stderr together"
    )
    assert refused("config", "set", "max-retries", "many") == (
        "Error: Invalid value type for 'max-retries'"
    )
    assert refused("config", "set", "colour", "red") == ("Error: Unknown configuration key: colour")
    assert site.queuectl("job", "output", "job1").stdout == "(no output available)\n"
    assert site.states() == {"job1": "pending"}
