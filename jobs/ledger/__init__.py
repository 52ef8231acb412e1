"""What a worker's turn does across tables. Every function runs in the turn's transaction.

Each change of state is one guarded UPDATE whose matched rows are counted. `now` is the
database's time, read once a turn.
"""

from .claiming import claim, claim_at_once, distrust, mark_started
from .housekeeping import PRUNE_BITE, promote, prune
from .living import close, heartbeat, register, rescue, rescue_strays
from .looking import (
    Survey,
    cancel_requests,
    is_claimable,
    is_empty,
    next_due,
    queues_without_rows,
    survey,
)
from .reporting import Report, give_up_on, lock, release, release_unknown, report
from .room import Room
from .spoilt import bury_unreadable, name_queues

__all__ = [
    "PRUNE_BITE",
    "Report",
    "Room",
    "Survey",
    "bury_unreadable",
    "cancel_requests",
    "claim",
    "claim_at_once",
    "close",
    "distrust",
    "give_up_on",
    "heartbeat",
    "is_claimable",
    "is_empty",
    "lock",
    "mark_started",
    "name_queues",
    "next_due",
    "promote",
    "prune",
    "queues_without_rows",
    "register",
    "release",
    "release_unknown",
    "report",
    "rescue",
    "rescue_strays",
    "survey",
]
