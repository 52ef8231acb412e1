"""One Django task from its claim to its outcome, in the process that asks."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from traceback import format_exception, format_exception_only, format_tb
from typing import Any, NamedTuple

from .. import clock, jsontext
from ..exceptions import InvalidText
from ..outcome import Kind, Obstacle, Outcome
from ..tasks import frameworks, results
from ..tasks.frameworks import Framework
from ..tasks.results import Told
from ..work import Work
from . import forks, masking

logger = logging.getLogger(__name__)

RESULT_BYTES = 1_048_576
ERROR_LENGTH, TRACEBACK_LENGTH = 2_000, 65_536


def run(work: Work, worker: str, started: float) -> Outcome:
    """Call the task's function with its arguments; whatever it raises is the outcome.

    The framework's signals task_started and task_finished are sent here, with the backend's class
    as sender. A task that cannot be imported has not been started.
    """
    assert work.task is not None
    masks = masking.patterns()
    try:
        known = _known(work.task)
    except (Exception, SystemExit) as error:
        said = masking.text(f"Cannot import the task {work.task}: {_sentence(error)}", masks)
        return Outcome(kind=Kind.NOT_STARTED, error=said, obstacle=Obstacle.UNKNOWN_TASK)
    cpu = time.process_time()
    raised, traceback, returned = _call(known, work, worker)
    return Outcome(
        kind=Kind.FAILED if raised else Kind.SUCCEEDED,
        error=masking.text(raised, masks)[:ERROR_LENGTH],
        traceback=_shortened(masking.text(traceback, masks)),
        result=returned,
        started=started,
        ended=clock.monotonic(),
        cpu_seconds=time.process_time() - cpu,
    )


class _Known(NamedTuple):
    """A task, and what stays the same from one call of it to the next."""

    task: Any
    framework: Framework
    sender: type[Any]


@lru_cache(1024)
def _known(path: str) -> _Known:
    task = results.find(path)
    framework = frameworks.of(task)
    assert framework is not None
    task = results.at_home(framework, task)
    return _Known(task, framework, type(task.get_backend()))


def _call(known: _Known, work: Work, worker: str) -> tuple[str, str, Any]:
    task, framework, sender = known
    try:
        result = _running(framework, task, work, worker)
    except Exception as error:  # a hand has put something else into its row
        return _sentence(error), _traceback(error), None
    signals, home = framework.signals, os.getpid()
    try:
        signals.task_started.send(sender, task_result=result)
        given = [framework.TaskContext(task_result=result)] if task.takes_context else []
        returned = task.call(*given, *result.args, **result.kwargs)
        forks.end_if_forked(home)
        returned = _plain(returned)
    except BaseException as error:
        forks.end_if_forked(home, error)
        # SystemExit and KeyboardInterrupt are a task's to raise, and this process's to survive.
        path = f"{type(error).__module__}.{type(error).__qualname__}"
        text = _traceback(error)
        result.errors.append(framework.TaskError(exception_class_path=path, traceback=text))
        _finished(framework, sender, result, "FAILED", None)
        return _sentence(error), text, None
    _finished(framework, sender, result, "SUCCESSFUL", returned)
    return "", "", returned


def _running(framework: Framework, task: Any, work: Work, worker: str) -> Any:
    """The task's result as its function may see it: one more attempt has begun."""
    about, given, now = work.about, json.loads(work.args or "{}"), clock.now()
    assert about is not None
    run_at, past = _moment(about.run_at), about.past
    stored = results.as_stored(
        task, queue=about.queue, priority=about.priority, run_at=run_at, backend=task.backend
    )
    results.running = results.Running(work.key, work.number, worker, now)
    told = Told(
        id=work.key,
        status="RUNNING",
        args=given.get("args", []),
        kwargs=given.get("kwargs", {}),
        enqueued_at=_moment(about.enqueued_at),
        started_at=_moment(next((run.started_at for run in past if run.started_at), None)) or now,
        last_attempted_at=now,
        errors=[
            (results.error_path(run.error, run.outcome), run.traceback or run.error) for run in past
        ],
        worker_ids=[*results.claimants([run.worker for run in past], work.number - 1), worker],
    )
    return results.result(framework, stored, told, task.backend)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _finished(framework: Framework, sender: Any, result: Any, status: str, returned: Any) -> None:
    for name, value in (
        ("finished_at", clock.now()),
        ("status", framework.Status(status)),
        ("_return_value", returned),
    ):
        object.__setattr__(result, name, value)
    # A receiver that fails, or would end the program, must not change what became of the task.
    try:
        framework.signals.task_finished.send_robust(sender, task_result=result)
    except BaseException:
        logger.exception("a receiver of task_finished would have ended the task runner")


def _plain(value: Any) -> Any:
    """What a task returned, as JSON gives it back. Raises ValueError or TypeError for what JSON is not."""
    if value is None:
        return None
    found = results.normalize(value)
    try:
        jsontext.check_plain(found)
    except InvalidText as error:
        raise ValueError(f"The task returned what JSON cannot keep: {error.hint}") from None
    size = len(json.dumps(found))
    if size > RESULT_BYTES:
        raise ValueError(f"The task returned {size:,} bytes of JSON; {RESULT_BYTES:,} are kept")
    return found


def _sentence(error: BaseException) -> str:
    """Its class and message, as Python says it last; only the class if it cannot say itself."""
    with suppress(Exception):
        if isinstance(error, SyntaxError):  # which Python begins with the place, not with the class
            return f"{type(error).__qualname__}: {error}"
        return "".join(format_exception_only(error)).strip()
    return type(error).__name__


def _traceback(error: BaseException) -> str:
    """As Python prints it; without what cannot be said of an exception that is not as it should be."""
    with suppress(Exception):
        return "".join(format_exception(error))
    return "".join(
        ["Traceback (most recent call last):\n", *format_tb(error.__traceback__), _sentence(error)]
    )


def _shortened(text: str) -> str:
    """The beginning and the end of a traceback: a recursion's is long."""
    if len(text) <= TRACEBACK_LENGTH:
        return text
    half = TRACEBACK_LENGTH // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
