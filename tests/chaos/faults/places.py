"""Failpoints: a worker more, that dies, stops or fails at one place inside."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

from tests.acceptance.site import signal_all
from tests.chaos import failpoints, fleet
from tests.chaos.faults.kinds import Arena, fault, killed
from tests.support import wait_until

_RUNNERS = ("before_start", "after_start", "after_exit")


def _failpoint(text: str) -> None:
    place, action = text.split(":")
    rescues = "rescue" in place
    consequences = ("loses", "interrupts")
    if action == "raise" and place not in _RUNNERS and place != "boot":
        consequences = ()
    if rescues:
        consequences = ("loses", "interrupts", "overlaps", "away")

    def strike(arena: Arena, _: str) -> Iterator[str]:
        name = arena.fleet.start(
            f"x{arena.fleet.started}", CHAOS_FAILPOINT=text, CHAOS_MARKERS=str(arena.markers)
        )
        marker = arena.markers / text.replace(":", "-")
        if rescues:
            arena.fleet.wait_ready([name])
            _leave_alone(arena, name)
        with suppress(AssertionError):
            wait_until(marker.exists, timeout=10)
        pids = marker.read_text().split() if marker.exists() else []
        yield f"{name} {pids}" if pids else ""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGCONT)
        worker = arena.fleet.forget(name)
        worker.terminate()
        worker.wait(arena.bounds.grace + arena.bounds.kill + 20)
        # Not before: without it the next process to come by would think it the first.
        marker.unlink(missing_ok=True)

    holds = 8.0 if action.startswith("stop") else 0.5
    fault(
        f"failpoint {text}", "F2", *consequences, holds=holds, takes=5.0, brings=not rescues, aims=False,
    )(strike)  # fmt: skip


def _leave_alone(arena: Arena, name: str) -> None:
    """All other workers die with what they run, so that this one has to rescue it."""
    others = [other for other in arena.fleet.workers if other != name]
    arena.killed.update(others)
    found = [part for other in others for part in fleet.parts(arena.fleet.workers[other])]
    signal_all(found, signal.SIGSTOP)
    killed(found)
    for other in others:
        arena.fleet.forget(other).wait(10)


for _place in failpoints.PLACES:
    # Those that few pass, and others than workers, have faults and tests of their own, as have signals.
    if _place not in (
        *(
            "in_prune",
            "in_cancel",
            "in_import",
            "in_export",
            "before_rescue",
            "after_release_commit",
        ),
        *("in_claim", "in_report", "after_report_commit"),
    ):
        for _action in ("kill9", "stop", "raise"):
            _failpoint(f"{_place}:{_action}")

# The first turn of a ledger registers it; a later one stands still with claims that are not committed.
for _turn in (4, 7):
    _failpoint(f"before_turn_commit:stop@{_turn}")
