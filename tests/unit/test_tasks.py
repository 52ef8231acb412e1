"""A task from its work to its outcome, in this process; no database anywhere."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from traceback import format_exception
from typing import Any

import django
import pytest
from django.db.models import TextChoices
from django.utils.safestring import mark_safe

from jobs.execution import tasks
from jobs.outcome import Kind, Obstacle, Outcome
from jobs.tasks import frameworks, results, task
from jobs.work import About, Run, Work
from jobs.worker import wire
from jobs.worker.wire import Channel
from tests import task_functions
from tests.unit.builders import work

ENQUEUED = datetime(2030, 5, 17, 12, tzinfo=UTC)


def task_work(
    name: str, *args: Any, number: int = 1, past: tuple[Run, ...] = (), **kwargs: Any
) -> Work:
    return work(
        command=None,
        task=name if "." in name else f"tests.task_functions.{name}",
        args=json.dumps({"args": args, "kwargs": kwargs}),
        about=About("default", 5, None, ENQUEUED.timestamp(), past),
        number=number,
    )


def run(name: str, *args: Any, **more: Any) -> Outcome:
    return tasks.run(task_work(name, *args, **more), "worker1", 100.0)


@pytest.fixture(autouse=True)
def no_task_is_known() -> Iterator[None]:
    """A task runner lives with one code; these tests change it under way."""
    tasks._known.cache_clear()
    yield
    tasks._known.cache_clear()


@pytest.fixture
def heard() -> Iterator[list[tuple[str, Any, Any]]]:
    """Signals that were sent: which, by whom, and the status that their result had."""
    signals, found = frameworks.native().signals, []

    def receiver(name: str) -> Any:
        def receive(sender: Any, task_result: Any, **_: Any) -> None:
            found.append((name, sender, str(task_result.status)))

        return receive

    receivers = {name: receiver(name) for name in ("task_started", "task_finished")}
    for name, receive in receivers.items():
        getattr(signals, name).connect(receive)
    yield found
    for name, receive in receivers.items():
        getattr(signals, name).disconnect(receive)


def test_a_task_that_returns_has_succeeded_with_what_it_returned() -> None:
    found = run("add", 1, 2)
    assert (found.kind, found.result, found.error, found.traceback) == (Kind.SUCCEEDED, 3, "", "")
    assert found.started == 100.0 and found.ended is not None and found.cpu_seconds is not None


def test_arguments_reach_it_by_place_and_by_name() -> None:
    assert run("echo", 1, "two", three=[3]).result == [[1, "two"], {"three": [3]}]


@pytest.mark.parametrize(
    ("what", "result"), [("tuple", [1, [2, 3]]), ("bytes", "text")], ids=["tuple", "bytes"]
)
def test_what_it_returns_becomes_json(what: str, result: Any) -> None:
    assert run("returns", what).result == result


@pytest.mark.parametrize(
    ("what", "error"),
    [("set", "TypeError: set is no JSON"), ("nan", "not a JSON number"), ("nul", "NUL"),
     ("large", "1,048,576 are kept"), ("beyond", "too large")],
)  # fmt: skip
def test_what_no_json_can_keep_is_a_failure(what: str, error: str) -> None:
    found = run("returns", what)
    assert (found.kind, found.result) == (Kind.FAILED, None)
    assert error in found.error


def test_an_exception_is_a_failure_with_its_traceback() -> None:
    found = run("fail", "it broke")
    assert (found.kind, found.error) == (Kind.FAILED, "ValueError: it broke")
    assert "raise ValueError(text)" in found.traceback


@pytest.mark.parametrize(
    ("how", "error"),
    [("sys.exit", "SystemExit: 3"), ("interrupt", "KeyboardInterrupt"), ("recursion", "RecursionError"),
     ("generator", "GeneratorExit"), ("memory", "MemoryError")],
)  # fmt: skip
def test_what_would_end_a_program_ends_only_the_task(how: str, error: str) -> None:
    found = run("end_process", how)
    assert found.kind is Kind.FAILED
    assert found.error.startswith(error)


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    found = run("deep", 400)
    assert len(found.traceback) < 70_000
    assert found.traceback.startswith("Traceback") and "characters left out" in found.traceback
    assert found.traceback.rstrip().endswith("ValueError: at the bottom")


def test_an_exception_that_cannot_say_itself_is_told_by_its_class() -> None:
    assert run("mute").error.startswith("tests.task_functions.Mute")


def test_an_exception_whose_traceback_cannot_be_printed_is_told_without_its_end() -> None:
    try:
        raise SyntaxError("m", ("f", 1, "a", "text"))
    except SyntaxError as error:
        with pytest.raises(TypeError):
            format_exception(error)
        said = tasks._traceback(error)
    assert said.startswith("Traceback") and __file__ in said
    assert said.endswith("\nSyntaxError: m (f, line 1)")


def test_a_coroutine_is_awaited() -> None:
    assert run("asynchronous", 0.01).result == "slept"


def test_the_context_tells_the_attempts_there_were() -> None:
    past = (Run(1.0, "failed", "OSError: x", "t", "w0"),)
    found = run("context", number=2, past=past)
    assert found.result == {"attempt": 2, "id": "job1", "worker_ids": ["w0", "worker1"]}


def test_the_context_of_a_late_attempt_counts_all_there_were() -> None:
    past = tuple(
        Run(float(n) if n > 1 else None, "failed", "OSError", "", f"w{n}") for n in range(1, 26)
    )
    found = run("context", number=26, past=past).result
    assert found["attempt"] == 26
    assert found["worker_ids"] == [*(f"w{n}" for n in range(1, 26)), "worker1"]


def test_a_run_that_was_lost_before_it_left_a_trace_is_counted_all_the_same() -> None:
    past = (Run(1.0, "failed", "OSError: x", "t", "w0"),)
    found = run("context", number=3, past=past).result
    assert found == {"attempt": 3, "id": "job1", "worker_ids": ["", "w0", "worker1"]}


def test_a_task_has_started_when_its_first_run_did() -> None:
    """Which an attempt that was lost before its start does not tell."""
    lost, ran = Run(None, "lost", "", "", "w0"), Run(7.0, "failed", "OSError", "", "w1")
    assert started_at(lost, ran) == datetime.fromtimestamp(7.0, UTC)
    assert started_at(lost) >= datetime(2024, 1, 1, tzinfo=UTC)


def started_at(*past: Run) -> Any:
    about = task_work("noop", number=len(past) + 1, past=past)
    return tasks._running(frameworks.native(), task_functions.noop, about, "worker1").started_at


def test_a_task_that_is_not_there_was_not_started() -> None:
    for path in ("tests.task_functions.gone", "no.such.module", "tests.task_functions.ENQUEUED"):
        found = run(path)
        assert (found.kind, found.obstacle) == (Kind.NOT_STARTED, Obstacle.UNKNOWN_TASK), path
        assert path in found.error


def test_a_module_that_would_end_the_program_was_not_started() -> None:
    found = run("tests.ends_the_program.noop")
    assert (found.kind, found.obstacle) == (Kind.NOT_STARTED, Obstacle.UNKNOWN_TASK)
    assert found.error.endswith("SystemExit: configure me")


def test_arguments_that_nobody_can_read_are_a_failure_of_that_run() -> None:
    work = task_work("noop")._replace(args='{"args": ' + "[" * 100_000)
    found = tasks.run(work, "worker1", 100.0)
    assert found.kind is Kind.FAILED and found.error and found.traceback


def test_signals_of_a_task_whose_code_names_another_backend_are_sent_by_ours(
    settings: Any, heard: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    native = frameworks.native()
    immediate = {"BACKEND": f"{native.name}.backends.immediate.ImmediateBackend"}
    settings.TASKS = {"now": immediate, **settings.TASKS}
    monkeypatch.setattr(task_functions, "noop", task(backend="now")(task_functions.noop.func))
    assert run("noop").kind is Kind.SUCCEEDED
    assert [sender for _, sender, _ in heard] == [type(native.backends["default"])] * 2


def test_signals_tell_its_beginning_and_its_end(heard: list[Any]) -> None:
    run("add", 1, 2)
    run("fail")
    sender = type(task_functions.add.get_backend())
    assert heard == [
        ("task_started", sender, "RUNNING"),
        ("task_finished", sender, "SUCCESSFUL"),
        ("task_started", sender, "RUNNING"),
        ("task_finished", sender, "FAILED"),
    ]


def test_the_end_of_a_failed_task_is_told_while_its_exception_is_handled() -> None:
    handled: list[Any] = []

    def receive(**_: Any) -> None:
        handled.append(sys.exc_info()[1])

    signal = frameworks.native().signals.task_finished
    signal.connect(receive)
    try:
        run("fail", "it broke")
        run("noop")
    finally:
        signal.disconnect(receive)
    assert [repr(error) for error in handled] == ["ValueError('it broke')", "None"]


LAZILY = """
from django.conf import settings
settings.configure(TASKS={"default": {"BACKEND": "jobs.backend.QueueCTLBackend"}})
from jobs.tasks import task
import jobs.backend
print(task(max_retries=2)(jobs.backend._options).get_backend().alias)
import sys
assert "jobs.models" not in sys.modules
"""


def test_a_task_can_be_made_before_django_is_set_up() -> None:
    found = subprocess.run([sys.executable, "-c", LAZILY], capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("default\n", "")


def test_a_receiver_that_fails_at_the_end_does_not_change_what_was() -> None:
    signal = frameworks.native().signals.task_finished

    def broken(**_: Any) -> None:
        raise RuntimeError("receiver")

    signal.connect(broken)
    try:
        assert run("add", 1, 2).kind is Kind.SUCCEEDED
    finally:
        signal.disconnect(broken)


# Options


def test_attempts_and_retries_tell_each_other() -> None:
    twice = task_functions.fail_twice
    assert (twice.max_attempts, twice.max_retries) == (3, 2)
    once = task_functions.fail
    assert (once.max_attempts, once.max_retries) == (1, 0)
    assert twice.with_options(max_retries=7).max_attempts == 8
    assert twice.with_options(max_attempts=5).max_retries == 4


def test_using_keeps_our_options() -> None:
    other = task_functions.overtime.using(priority=9)
    assert (other.priority, other.timeout, other.max_retries) == (9, 0.5, 0)


@pytest.mark.parametrize(
    "options",
    [{"max_retries": 1, "max_attempts": 5}, {"max_retries": -1}, {"max_retries": True}, {"timeout": 0},
     {"timeout": "5"}, {"backoff": 0.5}, {"queue_name": "../x"}],
    ids=str,
)  # fmt: skip
def test_an_option_out_of_bounds_is_refused_where_the_task_is_made(options: dict[str, Any]) -> None:
    with pytest.raises(frameworks.native().InvalidTask):
        task(**options)(task_functions.noop.func)


def test_an_option_that_is_none_is_a_slip_of_the_programmer() -> None:
    with pytest.raises(TypeError, match="max_retry"):
        task(max_retry=1)


def test_with_another_backend_our_options_are_kept_and_not_heeded(settings: Any) -> None:
    name = frameworks.native().name
    settings.TASKS = {"default": {"BACKEND": f"{name}.backends.immediate.ImmediateBackend"}}
    made = task(max_retries=3, timeout=1)(task_functions.add.func)
    assert (made.max_retries, made.with_options(timeout=9).timeout) == (3, 9)
    assert made.enqueue(2, 3).return_value == 5


def test_a_backend_with_a_task_class_of_its_own_gets_tasks_of_that(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = frameworks.native()
    immediate = import_module(f"{native.name}.backends.immediate").ImmediateBackend

    class Own(import_module(f"{native.name}.base").Task):  # type: ignore[misc]
        pass

    monkeypatch.setattr(immediate, "task_class", Own)
    settings.TASKS = {"default": {"BACKEND": f"{native.name}.backends.immediate.ImmediateBackend"}}
    assert type(task(timeout=1)(task_functions.add.func)) is Own


@pytest.mark.skipif(
    django.VERSION[:2] == (6, 0), reason="the decorator of Django 6.0 passes no options on"
)
@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"max_retries": 4}, (4, None, None)),
        ({"max_attempts": 5, "backoff": 3, "timeout": 1.5}, (4, 3, 1.5)),
    ],
)
def test_the_frameworks_own_decorator_takes_our_options_where_it_passes_them_on(
    given: dict[str, Any], options: tuple[Any, ...]
) -> None:
    made = import_module(frameworks.native().name).task(**given)(task_functions.noop.func)
    assert (made.max_retries, made.backoff, made.timeout) == options


@pytest.mark.parametrize(
    ("error", "outcome", "path"),
    [
        ("ValueError: x", "failed", "builtins.ValueError"),
        ("KeyboardInterrupt", "failed", "builtins.KeyboardInterrupt"),
        ("LookupError\na note: of hers", "failed", "builtins.LookupError"),
        ("shop.errors.Odd: x: y", "failed", "shop.errors.Odd"),
        ("shop.send.<locals>.Odd: x", "failed", "shop.send.<locals>.Odd"),
        ("Its process ended with signal 11 (SIGSEGV)", "failed", "jobs.exceptions.AttemptLost"),
        ("Task timed out after 1 seconds", "timed_out", "builtins.TimeoutError"),
        ("Lost with its worker", "lost", "jobs.exceptions.AttemptLost"),
    ],
)
def test_the_class_of_an_exception_is_read_from_what_it_said(
    error: str, outcome: str, path: str
) -> None:
    assert results.error_path(error, outcome) == path


# Where things go wrong at the edge


class Size(TextChoices):
    LARGE = "L"


def give(value: Any) -> Any:
    return value


@task
def page() -> Any:
    return give(mark_safe("<p>"))


@task
def choice() -> Any:
    return give({"size": Size.LARGE})


@task
def bad_code() -> None:
    compile("x = (", "<text>", "exec")


@task
def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@task
def cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


HERE = "tests.unit.test_tasks"


def sent(outcome: Outcome) -> Outcome:
    """The outcome as the ledger receives it."""
    near, far = (Channel(sock) for sock in wire.pair())
    try:
        near.send(wire.ENDED, [("lease", wire.from_outcome(outcome))])
        (frame,) = far.receive()
    finally:
        near.close()
        far.close()
    return wire.to_outcome(frame[1][0][1])


@pytest.mark.parametrize("name", ["page", "choice"])
def test_text_of_a_class_of_its_own_is_sent_as_text(name: str) -> None:
    found = run(f"{HERE}.{name}")
    assert found.kind is Kind.SUCCEEDED
    assert sent(found).result == found.result


@pytest.mark.parametrize("name", ["add", "mute", "fail"])
def test_an_outcome_arrives_as_it_was_sent(name: str) -> None:
    found = run(name, *((1, 2) if name == "add" else ()))
    assert sent(found) == found


@pytest.mark.parametrize("work_name", [f"{HERE}.cycle", f"{HERE}.nested"])
def test_what_is_nested_without_end_is_a_failure(work_name: str) -> None:
    args = (100_000,) if work_name.endswith("nested") else ()
    found = run(work_name, *args)
    assert (found.kind, found.result) == (Kind.FAILED, None)


def test_a_syntax_error_is_told_by_its_class_too() -> None:
    assert results.error_path(run(f"{HERE}.bad_code").error, "failed") == "builtins.SyntaxError"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_receiver_that_would_end_the_program_does_not(error: type[BaseException]) -> None:
    signal = frameworks.native().signals.task_finished

    def broken(**_: Any) -> None:
        raise error

    signal.connect(broken)
    try:
        kind = run("add", 1, 2).kind
    except BaseException as escaped:
        kind = type(escaped)
    finally:
        signal.disconnect(broken)
    assert kind is Kind.SUCCEEDED


def test_a_receiver_that_fails_at_the_beginning_fails_the_task() -> None:
    signal = frameworks.native().signals.task_started

    def broken(**_: Any) -> None:
        raise RuntimeError("receiver")

    signal.connect(broken)
    try:
        found = run("add", 1, 2)
    finally:
        signal.disconnect(broken)
    assert (found.kind, found.error) == (Kind.FAILED, "RuntimeError: receiver")


def test_arguments_that_do_not_fit_are_a_failure_of_the_task() -> None:
    found = run("add", 1)
    assert found.kind is Kind.FAILED and found.error.startswith("TypeError: add() missing")


def test_the_result_a_receiver_gets_tells_the_end() -> None:
    kept: list[Any] = []

    def receive(task_result: Any, **_: Any) -> None:
        kept.append(task_result)

    signal = frameworks.native().signals.task_finished
    signal.connect(receive)
    try:
        run("add", 1, 2)
        run("fail", "no")
    finally:
        signal.disconnect(receive)
    good, bad = kept
    assert (good.return_value, good.is_finished, good.errors) == (3, True, [])
    assert good.enqueued_at == ENQUEUED and good.finished_at >= good.started_at
    assert bad.errors[0].exception_class is ValueError
    assert "no" in bad.errors[0].traceback
    with pytest.raises(ValueError, match="Task failed"):
        bad.return_value  # noqa: B018


# Options, at their edges


@pytest.mark.parametrize("attempts", ["3", 2.5, True])
def test_attempts_that_are_no_whole_number_are_refused(attempts: Any) -> None:
    with pytest.raises(frameworks.native().InvalidTask):
        task(max_attempts=attempts)(task_functions.noop.func)


@pytest.mark.parametrize("attempts", [0, -1, 102])
def test_attempts_out_of_bounds_are_refused(attempts: int) -> None:
    with pytest.raises(frameworks.native().InvalidTask):
        task(max_attempts=attempts)(task_functions.noop.func)


def test_attempts_and_retries_that_agree_may_both_be_given() -> None:
    made = task(max_attempts=3, max_retries=2)(task_functions.noop.func)
    assert (made.max_attempts, made.max_retries) == (3, 2)


def test_other_options_leave_the_task_as_it_was() -> None:
    before = task_functions.fail_twice
    other = before.with_options(timeout=7, max_attempts=9).using(queue_name="mail", priority=3)
    assert (other.max_retries, other.timeout, other.backoff) == (8, 7, 1)
    assert (other.queue_name, other.priority, other.func) == ("mail", 3, before.func)
    assert (before.max_retries, before.timeout, before.queue_name) == (2, None, "default")


def test_an_option_can_be_taken_back() -> None:
    other = task_functions.fail_twice.with_options(max_retries=None)
    assert (other.max_retries, other.max_attempts) == (None, None)


@pytest.mark.parametrize(
    "options", [{"max_retries": 101}, {"timeout": 0}, {"backoff": 0.1}], ids=str
)
def test_other_options_are_checked_too(options: dict[str, Any]) -> None:
    with pytest.raises(frameworks.native().InvalidTask):
        task_functions.noop.with_options(**options)


@pytest.mark.skipif(django.VERSION < (6, 1), reason="tasks can be pickled from Django 6.1 on")
def test_a_pickled_task_keeps_its_options() -> None:
    for made in (task_functions.overtime, task_functions.fail_twice.with_options(max_attempts=7)):
        assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.skipif(
    not (find_spec("django.tasks") and find_spec("django_tasks")),
    reason="only one of django.tasks and django_tasks is installed",
)
def test_a_task_of_the_other_framework_runs_with_its_own_types_and_signals(
    monkeypatch: pytest.MonkeyPatch, heard: list[Any]
) -> None:
    module, signals = import_module("django_tasks"), import_module("django_tasks.signals")
    made = module.task(takes_context=True)(task_functions.context.func)
    monkeypatch.setattr(task_functions, "context", made)
    theirs: list[Any] = []

    def receive(sender: Any, task_result: Any, **_: Any) -> None:
        theirs.append(task_result)

    signals.task_finished.connect(receive)
    try:
        found = run("context")
    finally:
        signals.task_finished.disconnect(receive)
    assert found.result == {"attempt": 1, "id": "job1", "worker_ids": ["worker1"]}
    assert [type(result) for result in theirs] == [module.TaskResult]
    assert heard == []
