"""What has become of claims and stands in no row yet."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from .. import clock, dialect, ledger
from ..ledger import Report
from ..outcome import Captured, Kind, Outcome
from .held import Held

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unwritten:
    """What one turn has to write of jobs in hand."""

    ended: list[tuple[Held, Outcome]]
    returned: list[Held]
    """Unstarted, by their runners."""

    begun: list[Held]
    """Claimed ahead, and started."""

    def unlocked(self) -> Unwritten:
        """That of which nobody holds the rows, which are locked for us now.

        One row that somebody keeps locked must not keep back the heartbeat and all other outcomes.
        """
        everything = (*self.returned, *self.begun, *(held for held, _ in self.ended))
        free = ledger.lock({held.work.job_id for held in everything})
        return Unwritten(
            [pair for pair in self.ended if pair[0].work.job_id in free],
            [held for held in self.returned if held.work.job_id in free],
            [held for held in self.begun if held.work.job_id in free],
        )

    def write(self, worker_id: int, now: datetime, read_at: float) -> None:
        """Inside a transaction. It was `now` by the database when our clock showed `read_at`."""
        reports = [_report(held, outcome, now, read_at) for held, outcome in self.ended]
        ledger.report(reports, worker_id=worker_id, now=now)
        for suspect in (False, True):
            works_back = [held.work for held in self.returned if held.suspect is suspect]
            ledger.release(works_back, now=now, in_doubt=suspect)
        back = [*self.returned, *(held for held, _ in self.ended)]
        ledger.distrust([held.work for held in back if held.suspect])
        begun = [(held.work, _moment(held.started, now, read_at)) for held in self.begun]
        ledger.mark_started(begun, now)


def write_alone(held: Held, outcome: Outcome, worker_id: int) -> None:
    """One outcome in a transaction of its own: whole, else bare, else as one that cannot be stored."""
    for version in (outcome, _bare(outcome)):
        try:
            with dialect.turn() as now:
                report = _report(held, version, now, clock.monotonic())
                ledger.report([report], worker_id=worker_id, now=now)
            return
        except Exception as error:
            if not dialect.is_bad_data(error):
                raise
            logger.error("%s #%d cannot be stored: %s", held.work.key, held.work.number, error)
    with dialect.turn() as now:
        ledger.give_up_on(held.work, now)


def _bare(outcome: Outcome) -> Outcome:
    return outcome._replace(
        stdout=Captured(),
        stderr=Captured(),
        error=ascii(outcome.error),
        traceback=ascii(outcome.traceback),
        result=None,
    )


def _report(held: Held, outcome: Outcome, now: datetime, read_at: float) -> Report:
    started = None if outcome.kind is Kind.NOT_STARTED else outcome.started or held.started
    return Report(
        held.work,
        outcome,
        None if started is None else _moment(started, now, read_at),
        _moment(outcome.ended or read_at, now, read_at),
    )


def _moment(then: float | None, now: datetime, read_at: float) -> datetime:
    """A reading of the monotonic clock as a time of the database."""
    return now if then is None else now - timedelta(seconds=read_at - then)
