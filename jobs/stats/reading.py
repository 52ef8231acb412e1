"""Jobs, their attempts and what they printed, read in bounded bites."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.db.models import Q, QuerySet

from .. import jsontext
from ..exceptions import InvalidText
from ..models import Attempt, Job, Output, Stream
from ..outcome import Kind
from ..states import FINAL, TIMED, JobState


def newest(limit: int, *, state: str | None = None) -> list[Job]:
    """The newest jobs, newest last."""
    rows = Job.objects.filter(state=state) if state else Job.objects.all()
    return list(rows.order_by("-id")[:limit])[::-1]


def stream(*, state: str | None = None) -> Iterator[Job]:
    """Every job, oldest first, read in keyset pages: no long transaction, flat memory.

    Oldest by enqueueing; of a state whose index has another order, by that: final ones by their
    end, timed ones by when they are due.
    """
    if state is None:
        return _pages(Job.objects.filter(id__gt=0), None)
    rows, order = Job.objects.filter(state=state), ORDERS.get(JobState(state))
    if order == "finished_at":
        rows = rows.filter(finished_at__isnull=False)  # what the index of final jobs is limited to
    return _pages(rows, order)


ORDERS = dict.fromkeys(FINAL, "finished_at") | dict.fromkeys(TIMED, "due_at")


def _pages(rows: QuerySet[Job], order: str | None, size: int = 500) -> Iterator[Job]:
    fields = [order, "id"] if order else ["id"]
    ordered, read = rows.order_by(*fields), 0
    page = list(ordered[:size])
    while page:
        yield from page
        last, read = page[-1], read + len(page)
        if order and getattr(last, order) is None:  # a hand has put what is no time
            page = list(ordered[read : read + size])
            continue
        later = Q(id__gt=last.id)
        if order:
            # Said as a range less its beginning: an OR of two ranges would lose the index.
            at = getattr(last, order)
            later = Q(**{f"{order}__gte": at}) & ~Q(**{order: at, "id__lte": last.id})
        page = list(rows.filter(later).order_by(*fields)[:size])


def attempts(job: Job) -> list[Attempt]:
    return list(Attempt.objects.filter(job=job).order_by("number"))


def newest_attempts(job: Job, most: int) -> list[Attempt]:
    """The last attempts, the last of them last, without their tracebacks."""
    rows = Attempt.objects.filter(job=job).order_by("-number").defer("traceback")
    return list(rows[:most])[::-1]


def returned(job: Job) -> Any:
    """What its task returned; a sentence in its place where that is nothing that a task can return."""
    try:
        jsontext.check_plain(job.result)
    except InvalidText as error:
        return f"(not shown: {error.hint})"
    return job.result


def left_by_task(job: Job, attempt: Attempt) -> list[tuple[str, str]]:
    """What a task returned or raised in an attempt, as text under its name. What it prints is not kept."""
    left = []
    if job.result is not None and attempt.outcome == Kind.SUCCEEDED:
        left.append(("result", json.dumps(returned(job), indent=2, ensure_ascii=False)))
    if attempt.traceback:
        left.append(("traceback", attempt.traceback))
    return left


def output(job: Job, number: int, stream: Stream) -> list[tuple[int, bytes]]:
    """What is kept of a stream of an attempt, as (offset, bytes) in order."""
    rows = Output.objects.filter(job=job, attempt=number, stream=stream)
    return _read(rows.order_by("sequence"))


def end_of_output(job: Job, number: int, stream: Stream, most: int) -> list[tuple[int, bytes]]:
    """The last chunks of it: as many as hold `most` bytes, and seldom more than twice as many."""
    rows = Output.objects.filter(job=job, attempt=number, stream=stream).order_by("-sequence")
    chunks, asked = _read(rows[:1]), 1
    while len(chunks) == asked and sum(len(data) for _, data in chunks) < most:
        chunks, asked = _read(rows[: 2 * asked]), 2 * asked
    return chunks[::-1]


def _read(rows: QuerySet[Output]) -> list[tuple[int, bytes]]:
    return [(chunk.offset, bytes(chunk.data)) for chunk in rows]
