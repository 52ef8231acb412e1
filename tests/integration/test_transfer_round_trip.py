"""Whatever the queue holds goes out and comes back equal, in either format."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import transfer
from jobs.models import Attempt, Job, Output, Queue, Setting
from jobs.operations import Actor
from jobs.outcome import Kind
from jobs.states import FINAL, JobState
from tests.integration.builders import NOW, make_worker

pytestmark = pytest.mark.django_db

ANN = Actor("ann", "cli")
PAST = st.datetimes(datetime(2001, 1, 1), datetime(2025, 1, 1), timezones=st.just(UTC))
FUTURE = st.datetimes(datetime(2035, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))
COUNT = st.integers(0, 5)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
KEY = st.text(
    st.characters(categories=["L", "N", "P", "S"], codec="utf-8"), min_size=1, max_size=12
).filter(str.isprintable)
ARGUMENT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
CHUNKS = st.lists(st.binary(min_size=1, max_size=30), max_size=2)


@st.composite
def runs(draw: st.DrawFn, number: int) -> dict[str, Any]:
    started, finished = sorted([draw(PAST), draw(PAST)])
    return {
        "number": number,
        "outcome": draw(st.sampled_from(Kind)),
        "started_at": draw(st.none() | st.just(started)),
        "finished_at": finished,
        "exit_code": draw(st.none() | st.integers(0, 255)),
        "signal": draw(st.none() | st.integers(1, 64)),
        "cpu_seconds": draw(st.none() | st.floats(0, 1e6)),
        "peak_memory_bytes": draw(st.none() | st.integers(0, 2**62)),
        "error": draw(TEXT),
        "traceback": draw(TEXT),
        "printed": {1: draw(CHUNKS), 2: draw(CHUNKS)},
    }


@st.composite
def rows(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A job in any state that its history may have led to, and its attempts."""
    state = draw(st.sampled_from(JobState))
    number = draw(st.integers(0, 3))
    asked = draw(
        st.fixed_dictionaries({"command": ARGUMENT.filter(str.strip)})
        | st.fixed_dictionaries(
            {"argv": st.lists(ARGUMENT, min_size=1, max_size=3).filter(lambda a: a[0])}
        )
    )
    fields = {
        **asked,
        "queue": draw(st.sampled_from(["default", "mail", "a.b-c_D"])),
        "state": state,
        "priority": draw(st.integers(-(2**31), 2**31 - 1) | st.just(5)),
        "run_at": draw(st.none() | (FUTURE if state == JobState.SCHEDULED else PAST)),
        "due_at": draw(FUTURE if state == JobState.SCHEDULED else PAST),
        "attempts": draw(st.integers(0, number)),
        "max_retries": draw(COUNT),
        "runs": number,
        "losses": draw(COUNT),
        "interruptions": draw(COUNT),
        "prefetchable": draw(st.booleans()),
        "timeout": draw(st.none() | st.floats(0.001, 2_592_000)),
        "backoff_base": draw(st.none() | st.floats(1, 100)),
        "exit_codes": draw(JSON),
        "concurrency_key": draw(st.none() | KEY),
        "cwd": draw(st.just("") | ARGUMENT.map(lambda text: f"/{text}")),
        "env": draw(st.dictionaries(st.sampled_from(["A", "B", "PATH"]), ARGUMENT)),
        "created_at": draw(PAST),
        "updated_at": draw(PAST),
        "started_at": draw(st.none() | PAST) if number else None,
        "finished_at": draw(PAST) if state in FINAL else None,
        "cancel_requested_at": draw(st.none() | PAST),
        "result": draw(JSON),
        "last_error": "" if state == JobState.COMPLETED else draw(TEXT),
        "fingerprint": draw(st.sampled_from(["", "f" * 64])),
        "request_digest": draw(st.sampled_from(["", "d" * 64])),
        "enqueued_by": ANN.name,
    }
    if state == JobState.COMPLETED and number == 0:
        fields |= {"runs": 1}
        number = 1
    return fields, [draw(runs(n + 1)) for n in range(number)]


QUEUES = st.dictionaries(st.sampled_from(["default", "mail", "x"]), st.none() | TEXT)
SETTINGS = st.dictionaries(st.just("max-retries"), st.integers(0, 100)) | st.dictionaries(
    st.just("backoff-base"), st.floats(1, 100)
)
WORLD = {
    "jobs": st.dictionaries(KEY, rows(), max_size=4),
    "queues": QUEUES,
    "values": SETTINGS,
}
IN_ONE_TEST = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def empty() -> None:
    for model in (Output, Attempt, Job, Queue, Setting):
        model.objects.all().delete()


def fill(jobs: dict[str, Any], queues: dict[str, Any], values: dict[str, Any]) -> None:
    empty()
    worker = make_worker()
    for key, (fields, attempts) in jobs.items():
        held = {"worker": worker, "lease": "0" * 32} if fields["state"] == "processing" else {}
        job = Job.objects.create(key=key, **fields, **held)
        for attempt in attempts:
            add_attempt(job, dict(attempt))
    for name, reason in queues.items():
        paused = {"paused_at": NOW, "paused_by": ANN.name, "paused_reason": reason}
        Queue.objects.create(name=name, created_at=NOW, **(paused if reason is not None else {}))
    Queue.objects.ensure({fields["queue"] for fields, _ in jobs.values()}, NOW)
    for key, value in values.items():
        Setting.objects.create(key=key, value=value, updated_at=NOW)


def add_attempt(job: Job, fields: dict[str, Any]) -> None:
    printed = fields.pop("printed")
    sizes = {"stdout_bytes": sum(map(len, printed[1])), "stderr_bytes": sum(map(len, printed[2]))}
    Attempt.objects.create(job=job, **fields, **sizes)
    for stream, chunks in printed.items():
        at = 0
        for sequence, data in enumerate(chunks):
            Output.objects.create(
                job=job,
                attempt=fields["number"],
                stream=stream,
                sequence=sequence,
                offset=at,
                data=data,
            )
            at += len(data)


def exported(format: str) -> str:
    transfer.export(stream := io.BytesIO(), format, ANN)
    return stream.getvalue().decode()


def lines(file: str) -> list[Any]:
    """Not splitlines(), to which U+0085 ends a line; without the header and its time."""
    return [json.loads(line) for line in file.split("\n")[1:-1]]


@IN_ONE_TEST
@given(**WORLD)
def test_our_format_comes_back_equal(**world: Any) -> None:
    fill(**world)
    file = exported("queuectl")
    first = lines(file)
    empty()
    result = transfer.import_file(io.BytesIO(file.encode()), ANN)
    assert (result.jobs, result.skipped) == (len(world["jobs"]), 0)
    for line in first:
        if line.get("job", {}).get("state") == "processing":
            line["job"] |= {"state": "pending", "started_at": None}
        if line.get("job", {}).get("state") == "blocked":
            line["job"]["state"] = "scheduled"
    assert lines(exported("queuectl")) == first
    assert transfer.import_file(io.BytesIO(file.encode()), ANN).already == len(world["jobs"]) + len(
        world["values"]
    )


@IN_ONE_TEST
@given(**WORLD)
def test_the_originals_format_comes_back_equal(**world: Any) -> None:
    fill(**world)
    file = exported("original")
    first = json.loads(file)
    again = transfer.import_file(io.BytesIO(file.encode()), ANN)
    assert (again.jobs, again.already) == (0, len(first))
    empty()
    result = transfer.import_file(io.BytesIO(file.encode()), ANN)
    assert (result.jobs, result.skipped) == (len(world["jobs"]), 0)
    for job in first.values():
        if job["state"] == "processing":
            job |= {"state": "pending", "started_at": None}
    second = json.loads(exported("original"))
    for key, job in first.items():
        if job["state"] == "completed" and job["started_at"] is None:
            # The one time that an import finds out.
            assert (second[key]["started_at"] is None) == (job["execution_time"] is None)
            second[key]["started_at"] = None
    assert second == first
    assert list(second) == list(first)
    third = transfer.import_file(io.BytesIO(file.encode()), ANN)
    assert (third.jobs, third.already) == (0, len(first))


def test_an_export_has_nothing_in_it_that_a_terminal_obeys() -> None:
    said = "a\x9b31m\x7f\u202eb\u2028"
    done = {"state": JobState.COMPLETED, "finished_at": NOW, "due_at": NOW, "created_at": NOW}
    Job.objects.create(key="j", command=said, updated_at=NOW, **done)
    file = io.BytesIO()
    transfer.export(file, "queuectl", ANN)
    text = file.getvalue().decode()
    assert text.replace("\n", "").isprintable()
    Job.objects.all().delete()
    transfer.import_file(io.BytesIO(file.getvalue()), ANN)
    assert Job.objects.get().command == said
