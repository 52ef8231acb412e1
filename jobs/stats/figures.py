"""How long jobs took, and how many did what they should."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import DatabaseError
from django.db.models import Avg, DurationField, ExpressionWrapper, F, QuerySet, Sum

from .. import dialect
from ..models import Attempt
from ..outcome import Kind
from ..states import JobState
from .counting import CAP, Count, by_state, total


@dataclass(frozen=True, slots=True)
class Metrics:
    """The original's figures: run times are of jobs that completed, in seconds."""

    total_jobs: Count
    completed: Count
    failed: Count
    dead: Count
    average: float | None
    total: float
    fastest: tuple[str, float] | None
    slowest: tuple[str, float] | None

    @property
    def success_rate(self) -> float:
        """Completed of those that were processed, in per cent; 0 when none was."""
        processed = self.completed.number + self.failed.number + self.dead.number
        return 100 * self.completed.number / processed if processed else 0.0


def metrics(*, cap: int = CAP, newest: int | None = None) -> Metrics:
    """Figures over all that is stored, or with the times of the newest attempts only.

    Three passes over those of them that succeeded.
    """
    states = by_state(cap)
    ran = Attempt.objects.filter(outcome=Kind.SUCCEEDED, started_at__isnull=False)
    if newest is not None:
        ran = ran.filter(id__in=Attempt.objects.order_by("-id").values("id")[:newest])
    try:
        with dialect.statement():
            average, in_all, fastest, slowest = _times(ran)
    except DatabaseError as error:
        if not dialect.is_no_time(error):
            raise
        sound = ran.filter(dialect.IsTime("started_at"), dialect.IsTime("finished_at"))
        average, in_all, fastest, slowest = _times(sound)
    return Metrics(
        total_jobs=total(states.values()),
        completed=states[JobState.COMPLETED],
        failed=states[JobState.FAILED],
        dead=states[JobState.DEAD],
        average=average.total_seconds() if average else None,
        total=in_all.total_seconds() if in_all else 0.0,
        fastest=fastest,
        slowest=slowest,
    )


_End = tuple[str, float] | None


def _times(ran: QuerySet[Attempt]) -> tuple[timedelta | None, timedelta | None, _End, _End]:
    """On average and in all, and the jobs of the fastest and the slowest of these attempts."""
    took = ExpressionWrapper(F("finished_at") - F("started_at"), output_field=DurationField())
    timed: Any = ran.annotate(took=took)
    figures = timed.aggregate(average=Avg("took"), total=Sum("took"))
    ends = [
        timed.order_by(order, "id").values_list("job__key", "took").first()
        for order in ("took", "-took")
    ]
    fastest, slowest = [(end[0], end[1].total_seconds()) if end else None for end in ends]
    return figures["average"], figures["total"], fastest, slowest
