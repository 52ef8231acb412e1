"""Lists in an order that an index serves, paged by the place of a row and never by its number.

Nothing here counts, skips or sorts a table: a page costs the same at its beginning and its end. What a
filter keeps may still be few among many, so there is an end to how long one is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core import signing
from django.db.models import Q
from django.db.models.functions import Coalesce

from .. import dialect
from ..exceptions import TooBroad
from ..models import Job
from ..models.job import CLAIM_ORDER, JobQuerySet
from ..states import FINAL, JobState

PAGE = 50
PATIENCE_SECONDS = 3.0
NARROWER = "try again, or choose a state, or search for the beginning of an id"
_SALT = "queuectl.keyset"
_LONGEST = 1000

UNSEEN = ("env", "args", "result", "exit_codes")
"""What no list shows, and may be long."""

Mark = Sequence[Any]
"""The values of a row in the columns of an order: its place."""


@dataclass(frozen=True, slots=True)
class Order:
    """How a list is sorted. The last column is unique, so no two rows share a place."""

    name: str
    columns: tuple[str, ...]
    says: str
    """The order in words, for people."""

    words: tuple[str, str] = ("Newer", "Older")
    """What leads to the page before, and to the page after."""

    @property
    def names(self) -> list[str]:
        return [column.lstrip("-") for column in self.columns]

    def rows(self, rows: JobQuerySet) -> JobQuerySet:
        """The rows this order has a place for."""
        if self.name == "processing":
            # One that is claimed ahead has not started; few enough are processing to sort them.
            # Not read: it has no declared type, by which SQLite's driver knows what is no time.
            rows = rows.alias(began=Coalesce("started_at", "updated_at"))
            return rows.annotate(is_ahead=Q(started_at__isnull=True))
        return rows.filter(finished_at__isnull=False) if self.name == "finished" else rows

    def mark(self, job: Job) -> str:
        """The place of a row, as text for a URL that cannot be made up; empty for one without a place.

        So is one in which a hand has put what is no time.
        """
        values = [_place(job, name) for name in self.names]
        if None in values:
            return ""
        plain = [v.isoformat() if isinstance(v, datetime) else v for v in values]
        return signing.dumps([self.name, *plain], salt=_SALT)

    def read(self, text: str) -> Mark | None:
        """The place that `mark` wrote; None for anything else, or for one of another order."""
        try:
            name, *values = signing.loads(text[:_LONGEST], salt=_SALT)
        except (signing.BadSignature, ValueError, TypeError):
            return None
        if name != self.name or None in values:
            return None
        return [
            datetime.fromisoformat(value) if key.endswith("_at") or key == "began" else value
            for key, value in zip(self.names, values, strict=True)
        ]


_FORWARD = ("Previous", "Next")
_DUE = Order("due", ("due_at", "id"), "The first to be due comes first", _FORWARD)
_FINISHED = Order("finished", ("-finished_at", "-id"), "The last to end comes first")

ALL = Order("all", ("-id",), "The newest comes first")
BY_ID = Order("id", ("key",), "By id", _FORWARD)
BY_STATE = {
    JobState.PENDING: Order(
        "pending", ("queue", *CLAIM_ORDER), "By queue, and there the next to run first", _FORWARD
    ),
    JobState.SCHEDULED: _DUE,
    JobState.FAILED: _DUE,
    JobState.BLOCKED: Order("created", ("created_at", "id"), "The oldest comes first", _FORWARD),
    JobState.PROCESSING: Order(
        "processing", ("began", "id"), "The longest running comes first", _FORWARD
    ),
    **dict.fromkeys(FINAL, _FINISHED),
}


def order_of(state: JobState | None, search: str = "") -> Order:
    """The order of a list, by its state; a search by id is in the order of ids."""
    return BY_ID if search else BY_STATE[state] if state else ALL


@dataclass(frozen=True, slots=True)
class Page:
    """One page, and the marks that lead on: `?before=` the first row, `?after=` the last."""

    jobs: list[Job]
    before: str = ""
    after: str = ""


def page(
    rows: JobQuerySet, order: Order, *, before: str = "", after: str = "", size: int = PAGE
) -> Page:
    """The page before or after a mark; the first where there is none, or a wrong one. Raises TooBroad."""
    with patience(NARROWER):
        return _page(order.rows(rows).defer(*UNSEEN), order, before, after, size)


@contextmanager
def patience(hint: str) -> Iterator[None]:
    """Reads for a page, as long as somebody waits for one. Raises TooBroad with what to do instead."""
    try:
        with dialect.deadline(PATIENCE_SECONDS):
            yield
    except TooBroad as error:
        error.hint = hint
        raise


def _page(rows: JobQuerySet, order: Order, before: str, after: str, size: int) -> Page:
    if before and (mark := order.read(before)) is not None:
        found = _beyond(rows, [_flipped(column) for column in order.columns], mark, size + 1)
        if len(found) > size:
            jobs = found[:size][::-1]
            return Page(jobs, _mark(order, jobs), _mark(order, jobs[::-1]))
        # Less than a page is before it: that is the first page, and it is shown whole.
        after = ""
    mark = order.read(after) if after else None
    found = _beyond(rows, order.columns, mark, size + 1)
    jobs, more = found[:size], len(found) > size
    return Page(
        jobs,
        _mark(order, jobs) if mark is not None else "",
        _mark(order, jobs[::-1]) if more else "",
    )


def _mark(order: Order, jobs: Sequence[Job]) -> str:
    """The place of the first of these that has one; those before it are shown on the next page too."""
    return next(filter(None, map(order.mark, jobs)), "")


def _place(job: Any, name: str) -> Any:
    if name == "began":
        return job.updated_at if job.is_ahead else job.started_at
    return getattr(job, name)


def _flipped(column: str) -> str:
    return column[1:] if column.startswith("-") else f"-{column}"


def _beyond(rows: JobQuerySet, columns: Sequence[str], mark: Mark | None, limit: int) -> list[Job]:
    """The rows beyond a place, from near to far.

    One query for each length of what they have in common with it: each is one range of the index,
    which an OR of them is not on either database.
    """
    if mark is None:
        return list(rows.order_by(*columns)[:limit])
    names = [column.lstrip("-") for column in columns]
    found: list[Job] = []
    for length in range(len(columns) - 1, -1, -1):
        same = dict(zip(names[:length], mark, strict=False))
        direction = "lt" if columns[length].startswith("-") else "gt"
        beyond = rows.filter(**same, **{f"{names[length]}__{direction}": mark[length]})
        found += beyond.order_by(*columns[length:])[: limit - len(found)]
        if len(found) >= limit:
            break
    return found
