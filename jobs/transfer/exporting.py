"""One export: keyset pages to a stream, no transaction, flat memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from .. import dialect
from ..exceptions import QueueCTLError
from ..models import Attempt, Job, Output, Queue, Setting, Stream
from ..operations import Actor, must
from . import bulk, native, original
from .target import open_target

FORMATS = ("queuectl", "original")
PAGE = 500
BYTES_AT_ONCE = 16_777_216
_STREAMS = frozenset(Stream)

Progress = Callable[[str, int, int | None], None]
Chunk = tuple[int, int, bytes]
"""Stream, offset, bytes."""


@dataclass(slots=True)
class Exported:
    """What was written."""

    jobs: int = 0
    attempts: int = 0
    queues: int = 0
    settings: int = 0
    left_out: int = 0
    """Jobs that the format has no words for: tasks, in the original's."""


def export(
    where: str | Path | BinaryIO,
    format: str,
    actor: Actor,
    *,
    progress: Progress | None = None,
) -> Exported:
    """Write all jobs there are now, in the order of enqueueing, as "queuectl" or "original".

    Each job is as it was at one moment; other jobs may be as of a little later. A path becomes a
    file when all is written, or not at all.

    Raises NotPermitted, QueueCTLError for an unknown format or a target that cannot be written.
    """
    if format not in FORMATS:
        raise QueueCTLError(f"Unknown format {format!r}", hint=f"known: {', '.join(FORMATS)}")
    settings = ("view_setting",) if format == "queuectl" else ()  # it has them all
    for permission in ("view_input", "view_output", *settings):
        must(actor, permission, "export", "all jobs")
    tell, result = progress or (lambda step, done, total: None), Exported()
    write = _write_native if format == "queuectl" else _write_original
    with bulk.unlogged(), open_target(where) as file, _text(file) as text:
        for piece in write(result):
            text(piece)
            tell("written", result.jobs, None)
    return result


def export_config(where: str | Path | BinaryIO, actor: Actor) -> Exported:
    """Write the original's four settings as its config.json. Raises NotPermitted, QueueCTLError."""
    must(actor, "view_setting", "export", "the settings")
    with open_target(where) as file:
        file.write(original.config_object(Setting.objects.stored()).encode())
    return Exported(settings=len(original.CONFIG))


@contextmanager
def _text(file: BinaryIO) -> Iterator[Callable[[str], int]]:
    """Writes text onto a stream of bytes, which stays open.

    A lone surrogate, which UTF-8 has not, is written as JSON escapes it.
    """
    wrapper = TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="\n")
    try:
        yield wrapper.write
        wrapper.flush()
    finally:
        wrapper.detach()


def _write_native(result: Exported) -> Iterator[str]:
    yield native.header(dialect.now()) + "\n"
    for key, value in sorted(Setting.objects.stored().items()):
        result.settings += 1
        yield native.setting_line(key, value) + "\n"
    for queue in Queue.objects.order_by("name"):
        result.queues += 1
        yield native.queue_line(queue) + "\n"
    for page in _pages():
        for job, attempts in _with_attempts(page, last_only=False):
            result.jobs += 1
            yield native.job_line(job) + "\n"
            for attempt, chunks in attempts:
                result.attempts += 1
                yield native.attempt_line(job.key, attempt) + "\n"
                for line in native.output_lines(job.key, attempt.number, chunks):
                    yield line + "\n"
    yield native.end_line(result.jobs) + "\n"


def _write_original(result: Exported) -> Iterator[str]:
    for page in _pages():
        for job, attempts in _with_attempts(page, last_only=True):
            if job.task is not None:
                result.left_out += 1
                continue
            last, chunks = next(attempts, (None, ()))
            result.attempts += last is not None
            yield (",\n" if result.jobs else "{\n") + original.job_object(job, last, list(chunks))
            result.jobs += 1
    yield "\n}" if result.jobs else "{}"


def _pages() -> Iterator[list[Job]]:
    """Jobs up to the newest there is now, so that it ends while others go on enqueueing."""
    newest = Job.objects.order_by("-id").values_list("id", flat=True).first() or 0
    rows, last = Job.objects.filter(id__lte=newest).order_by("id"), 0
    while page := list(rows.filter(id__gt=last)[:PAGE]):
        yield page
        last = page[-1].id


def _with_attempts(
    page: Sequence[Job], *, last_only: bool
) -> Iterator[tuple[Job, Iterator[tuple[Attempt, Iterable[Chunk]]]]]:
    """Each job with its attempts, each with its output.

    Attempts beyond what the job's own row knows of were reported since it was read: left out.
    """
    runs = {job.id: job.runs for job in page}
    found: dict[int, list[Attempt]] = {}
    for attempt in Attempt.objects.filter(job_id__in=list(runs)).order_by("job_id", "number"):
        number, run = attempt.number, runs[attempt.job_id]
        if number == run or (number < run and not last_only):
            found.setdefault(attempt.job_id, []).append(attempt)
    for group in _groups(page, found):
        output = _output([a for job in group for a in found.get(job.id, [])])
        for job in group:
            # Lazily: the output of all attempts of one job may be more than memory likes.
            yield job, ((a, output(a)) for a in found.get(job.id, []))


def _groups(page: Sequence[Job], attempts: dict[int, list[Attempt]]) -> Iterator[list[Job]]:
    """Neighbours whose output together fits into memory easily; a job with much stands alone."""
    group: list[Job] = []
    held = 0
    for job in page:
        weight = sum(a.stdout_bytes + a.stderr_bytes for a in attempts.get(job.id, []))
        if group and held + weight > BYTES_AT_ONCE:
            yield group
            group, held = [], 0
        group.append(job)
        held += weight
    if group:
        yield group


def _output(attempts: Sequence[Attempt]) -> Callable[[Attempt], Iterable[Chunk]]:
    """What gives the output of each of these attempts: read at once, or one by one if it is much."""
    total = sum(a.stdout_bytes + a.stderr_bytes for a in attempts)
    if total > BYTES_AT_ONCE:
        return lambda attempt: _chunks([attempt]).get((attempt.job_id, attempt.number), [])
    found = _chunks([a for a in attempts if a.stdout_bytes or a.stderr_bytes])
    return lambda attempt: found.get((attempt.job_id, attempt.number), [])


def _chunks(attempts: Sequence[Attempt]) -> dict[tuple[int, int], list[Chunk]]:
    if not attempts:
        return {}
    rows = Output.objects.filter(job_id__in={a.job_id for a in attempts})
    if len(attempts) == 1:
        rows = rows.filter(attempt=attempts[0].number)
    found: dict[tuple[int, int], list[Chunk]] = {}
    for row in rows.order_by("job_id", "attempt", "stream", "sequence"):
        if row.stream in _STREAMS:  # a hand may have put another number
            chunk = (row.stream, row.offset, bytes(row.data))
            found.setdefault((row.job_id, row.attempt), []).append(chunk)
    return found
