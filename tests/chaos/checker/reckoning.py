"""What several invariants need to know of a history: causes, and time that does not count."""

from collections.abc import Iterable

from tests.chaos.history import Attempt, Effect, Fault, History, Job

CLOCKS_DIFFER = 0.1
"""Seconds: times of rows were converted from another clock, effects are written a moment late."""

FINAL = ("completed", "dead", "cancelled")
UPTIME_TICK = 0.01
"""Seconds: a shell reads its start from /proc/uptime, where the last part is cut off."""


def stored_by(h: History, job: Job) -> float:
    """When a job was stored at the latest: it is made before it waits for a database that is away."""
    return max(
        [job.created_at]
        + [
            f.ended
            for f in h.faults
            if f.landed and "away" in f.may and f.began - CLOCKS_DIFFER <= job.created_at <= f.ended
        ]
    )


def starts_of(h: History) -> list[Effect]:
    return [e for e in h.effects if e.what == "start"]


REPORTED_WITHIN = 1.0
"""Seconds from the end of a run to the commit that says so."""


def reported_by(h: History, a: Attempt) -> float:
    """When the outcome of an attempt was stored at the latest: it waits while nobody can store it."""
    return _stored_at_latest(h, a.worker, a.finished_at, REPORTED_WITHIN)


def _stored_at_latest(h: History, worker: str, ended: float, within: float) -> float:
    latest = ended + within
    for f in sorted(h.faults, key=lambda f: f.began):
        held_up = "away" in f.may or ("stands" in f.may and f.reaches(worker))
        if f.landed and held_up and f.began <= latest and f.ended >= ended:
            latest = max(latest, f.ended + within)
    return latest


TURN_SECONDS = 5.0
"""What a statement of a turn may take."""


def outcome_due(h: History, start: Effect, end: float) -> float:
    """When the outcome of a run that ended then was surely stored, had its worker lived."""
    return _stored_at_latest(h, start.worker, end, REPORTED_WITHIN + TURN_SECONDS)


STARTS_LATE = 3.0
"""Seconds after which a command that was spawned has said that it started."""


def strikes_within(fault: Fault, since: float, until: float) -> bool:
    return fault.began - CLOCKS_DIFFER <= until and since <= fault.ended + STARTS_LATE


def deaths_of(h: History) -> list[Fault]:
    """Faults that may lose attempts."""
    return [f for f in h.faults if f.landed and "loses" in f.may]


def explains(h: History, fault: Fault, attempt: Attempt) -> bool:
    """Whether an attempt ended soon enough after a fault of its worker to have ended by it."""
    since, lasted = attempt.finished_at - fault.began, fault.ended - fault.began
    if not fault.reaches(attempt.worker) or since < -CLOCKS_DIFFER:
        return False
    if lasted < _least(h, fault, attempt.outcome):
        return False
    over = since - lasted - h.bounds.rescued_within
    return over <= 0 or over <= time_away(h, fault, attempt.worker, attempt.finished_at)


KILLERS = ("power-loss", "failpoint")
"""Faults for which the database is away and which kill workers, the others of a rescuer too."""


def _least(h: History, fault: Fault, outcome: str) -> float:
    """How long the database has to be away before that costs anybody an attempt."""
    if "away" not in fault.may or fault.target or fault.name.startswith(KILLERS):
        return 0.0
    left = h.bounds.lease - h.bounds.heartbeat
    if outcome == "lost":
        return left
    # A runner ends its commands before; and who has asked in vain waits for a moment before it asks again.
    return left - h.bounds.margin - h.bounds.kill - 1.0


def time_away(h: History, death: Fault, worker: str, until: float) -> float:
    """Seconds since that death in which no bound held: while the database was away, and while those
    that had asked for it in vain, ever less often, waited to ask again.
    """
    # With SQLite's write lock one that stands still keeps all from writing.
    one_writer = h.database == "sqlite"
    spans = [
        (f.began, f.ended + (min(30.0, (f.ended - f.began) / 2) if "away" in f.may else 0.0))
        for f in h.faults
        if f != death
        and f.landed
        and ("away" in f.may or ("stands" in f.may and (one_writer or f.target == worker)))
    ]
    return _within(spans, death.began, until)


def _within(spans: Iterable[tuple[float, float]], began: float, ended: float) -> float:
    """How many seconds between two moments fall into at least one of these spans."""
    covered, at = 0.0, began
    for begin, end in sorted(spans):
        begin, end = max(begin, at), min(end, ended)
        if end > begin:
            covered, at = covered + end - begin, end
    return covered


def lateness(h: History, due: float, at: float, worker: str = "") -> float:
    """Seconds from one moment to another in which the database was there, and that worker could act."""
    spans = [
        (f.began, f.ended)
        for f in h.faults
        if f.landed
        and (
            "away" in f.may
            or ("stands" in f.may and worker and f.reaches(worker))
            or ("stands" in f.may and keeps_all_from_writing(h, f))
        )
    ]
    return at - due - _within(spans, due, at)


MARGIN_SECONDS = 0.5
"""After the beginning of a stop a call may have begun that was not to come to its end."""


def keeps_all_from_writing(h: History, stop: Fault) -> bool:
    """Whether somebody was stopped with SQLite's write lock: the client, who waits for it, calls nobody."""
    if h.database != "sqlite" or stop.ended - stop.began < 2 * MARGIN_SECONDS:
        return False
    waits = [c for c in h.calls if stop.began + MARGIN_SECONDS < c.began < stop.ended]
    return not waits and any(c.began >= stop.ended for c in h.calls)
