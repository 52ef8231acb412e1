"""What is there when all is over: nothing but what was to be."""

from collections import Counter
from collections.abc import Iterator

from tests.chaos.checker.registry import invariant
from tests.chaos.history import History, Usage


@invariant("I16")
def nothing_is_left_behind(h: History) -> Iterator[str]:
    yield from (left for left in h.residue if not _is_back(h, left))


JOURNAL_SECONDS = 5.0
JOURNAL_LOST = ("power-loss", "read-only-disk")


def _is_back(h: History, left: str) -> bool:
    """A lock file that had been removed: the file system ended before it had written that down."""
    gone = [
        w.stopped_at
        for w in h.workers
        if left.startswith("lock file") and left.endswith(f" of {w.name}")
    ]
    losses = [f.began for f in h.faults if f.name in JOURNAL_LOST and f.landed]
    return any(
        0 <= loss - at <= JOURNAL_SECONDS for at in gone if at is not None for loss in losses
    )


FDS_MORE, MEMORY_MORE = 6, 40
"""Descriptors and MB that a process may hold more of than when it was new: caches, and what it has
imported since."""


@invariant("I16b")
def a_worker_holds_no_more_than_when_it_was_new(h: History) -> Iterator[str]:
    new: dict[str, Usage] = {}
    for usage in h.base:
        kept = new.setdefault(usage.part, usage)
        new[usage.part] = usage if usage.fds > kept.fds else kept
    # A task runner is made when it is needed, of the same supervisor as a command runner.
    if "runner" in new:
        new.setdefault("tasks", new["runner"])
    for usage in h.usage:
        if (base := new.get(usage.part)) is None:
            continue
        of_tasks = usage.task_runners if usage.part in ("supervisor", "ledger") else 0
        if usage.fds > base.fds + of_tasks + FDS_MORE:
            yield f"the {usage.part} of {usage.worker} has {usage.fds} descriptors, new {base.fds}"
        if usage.rss > base.rss + MEMORY_MORE:
            yield f"the {usage.part} of {usage.worker} has {usage.rss} MB, new {base.rss}"
    there, may = h.connections
    if there > may:
        yield f"{there} connections, where {may} are all that may be"


@invariant("I17")
def the_database_is_whole(h: History) -> Iterator[str]:
    yield from h.damage
    keys = {job.key for job in h.jobs}
    yield from (
        f"an attempt of {a.key}, which is not there" for a in h.attempts if a.key not in keys
    )


@invariant("I19")
def what_a_person_did_has_one_event(h: History) -> Iterator[str]:
    events = Counter((e.action, e.key) for e in h.events)
    calls = Counter((c.op, c.key, c.answer) for c in h.calls if c.op != "enqueue")
    for action, key in sorted({*events, *((op, key) for op, key, _ in calls)}):
        sure, doubt = calls[action, key, "ok"], calls[action, key, "info"]
        if not sure <= events[action, key] <= sure + doubt:
            yield f"{action} {key}: {sure} done, {doubt} in doubt, {events[action, key]} events"


@invariant("I20")
def no_secret_is_told(h: History) -> Iterator[str]:
    yield from h.leaks


@invariant("I23")
def no_worker_complains_or_ends_by_itself(h: History) -> Iterator[str]:
    yield from h.complaints
