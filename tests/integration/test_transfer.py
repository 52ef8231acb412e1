"""Import is all or nothing, repeatable, and asks who may; export and import are each other's mirror."""

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test import override_settings

from jobs import conf, dialect, ledger, operations, transfer
from jobs.exceptions import (
    DuplicateId,
    DuplicateKey,
    InvalidField,
    InvalidText,
    NotPermitted,
    QueueCTLError,
)
from jobs.models import Attempt, Event, Job, Output, Queue, Setting
from jobs.operations import Actor
from jobs.states import JobState
from jobs.transfer import Imported, bulk, imported
from tests.integration.builders import NOW, claim_one, make_job, make_queues, make_worker, report

pytestmark = pytest.mark.django_db

ANN = Actor("ann", "cli")
DATA = Path(__file__).parents[1] / "data" / "original"
ORIGINAL = json.loads((DATA / "jobs.json").read_text())
JOB = ORIGINAL["later"]


def import_jobs(jobs: dict[str, Any], actor: Actor = ANN, **options: Any) -> Imported:
    return import_text(json.dumps(jobs), actor, **options)


def import_text(text: str | bytes, actor: Actor = ANN, **options: Any) -> Imported:
    data = text if isinstance(text, bytes) else text.encode()
    return transfer.import_file(io.BytesIO(data), actor, **options)


def exported(format: str = "queuectl") -> str:
    stream = io.BytesIO()
    transfer.export(stream, format, ANN)
    return stream.getvalue().decode()


def body(text: str) -> list[Any]:
    """The lines after the header, which has the time of the export."""
    return [json.loads(line) for line in text.split("\n")[1:-1]]


def named(*keys: str, **fields: Any) -> dict[str, Any]:
    return {key: JOB | {"id": key} | fields for key in keys}


def native(*lines: dict[str, Any], jobs: int | None = None) -> str:
    number = sum("job" in line for line in lines) if jobs is None else jobs
    header = {"format": "queuectl", "version": 1}
    return "\n".join(json.dumps(line) for line in (header, *lines, {"end": {"jobs": number}}))


def native_job(**fields: Any) -> dict[str, Any]:
    make_job(key="sample")
    line = next(line for line in body(exported()) if "job" in line)
    empty()
    return {"job": line["job"] | fields}


def empty() -> None:
    for model in (Output, Attempt, Job, Queue, Setting, Event):
        model.objects.all()._raw_delete(model.objects.db)


def stored() -> list[int]:
    return [model.objects.count() for model in (Job, Attempt, Output, Queue, Setting, Event)]


NOTHING = [0] * 6


# The original


def test_the_originals_jobs_become_jobs() -> None:
    result = transfer.import_file(DATA / "jobs.json", ANN)
    assert (result.jobs, result.attempts, result.already, result.skipped) == (11, 8, 0, 0)
    assert list(Job.objects.order_by("id").values_list("key", flat=True)) == list(ORIGINAL)
    states = dict(Job.objects.values_list("key", "state"))
    assert states["slow"] == "pending"
    assert states["scheduled"] == "scheduled"
    assert states["retrying"] == "failed"
    assert Job.objects.filter(enqueued_by="ann").count() == 11
    assert Queue.objects.get().name == "default"
    job = Job.objects.get(key="missing")
    [attempt] = Attempt.objects.filter(job=job)
    assert (attempt.number, attempt.outcome, job.runs) == (1, "failed", 1)
    [output] = Output.objects.filter(job=job)
    assert bytes(output.data) == ORIGINAL["missing"]["stderr"].encode()


def test_the_originals_settings_become_settings() -> None:
    result = transfer.import_file(DATA / "config.json", ANN)
    assert (result.settings, result.jobs) == (4, 0)
    assert Setting.objects.stored() == {
        "max-retries": 5, "backoff-base": 2.0, "worker-poll-interval": 1.0, "job-timeout": 300,
    }  # fmt: skip
    assert transfer.import_file(DATA / "config.json", ANN).already == 4
    assert Event.objects.count() == 1
    stream = io.BytesIO()
    transfer.export_config(stream, ANN)
    assert stream.getvalue() == (DATA / "config.json").read_bytes()


def test_its_format_out_is_its_format_in() -> None:
    transfer.import_file(DATA / "jobs.json", ANN)
    first = exported("original")
    empty()
    import_text(first)
    assert exported("original") == first
    # Where it must be: a start was left out, times are microseconds, and what ran does no more.
    given, found = (DATA / "jobs.json").read_text().splitlines(), first.splitlines()
    assert len(given) == len(found)
    changed = {a.split(":")[0].strip() for a, b in zip(given, found, strict=True) if a != b}
    assert changed == {'"execution_time"', '"started_at"', '"state"'}


@pytest.mark.parametrize("format", transfer.FORMATS)
def test_an_empty_queue_goes_out_and_in(format: str) -> None:
    assert import_text(exported(format)).changed is False
    assert stored() == NOTHING
    assert exported("original") == "{}"


def test_a_worker_takes_imported_jobs_and_numbers_go_on() -> None:
    import_jobs(named("a", attempts=2, stdout="x"))
    worker = make_worker()
    work = claim_one(worker)
    assert (work.key, work.number, work.attempts) == ("a", 3, 2)
    assert report(worker, work) == {work.lease}


def test_later_jobs_get_ids_of_their_own() -> None:
    import_jobs(named("a", "b"))
    operations.enqueue({"id": "c", "command": "true"}, ANN)
    import_jobs(named("d"))
    assert list(Job.objects.order_by("id").values_list("key", flat=True)) == list("abcd")


# Again


@pytest.mark.parametrize("format", transfer.FORMATS)
def test_repeating_an_import_adds_nothing(format: str) -> None:
    transfer.import_file(DATA / "jobs.json", ANN)
    file, before = exported(format), stored()
    for _ in range(2):
        result = import_text(file)
        assert (result.jobs, result.already) == (0, 11)
    assert transfer.import_file(DATA / "jobs.json", ANN).already == 11
    assert stored() == before


def test_jobs_that_have_gone_on_since_are_still_there() -> None:
    import_jobs(named("a", "b"))
    worker = make_worker()
    report(worker, claim_one(worker))
    operations.set_priority(Job.objects.get(key="b"), 9, ANN)
    assert import_jobs(named("a", "b", "c")).already == 2
    assert Job.objects.get(key="a").state == JobState.COMPLETED


def test_jobs_enqueued_here_are_there_when_their_export_comes_back() -> None:
    operations.enqueue_many(
        [
            {"id": "a", "command": "true", "delay": 60},
            {"id": "b", "argv": ["echo", "a b"], "priority": 3, "run_at": "2031-01-01T00:00:00Z"},
        ],
        ANN,
    )
    assert import_text(exported("original")).already == 2
    assert import_text(exported("queuectl")).already == 2


@pytest.mark.parametrize(
    "other",
    [
        {"command": "false"},
        {"max_retries": 9},
        {"priority": 9},
        {"run_at": "2031-01-01T00:00:00Z"},
        {"created_at": "2020-01-01T00:00:00Z"},
    ],
)
def test_other_content_under_the_same_id_is_refused(other: dict[str, Any]) -> None:
    import_jobs(named("a"))
    before = stored()
    with pytest.raises(DuplicateId, match=r'job "a" .line 1.: Job with id .a. already exists'):
        import_jobs(named("b") | named("a", **other))
    assert stored() == before
    result = import_jobs(named("b") | named("a", **other), keep_going=True)
    assert (result.jobs, result.skipped, result.skips[0].place) == (1, 1, 'job "a" (line 1)')
    assert Job.objects.get(key="a").command == "true"


def test_an_imported_job_is_known_to_enqueue() -> None:
    import_jobs(named("a"))
    assert operations.enqueue({"id": "a", "command": "true"}, ANN).created is False
    with pytest.raises(DuplicateId):
        operations.enqueue({"id": "a", "command": "false"}, ANN)


def test_an_id_taken_meanwhile_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    at_hand, calls = bulk.at_hand, []

    def late(spool: Any) -> Any:
        if not calls:
            make_job(key="a", command="another")
        calls.append(spool)
        return at_hand(spool)

    monkeypatch.setattr(bulk, "at_hand", late)
    with pytest.raises(DuplicateId):
        import_jobs(named("a", "b"))
    assert Job.objects.count() == 1


# What is wrong


def test_one_wrong_job_among_many_stores_nothing() -> None:
    jobs = named(*(f"j{i}" for i in range(1200)))
    jobs["j1100"]["priority"] = "high"
    with pytest.raises(InvalidField, match=r'job "j1100" .line 1.: Invalid priority: "high"'):
        import_jobs(jobs)
    assert stored() == NOTHING
    result = import_jobs(jobs, keep_going=True)
    assert (result.jobs, result.skipped) == (1199, 1)
    assert "whole number" in result.skips[0].reason


def test_an_id_that_comes_twice_is_refused() -> None:
    one, other = json.dumps(JOB), json.dumps(JOB | {"command": "false"})
    text = f'{{"later": {one},\n"later": {other}}}'
    with pytest.raises(DuplicateId) as caught:
        import_text(text)
    assert "line 2" in str(caught.value)
    assert caught.value.hint == 'it is in the file twice, first at job "later" (line 1)'
    assert stored() == NOTHING
    assert import_text(text, keep_going=True).jobs == 1
    assert Job.objects.get().command == "true"


def test_what_can_be_read_but_not_accepted_is_skipped() -> None:
    text = f'{{"a": {{"x": NaN}}, "b": {{"y": 1, "y": 2}}, "later": {json.dumps(JOB)}, "c": 12}}'
    with pytest.raises(InvalidText, match=r'job "a"'):
        import_text(text)
    result = import_text(text, keep_going=True)
    assert (result.jobs, result.skipped) == (1, 3)
    assert [skip.place for skip in result.skips] == [f'job "{k}" (line 1)' for k in "abc"]


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_torn_file_stores_nothing(keep_going: bool) -> None:
    text = (DATA / "jobs.json").read_text()
    for end in range(2, len(text) - 1, 97):
        with pytest.raises(InvalidText, match="torn"):
            import_text(text[:end], keep_going=keep_going)
    assert stored() == NOTHING


def test_many_refusals_are_counted_and_the_first_told() -> None:
    result = import_jobs(named(*(f"j{i}" for i in range(500)), priority="x"), keep_going=True)
    assert (result.jobs, result.skipped) == (0, 500)
    assert len(result.skips) == imported.REMEMBERED


@pytest.mark.parametrize(
    "text",
    ['{"max_retries": "5"}', '{"max_retries": true}', '{"max_retries": 1.5}', '{"job_timeout": 0}',
     '{"backoff_base": NaN}', '{"max_retries": 3, "max_retries": 4}', '{"max_retries": 3, "x": 1}',
     '{"max_retries": 3', '{"max_retries": 3} 4', '{"prune_dead_after": 1}', '{"a": 1}',
     '{"backoff_base": [[[[2]]]]}', '{"backoff_base": ' + "[" * 100_000],
)  # fmt: skip
def test_a_config_that_is_wrong_sets_nothing(text: str) -> None:
    with pytest.raises(QueueCTLError):
        import_text(text)
    assert stored() == NOTHING


def test_a_dry_run_says_what_would_happen_and_stores_nothing() -> None:
    result = transfer.import_file(DATA / "jobs.json", ANN, dry_run=True)
    assert (result.jobs, result.attempts) == (11, 8)
    assert transfer.import_file(DATA / "config.json", ANN, dry_run=True).settings == 4
    with pytest.raises(InvalidField):
        import_jobs(named("a", state="x"), dry_run=True)
    assert stored() == NOTHING


# Ours


def test_everything_of_a_job_goes_out_and_in() -> None:
    make_queues("default")
    Queue.objects.create(
        name="mail", created_at=NOW, note="n", paused_at=NOW, paused_by="ann", paused_reason="why"
    )
    Setting.objects.create(key="max-retries", value=7, updated_at=NOW)
    worker = make_worker()
    made = make_job(
        argv=["echo", "é"], queue="default", priority=-7, max_retries=2, attempts=1, runs=3, losses=1,
        timeout=1.5, backoff_base=3.0, cwd="/tmp", env={"B": "2", "A": "é"}, unique_key="k",
        exit_codes={"75": "snooze"}, enqueued_by="ann", request_digest="d" * 64, prefetchable=False,
        last_error="bad\nthings", run_at=NOW, started_at=NOW,
    )  # fmt: skip
    Attempt.objects.create(
        job=made, number=1, outcome="lost", finished_at=NOW, worker=worker, error="gone",
        exit_code=3, signal=9, cpu_seconds=0.5, peak_memory_bytes=2**40, stdout_bytes=2**40,
    )  # fmt: skip
    Attempt.objects.create(job=made, number=3, outcome="failed", started_at=NOW, finished_at=NOW)
    for stream, sequence, offset, data in (
        (1, 0, 0, b"\0\xff" * 300_000), (1, 1, 2**40, b"tail"), (2, 0, 0, b"err"),
    ):  # fmt: skip
        Output.objects.create(
            job=made, attempt=1, stream=stream, sequence=sequence, offset=offset, data=data
        )
    make_job(state="cancelled", cancel_requested_at=NOW, result={"a": [1, None]}, enqueued_by="ann")
    first = exported()
    empty()
    result = import_text(first)
    assert (result.jobs, result.attempts, result.queues, result.settings) == (2, 2, 2, 1)
    assert body(exported()) == body(first)
    assert Attempt.objects.get(number=1).worker is None
    pieces = [bytes(o.data) for o in Output.objects.filter(stream=1).order_by("sequence")]
    assert b"".join(pieces) == b"\0\xff" * 300_000 + b"tail"


def test_what_waits_for_something_else_waits_no_more() -> None:
    """Nothing that would free it comes along; it is claimable once it is due."""
    file = native(native_job(state="blocked"))
    assert import_text(file).jobs == 1
    assert Job.objects.get().state == JobState.SCHEDULED
    due = Job.objects.get().due_at
    assert (ledger.promote(due - timedelta(seconds=1)), ledger.promote(due)) == (0, 1)
    assert import_text(file).already == 1


def test_leases_and_workers_are_not_imported() -> None:
    make_queues("default")
    make_job(key="a")
    claim_one(make_worker())
    assert Job.objects.get().state == JobState.PROCESSING
    first = exported()
    empty()
    import_text(first)
    job = Job.objects.get()
    assert (job.state, job.lease, job.worker, job.started_at) == ("pending", None, None, None)


def test_the_importer_is_the_actor() -> None:
    line = native_job(enqueued_by="root")
    queue = {"name": "mail", "note": "", "created_at": "2030-01-01T00:00:00Z", "paused_reason": "",
             "paused_at": "2030-01-01T00:00:00Z", "paused_by": "root", "paused_until": None}  # fmt: skip
    import_text(native({"queue": queue}, line))
    assert Job.objects.get().enqueued_by == "ann"
    assert Queue.objects.get(name="mail").paused_by == "ann"


def test_a_queue_that_is_here_stays_as_it_is() -> None:
    make_queues("default")
    operations.pause("default", ANN, reason="mine")
    file = exported()
    operations.resume("default", ANN)
    import_text(file)
    assert Queue.objects.get().paused_at is None


BAD_LINES = {
    "no JSON": "{",
    "no object": "[]",
    "no kind": {},
    "two kinds": {"job": {}, "end": {}},
    "unknown kind": {"event": {}},
    "not UTF-8": b"\xff",
    "empty job": {"job": {}},
    "job of null": {"job": None},
    "nesting bomb": '{"job": ' + "[" * 100_000,
    "deep args": {"job": {"args": [[[[[[]]]]]]}},
    "an attempt of nobody": {"attempt": {}},
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_refused_by_number(name: str) -> None:
    good, bad = native_job(), BAD_LINES[name]
    raw = (
        bad
        if isinstance(bad, bytes)
        else (bad if isinstance(bad, str) else json.dumps(bad)).encode()
    )
    header, job, end = native(good).encode().split(b"\n")
    with pytest.raises(QueueCTLError, match=r"^line 3: "):
        import_text(b"\n".join([header, job, raw, end]))
    assert stored() == NOTHING
    result = import_text(b"\n".join([header, job, raw, end]), keep_going=True)
    assert (result.jobs, result.skipped, result.skips[0].place) == (1, 1, "line 3")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"id": ""}, "Invalid id"),
        ({"queue": "a b"}, "Invalid queue"),
        ({"command": None}, "one of"),
        ({"argv": ["ls"]}, "one of"),
        ({"state": "running"}, "Invalid state"),
        ({"state": "dead"}, "finished_at"),
        ({"finished_at": "2030-01-01T00:00:00Z"}, "finished_at"),
        ({"priority": 2**31}, "Invalid priority"),
        ({"prefetchable": 1}, "Invalid prefetchable"),
        ({"env": {"A=B": ""}}, "Invalid env"),
        ({"env": None}, "Invalid env"),
        ({"cwd": "here"}, "Invalid cwd"),
        ({"timeout": -1}, "Invalid timeout"),
        ({"due_at": None}, "Invalid due_at"),
        ({"args": ["\0"]}, "Invalid args"),
        ({"args": "\ud800"}, "Invalid args"),
        ({"args": {"args": ["x" * 1_048_576]}}, "Invalid args: 1,048,5.. bytes of JSON"),
        ({"unique_key": "a\0"}, "Invalid unique_key"),
        ({"request_digest": "x" * 65}, "Invalid request_digest"),
        ({"lease": "x"}, "Unknown field"),
        ({"worker": 1}, "Unknown field"),
    ],
    ids=str,
)
def test_a_job_of_ours_that_is_wrong_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidField, match=says):
        import_text(native(native_job(**fields)))
    assert stored() == NOTHING


ATTEMPT = {
    "job": "sample", "number": 1, "outcome": "failed", "started_at": None,
    "finished_at": "2030-01-01T00:00:00Z", "exit_code": 1, "signal": None, "cpu_seconds": None,
    "peak_memory_bytes": None, "stdout_bytes": 1, "stderr_bytes": 0, "error": "", "traceback": "",
}  # fmt: skip
OUTPUT = {
    "job": "sample", "attempt": 1, "stream": "stdout", "sequence": 0, "offset": 0, "data": "eA==",
}  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        {"attempt": ATTEMPT | {"job": "other"}},
        {"attempt": ATTEMPT | {"number": 2}},
        {"attempt": ATTEMPT | {"number": 0}},
        {"attempt": ATTEMPT | {"outcome": "dead"}},
        {"attempt": ATTEMPT | {"stdout_bytes": 2**63}},
        {"attempt": ATTEMPT},  # twice
        {"output": OUTPUT | {"attempt": 2}},
        {"output": OUTPUT | {"stream": "stdin"}},
        {"output": OUTPUT | {"data": "no"}},
        {"output": OUTPUT | {"data": "é"}},
        {"output": OUTPUT | {"data": None}},
        {"output": OUTPUT},  # twice
    ],
    ids=str,
)
def test_history_that_does_not_fit_is_refused(line: dict[str, Any]) -> None:
    job, lines = native_job(runs=1), [{"attempt": ATTEMPT}, {"output": OUTPUT}]
    assert import_text(native(job, *lines), dry_run=True).attempts == 1
    with pytest.raises(QueueCTLError, match=r"^line 5: "):
        import_text(native(job, *lines, line))
    assert stored() == NOTHING


def test_a_job_that_ran_more_often_than_any_can_is_refused() -> None:
    assert import_text(native(native_job(runs=1_000_000)), dry_run=True).jobs == 1
    with pytest.raises(QueueCTLError, match=r"^line \d: Invalid runs: 1000001") as caught:
        import_text(native(native_job(runs=1_000_001)))
    assert caught.value.hint == "runs takes a whole number from 0 to 1000000"
    assert stored() == NOTHING


def test_a_file_of_ours_without_its_end_is_torn() -> None:
    whole = native(native_job(), native_job(id="other"))
    lines = whole.splitlines()
    for some in (lines[:-1], lines[:-2], [lines[0], lines[1], lines[3]], [*lines, lines[1]]):
        with pytest.raises(InvalidText, match=r"torn|not whole|after the end"):
            import_text("\n".join(some))
    assert stored() == NOTHING
    assert import_text("\n".join(lines[:2]), keep_going=True).jobs == 1


def test_a_job_that_is_left_out_takes_its_history_with_it() -> None:
    good, bad = native_job(), native_job(id="bad", runs=1, priority="high")
    history = [{"attempt": ATTEMPT | {"job": "bad"}}, {"output": OUTPUT | {"job": "bad"}}]
    result = import_text(native(good, bad, *history), keep_going=True)
    assert (result.jobs, result.attempts, result.skipped) == (1, 0, 1)


def test_a_unique_key_is_of_one_active_job() -> None:
    one, two = native_job(id="a", unique_key="k"), native_job(id="b", unique_key="k")
    with pytest.raises(DuplicateKey, match="line 3"):
        import_text(native(one, two))
    ended = {"state": "dead", "finished_at": "2030-01-01T00:00:00Z"}
    assert import_text(native(one, {"job": two["job"] | ended})).jobs == 2
    three = {"job": two["job"] | {"id": "c"}}
    with pytest.raises(DuplicateKey, match="line 2"):
        import_text(native(three))
    assert import_text(native(three), keep_going=True).skipped == 1


# Who


@pytest.fixture
def user() -> User:
    return User.objects.create_user("bob")


def permit(user: User, *names: str) -> Actor:
    for name in names:
        # Two models have one called view_output; either gives the same right.
        found = Permission.objects.filter(codename=name, content_type__app_label="queuectl")
        user.user_permissions.add(*found)
    return Actor("bob", "web", User.objects.get(pk=user.pk))


@override_settings(QUEUECTL={"COMMAND_POLICY": "shell"})
def test_an_import_needs_both_permissions(user: User) -> None:
    for names in ((), ("import_jobs",), ("submit_command",)):
        user.user_permissions.clear()
        with pytest.raises(NotPermitted):
            import_jobs(named("a"), permit(user, *names), keep_going=True)
    assert Job.objects.count() == 0
    assert import_jobs(named("a"), permit(user, "import_jobs", "submit_command")).jobs == 1


@override_settings(QUEUECTL={"COMMAND_POLICY": "argv"})
def test_the_command_policy_holds_for_imports_too(user: User) -> None:
    actor = permit(user, "import_jobs", "submit_command")
    with pytest.raises(NotPermitted):
        import_jobs(named("a"), actor)
    assert import_text(native(native_job(command=None, argv=["true"])), actor).jobs == 1


@override_settings(QUEUECTL={"COMMAND_POLICY": "shell"})
def test_settings_pauses_and_tasks_need_their_own(user: User) -> None:
    actor = permit(user, "import_jobs", "submit_command")
    queue = {"name": "mail", "note": "", "created_at": "2030-01-01T00:00:00Z", "paused_reason": "",
             "paused_at": "2030-01-01T00:00:00Z", "paused_by": "", "paused_until": None}  # fmt: skip
    task = native_job(command=None, task="site.tasks.run", args=[1])
    for file in ('{"max_retries": 4}', native({"queue": queue}), native(task)):
        with pytest.raises(NotPermitted):
            import_text(file, actor)
        permit(user, "change_setting", "operate_queue", "submit_task")
        import_text(file, Actor("bob", "web", User.objects.get(pk=user.pk)))
        user.user_permissions.clear()
        actor = permit(user, "import_jobs", "submit_command")


def test_an_export_shows_input_and_output(user: User) -> None:
    for name in ("view_input", "view_output"):
        with pytest.raises(NotPermitted):
            transfer.export(io.BytesIO(), "original", permit(user, name, "view_setting"))
        user.user_permissions.clear()
    transfer.export(io.BytesIO(), "original", permit(user, "view_input", "view_output"))


def test_an_export_of_the_settings_shows_them(user: User) -> None:
    with pytest.raises(NotPermitted):
        transfer.export_config(stream := io.BytesIO(), permit(user, "view_input", "view_output"))
    with pytest.raises(NotPermitted):
        transfer.export(stream, "queuectl", permit(user, "view_input", "view_output"))
    assert stream.getvalue() == b""
    assert transfer.export_config(stream, permit(user, "view_setting")).settings == 4


def test_an_import_leaves_one_event() -> None:
    transfer.import_file(DATA / "jobs.json", ANN)
    event = Event.objects.get()
    assert (event.actor, event.via, event.action) == ("ann", "cli", "import")
    assert (event.subject, event.note) == ("11 jobs", "from jobs.json")
    transfer.import_file(DATA / "config.json", ANN)
    assert "max-retries default -> 5" in Event.objects.latest("id").note


# Out


def test_a_task_has_no_place_in_the_originals_file() -> None:
    make_job(task="site.tasks.run", args=[])
    make_job(key="a")
    result = transfer.export(stream := io.BytesIO(), "original", ANN)
    assert (result.jobs, result.left_out) == (1, 1)
    assert list(json.loads(stream.getvalue())) == ["a"]


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(QueueCTLError, match="Unknown format"):
        transfer.export(io.BytesIO(), "yaml", ANN)


def test_an_export_reads_pages_by_key_and_takes_no_lock(
    monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    import_jobs(named(*(f"j{i}" for i in range(25)), stdout="x"))
    monkeypatch.setattr(transfer.exporting, "PAGE", 10)
    with django_assert_max_num_queries(14):
        assert len(json.loads(exported("original"))) == 25


def test_much_output_is_read_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    import_jobs(named("a", "b", "c", stdout="x" * 50, stderr="y" * 50))
    first = exported("original")
    monkeypatch.setattr(transfer.exporting, "BYTES_AT_ONCE", 120)
    assert exported("original") == first
    monkeypatch.setattr(transfer.exporting, "BYTES_AT_ONCE", 10)
    assert exported("original") == first


# The transaction of its own: on SQLite the spool is attached


@pytest.fixture
def clean(transactional_db: None) -> Iterator[None]:
    yield
    empty()


def test_an_import_of_its_own_transaction_is_the_same(clean: None) -> None:
    make_job(key="before").delete()
    assert transfer.import_file(DATA / "jobs.json", ANN).jobs == 11
    own = exported("original")
    empty()
    with transaction.atomic():
        transfer.import_file(DATA / "jobs.json", ANN)
    assert exported("original") == own
    transfer.import_file(DATA / "jobs.json", ANN)
    result = import_jobs(named("x", stdout="x") | named("later", command="false"), keep_going=True)
    assert (result.jobs, result.skipped) == (1, 1)
    assert Output.objects.filter(job__key="x").count() == 1
    operations.enqueue({"id": "after", "command": "true"}, ANN)
    assert Job.objects.latest("id").key == "after"


def test_nothing_is_attached_afterwards(clean: None) -> None:
    import_jobs(named("a"))
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA database_list")
            assert "spool" not in [row[1] for row in cursor.fetchall()]


def test_what_goes_wrong_in_the_transaction_takes_all_of_it_back(
    clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dialect, "notify", fail)
    with pytest.raises(KeyboardInterrupt):
        transfer.import_file(DATA / "jobs.json", ANN)
    assert stored() == NOTHING
    monkeypatch.undo()
    assert transfer.import_file(DATA / "jobs.json", ANN).jobs == 11


def test_a_caller_decides_whether_it_stays(clean: None) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transfer.import_file(DATA / "jobs.json", ANN)
        raise ZeroDivisionError
    assert stored() == NOTHING


def test_the_spool_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    import_jobs(named("a"))
    with pytest.raises(InvalidField):
        import_jobs(named("b", state="x"))
    assert list(tmp_path.iterdir()) == []


def test_settings_in_force_are_those_imported() -> None:
    import_text('{"max_retries": 9}')
    assert conf.policy(Setting.objects.stored()).max_retries == 9
