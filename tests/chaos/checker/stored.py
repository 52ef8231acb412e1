"""Nothing is lost, and nothing made up."""

from collections import Counter
from collections.abc import Iterator

from tests.chaos.checker.reckoning import FINAL
from tests.chaos.checker.registry import invariant
from tests.chaos.history import History, by_key


@invariant("I1")
def what_was_acknowledged_is_stored_once(h: History) -> Iterator[str]:
    stored = Counter(job.key for job in h.jobs)
    for key in sorted({c.key for c in h.calls if c.op == "enqueue" and c.answer == "ok"}):
        if stored[key] != 1:
            yield f"{key} was acknowledged and is stored {stored[key]} times"


@invariant("I1b")
def a_row_holds_what_was_asked_for(h: History) -> Iterator[str]:
    """By which others are judged: what would be wrong in it would be so there."""
    planned = {p.key: p for p in h.planned}
    for job in h.jobs:
        if plan := planned.get(job.key):
            asked = (plan.max_retries, plan.priority, plan.unique)
            stored = (job.max_retries, job.priority, job.unique)
            if asked != stored:
                yield f"{job.key} has retries, priority and unique key {stored}, not {asked}"


@invariant("I2")
def what_is_stored_was_asked_for(h: History) -> Iterator[str]:
    asked = {call.key for call in h.calls if call.op == "enqueue"}
    yield from (
        f"{job.key} is stored, and nobody asked for it" for job in h.jobs if job.key not in asked
    )


@invariant("I3")
def an_answer_in_doubt_left_at_most_one_job_and_a_refusal_none(h: History) -> Iterator[str]:
    stored = Counter(job.key for job in h.jobs)
    for key, calls in by_key([c for c in h.calls if c.op == "enqueue"]).items():
        answers = {call.answer for call in calls}
        if stored[key] > (0 if answers == {"fail"} else 1):
            yield f"{key} was answered {sorted(answers)} and is stored {stored[key]} times"


@invariant("I4")
def every_job_has_ended(h: History) -> Iterator[str]:
    if h.drained is None:
        yield "the queue was not empty in time"
    for job in h.jobs:
        if job.state not in FINAL or job.has_lease:
            lease = ", with a lease" if job.has_lease else ""
            yield f"{job.key} is still {job.state}{lease}"
