"""What ended commands of a runner leave behind outside their sessions."""

from __future__ import annotations

import math
import signal
from collections.abc import Collection

from ..execution import processes

SWEEP_SECONDS = 0.5


class Sweep:
    """Looks for it twice a second, from the end of a command until nothing is found."""

    def __init__(self) -> None:
        self.at = math.inf
        """When it looks next."""

    def is_awaited(self) -> bool:
        return self.at < math.inf

    def expect(self, now: float) -> None:
        """A command has ended."""
        if not self.is_awaited():
            self.at = now + SWEEP_SECONDS

    def expect_nothing(self) -> None:
        """Strays become the runner's children, and it has none."""
        self.at = math.inf

    def kill_strays(self, now: float, pids: Collection[int], leases: Collection[str]) -> None:
        """If it is time, and not what belongs to the commands that run, which have these pids and leases.

        A stray is its owner's by the mark in its environment. One without a mark cannot be told
        apart while others run, and goes when none does.
        """
        if now < self.at:
            return
        among = processes.processes()
        strays = processes.strays(pids, among)
        owners = {stray: processes.lease_of(stray) for stray in strays}
        spared = {s for s, lease in owners.items() if lease in leases or (not lease and leases)}
        left = processes.descendants(strays - spared, among)
        processes.send_seen(processes.eldest_first(left, among), signal.SIGKILL)
        self.at = now + SWEEP_SECONDS if strays else math.inf
