"""What the original left open, decided: how a job of its file becomes one of ours, and back."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.exceptions import InvalidField
from jobs.models import Attempt, Job, Stream
from jobs.states import JobState
from jobs.transfer import original
from jobs.transfer.record import Record
from jobs.validation import job_request
from tests.unit.builders import NOW

SEED = Path(__file__).parents[1] / "data" / "original"

JOB = {
    "id": "job1",
    "command": "echo hello",
    "state": "pending",
    "attempts": 0,
    "max_retries": 3,
    "created_at": "2026-11-24T02:10:10.686694Z",
    "updated_at": "2026-11-24T02:10:11.311274Z",
    "next_retry_at": None,
    "error_message": None,
    "priority": 5,
    "run_at": None,
    "stdout": None,
    "stderr": None,
    "execution_time": None,
    "started_at": None,
    "completed_at": None,
}
RAN = {"stdout": "out", "stderr": "", "execution_time": 0.25}
COMPLETED = RAN | {"state": "completed", "completed_at": "2026-11-24T02:10:11.5Z"}
DEAD = RAN | {
    "state": "dead",
    "attempts": 2,
    "max_retries": 2,
    "next_retry_at": "2026-11-24T02:10:11Z",
    "error_message": "Max retries (2) exceeded. Last error: Command failed with exit code 3",
}


def records(**changed: Any) -> list[Record]:
    given = JOB | changed
    return original.records((given["id"], given), NOW, "ann")


def job(**changed: Any) -> dict[str, Any]:
    return records(**changed)[0].values


def attempt(**changed: Any) -> dict[str, Any]:
    return records(**changed)[1].values


def stored(text: str) -> Any:
    """As `values` has it, whichever the database."""
    from jobs.transfer import bulk

    return bulk.ready(datetime.fromisoformat(text))


def test_a_job_that_waits_is_pending_and_has_not_run() -> None:
    [found] = records()
    assert found.kind == "job"
    values = found.values
    assert (values["state"], values["runs"], values["attempts"]) == ("pending", 0, 0)
    assert values["due_at"] == values["created_at"] == stored(JOB["created_at"])
    assert values["enqueued_by"] == "ann"


def test_a_processing_job_is_pending_again() -> None:
    values = job(state="processing", started_at="2026-11-24T02:10:11Z")
    assert (values["state"], values["started_at"], values["runs"]) == ("pending", None, 0)


@pytest.mark.parametrize(
    ("run_at", "state"),
    [("2030-05-17T12:00:01Z", "scheduled"), ("2030-05-17T12:00:00Z", "pending")],
)
def test_a_pending_job_with_a_future_run_at_is_scheduled(run_at: str, state: str) -> None:
    values = job(run_at=run_at)
    assert (values["state"], values["due_at"]) == (state, stored(run_at))


def test_a_failed_job_is_due_at_its_next_retry() -> None:
    retry_at = "2026-11-24T02:10:13Z"
    assert job(state="failed", attempts=1, next_retry_at=retry_at)["due_at"] == stored(retry_at)


def test_a_failed_job_that_lost_its_next_retry_is_due() -> None:
    assert job(state="failed", attempts=1)["due_at"] == stored(JOB["updated_at"])


def test_a_dead_job_ended_when_it_was_last_changed() -> None:
    values = job(**DEAD)
    assert values["finished_at"] == stored(JOB["updated_at"])
    assert (values["runs"], values["attempts"]) == (2, 2)


def test_a_completed_job_that_lost_its_start_began_its_run_time_before_its_end() -> None:
    values = job(**COMPLETED)
    assert values["finished_at"] == stored("2026-11-24T02:10:11.5Z")
    assert values["started_at"] == stored("2026-11-24T02:10:11.25Z")
    assert job(**COMPLETED | {"started_at": JOB["created_at"]})["started_at"] == stored(
        JOB["created_at"]
    )


def test_output_times_and_error_become_the_last_attempt() -> None:
    _, run, output = records(**DEAD)
    assert (run.values["number"], run.values["outcome"]) == (2, "failed")
    assert run.values["error"] == "Command failed with exit code 3"
    assert run.values["finished_at"] == stored(JOB["updated_at"])
    assert (output.values["stream"], output.values["data"]) == (Stream.STDOUT, b"out")
    assert run.values["stdout_bytes"] == 3


@pytest.mark.parametrize(
    ("changed", "number", "outcome"),
    [
        (COMPLETED, 1, "succeeded"),
        (COMPLETED | {"attempts": 2}, 2, "succeeded"),
        (DEAD, 2, "failed"),
        ({"state": "failed", "attempts": 1}, 1, "failed"),
        (RAN, 1, "failed"),
        (DEAD | {"error_message": "Job timed out after 3 seconds"}, 2, "timed_out"),
        (
            DEAD
            | {
                "error_message": "Max retries (2) exceeded. Last error: Job timed out after 3 seconds"
            },
            2,
            "timed_out",
        ),
    ],
)
def test_an_attempt_has_the_number_of_failed_runs(
    changed: dict[str, Any], number: int, outcome: str
) -> None:
    values = attempt(**changed)
    assert (values["number"], values["outcome"]) == (number, outcome)
    assert job(**changed)["runs"] == number


def test_output_is_kept_as_bytes() -> None:
    texts = {"stdout": "é\0\n", "stderr": "x" * 3_000_000}
    outputs = [r.values["data"] for r in records(**COMPLETED | texts) if r.kind == "output"]
    assert outputs == ["é\0\n".encode(), b"x" * 3_000_000]


@pytest.mark.parametrize("key", ["-rf", " a ", "a b", "e\u0301", "<script>", "x" * 128, "名前"])
def test_any_printable_id_is_accepted(key: str) -> None:
    assert job(id=key)["key"] == key


@pytest.mark.parametrize("priority", [-5000, 5000, 2**31 - 1, -(2**31)])
def test_a_priority_is_kept_whatever_a_new_job_may_have(priority: int) -> None:
    assert job(priority=priority)["priority"] == priority


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", ""), ("id", "a\nb"), ("id", "x" * 129), ("id", "\u202e"), ("id", "\ud800"),
        ("command", ""), ("command", "a\0b"), ("command", None), ("command", ["ls"]),
        ("command", "x" * 131_072), ("command", "\ud800"),
        ("state", "running"), ("state", None), ("state", "scheduled"), ("state", ["dead"]),
        ("attempts", -1), ("attempts", True), ("attempts", "1"), ("attempts", 2**31),
        ("max_retries", -1), ("max_retries", 1.0), ("max_retries", None),
        ("priority", 2**31), ("priority", "5"), ("priority", None), ("priority", False),
        ("created_at", None), ("created_at", ""), ("created_at", "2026-11-24"), ("created_at", 0),
        ("created_at", "2026-11-24T02:10:10"), ("created_at", "2026-11-24T02:10:10+01:00"),
        ("updated_at", "2026-02-30T00:00:00Z"), ("run_at", "tomorrow"), ("run_at", "24:61Z"),
        ("next_retry_at", 12), ("error_message", 12), ("stdout", ["x"]), ("stdout", "\ud800"),
        ("stderr", 1), ("execution_time", -1), ("execution_time", "1"), ("execution_time", 10**12),
        ("started_at", "x"), ("completed_at", "x"),
    ],
    ids=lambda value: ascii(value)[:20],
)  # fmt: skip
def test_a_field_that_is_wrong_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidField) as caught:
        records(**{name: value})
    assert caught.value.field == name


def test_a_run_longer_than_time_is_refused() -> None:
    with pytest.raises(InvalidField, match="execution_time"):
        records(**COMPLETED | {"completed_at": "0001-01-02T00:00:00Z", "execution_time": 90_000.0})


@pytest.mark.parametrize("name", JOB)
def test_every_one_of_the_sixteen_keys_is_needed(name: str) -> None:
    given = {key: value for key, value in JOB.items() if key != name}
    with pytest.raises(InvalidField, match=f"'{name}' is missing"):
        original.records(("job1", given), NOW, "ann")


@pytest.mark.parametrize("name", ["lease", "worker", "enqueued_by", "queue", "__class__"])
def test_another_key_is_refused(name: str) -> None:
    with pytest.raises(InvalidField, match="Unknown field"):
        records(**{name: "x"})


@pytest.mark.parametrize("given", [None, 1, "job1", [], True])
def test_a_job_is_an_object(given: object) -> None:
    with pytest.raises(InvalidField, match="must be a JSON object"):
        original.records(("job1", given), NOW, "ann")


def test_a_job_under_another_id_is_refused() -> None:
    with pytest.raises(InvalidField, match="id"):
        original.records(("job2", JOB), NOW, "ann")


def test_an_error_keeps_only_what_a_database_can_hold() -> None:
    assert job(error_message="a\0b\ud800")["last_error"] == "a\ufffdb?"


def test_the_line_that_enqueued_it_there_has_the_same_content_here() -> None:
    given = {"id": "job1", "command": "echo hello"}
    assert job()["request_digest"] == job_request(given, NOW).digest
    assert job(priority=7)["request_digest"] == job_request(given | {"priority": 7}, NOW).digest
    assert job(command="true")["request_digest"] != job_request(given, NOW).digest


# Back


def made(changed: dict[str, Any]) -> tuple[Job, Attempt | None, list[tuple[int, int, bytes]]]:
    """The rows that an import would store, without a database."""
    aware = {"created_at", "updated_at", "started_at", "finished_at", "due_at", "run_at"}

    def plain(values: dict[str, Any]) -> dict[str, Any]:
        return {
            name: datetime.fromisoformat(value).replace(tzinfo=UTC)
            if name in aware and value
            else value
            for name, value in values.items()
        }

    kinds: dict[str, list[dict[str, Any]]] = {"job": [], "attempt": [], "output": []}
    for found in records(**changed):
        kinds[found.kind].append(plain(found.values))
    last = Attempt(**kinds["attempt"][0]) if kinds["attempt"] else None
    output = [(v["stream"], v["offset"], v["data"]) for v in kinds["output"]]
    return Job(**kinds["job"][0]), last, output


def written(job: Job, last: Attempt | None, *output: tuple[int, int, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads("{" + original.job_object(job, last, output) + "}")[job.key]
    return found


@pytest.mark.parametrize("key", json.loads((SEED / "jobs.json").read_text()))
def test_a_job_of_the_original_comes_back(key: str) -> None:
    given = json.loads((SEED / "jobs.json").read_text())[key]
    job, last, output = made(given)
    found = written(job, last, *output)
    expected = dict(given)
    if given["state"] == "processing":
        expected |= {"state": "pending", "started_at": None}
    if given["state"] == "completed":
        assert expected["started_at"] is None
        expected["started_at"] = found["started_at"]
    if given["execution_time"] is not None:
        expected["execution_time"] = round(given["execution_time"], 6)
    assert found == expected
    assert list(found) == list(given)


def new_job(**fields: Any) -> Job:
    times = {"created_at": NOW, "updated_at": NOW, "due_at": NOW}
    return Job(**({"key": "job1", "command": "true"} | times | fields))


def new_attempt(**fields: Any) -> Attempt:
    return Attempt(
        **({"number": 1, "outcome": "failed", "finished_at": NOW, "exit_code": 3} | fields)
    )


@pytest.mark.parametrize(
    ("state", "word"),
    [(s, s) for s in original.STATES]
    + [
        (JobState.SCHEDULED, "pending"),
        (JobState.BLOCKED, "pending"),
        (JobState.CANCELLED, "dead"),
    ],
)
def test_every_state_has_a_word_of_the_original(state: JobState, word: str) -> None:
    assert written(new_job(state=state), None)["state"] == word


def test_a_job_with_arguments_is_written_as_a_quoted_command() -> None:
    job = new_job(command=None, argv=["echo", "a b", "$HOME"])
    assert written(job, None)["command"] == "echo 'a b' '$HOME'"


def test_attempts_never_exceed_the_retries() -> None:
    assert written(new_job(attempts=4, max_retries=3), None)["attempts"] == 3


def test_a_delay_without_a_run_at_waits_there_too() -> None:
    later = NOW + timedelta(hours=1)
    job = new_job(state="scheduled", due_at=later)
    assert written(job, None)["run_at"] == "2030-05-17T13:00:00Z"


@pytest.mark.parametrize(
    ("state", "attempts", "stdout", "stderr", "message"),
    [
        ("failed", 1, b"out\n", b" err \n", "err"),
        ("failed", 1, b"out\n", b" \n", "out"),
        ("failed", 1, b"", b"", "Command failed with exit code 3"),
        ("dead", 4, b"", b"err", "Max retries (3) exceeded. Last error: err"),
        ("dead", 2, b"", b"err", "err"),
        ("failed", 1, b"", b"a\0b", "a\ufffdb"),
    ],
)
def test_an_error_is_told_in_the_words_of_the_original(
    state: str, attempts: int, stdout: bytes, stderr: bytes, message: str
) -> None:
    job = new_job(state=state, attempts=attempts, last_error="err (exit code 3)")
    output = [(Stream.STDOUT, 0, stdout), (Stream.STDERR, 0, stderr)]
    assert written(job, new_attempt(), *output)["error_message"] == message


def test_a_timeout_is_told_as_it_is() -> None:
    error = "Job timed out after 300 seconds"
    job = new_job(state="failed", attempts=1, last_error=error)
    last = new_attempt(outcome="timed_out", exit_code=None, signal=9)
    assert written(job, last, (Stream.STDERR, 0, b"x"))["error_message"] == error


def test_a_cancelled_job_has_its_reason() -> None:
    assert written(new_job(state="cancelled"), None)["error_message"] == "Cancelled on request"


def test_output_that_was_cut_says_where() -> None:
    output = [(Stream.STDOUT, 0, b"head\xc3"), (Stream.STDOUT, 100, b"tail")]
    text = written(new_job(), new_attempt(), *output)["stdout"]
    assert text == "head\ufffd\n[… 95 bytes left out …]\ntail"
    whole = [(Stream.STDOUT, 0, b"\xc3"), (Stream.STDOUT, 1, b"\xa9")]
    assert written(new_job(), new_attempt(), *whole)["stdout"] == "é"


def test_a_config_is_written_as_the_original_writes_it() -> None:
    stored = {"max-retries": 5, "prune-dead-after": 60}
    assert original.config_object(stored) == (SEED / "config.json").read_text()
