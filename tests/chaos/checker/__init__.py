"""The invariants, each a pure function over a history that yields what contradicts it.

A number is that of the invariant. A run in which what was planned did not happen proves
nothing: it is invalid, whatever the invariants say.
"""

from tests.chaos.checker import going_on, left, line, outcomes, rescues, stored, twice
from tests.chaos.checker.outcomes import digest, printed
from tests.chaos.checker.reckoning import FINAL
from tests.chaos.checker.registry import INVARIANTS
from tests.chaos.checker.verdict import Verdict, check

ROOMS = (stored, outcomes, twice, rescues, line, going_on, left)

__all__ = ["FINAL", "INVARIANTS", "ROOMS", "Verdict", "check", "digest", "printed"]
