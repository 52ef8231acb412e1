"""The project's settings with short timings, for tests that wait until they have passed.

TEST_QUEUECTL, a JSON object, changes single ones.
"""

import json
import os

from queuectl_project.settings import *  # noqa: F403
from queuectl_project.settings import QUEUECTL as PROJECT

QUEUECTL = {
    **PROJECT,
    "LEASE_SECONDS": 5,
    "HEARTBEAT_SECONDS": 1,
    "RESCUE_SECONDS": 1,
    "FENCE_MARGIN_SECONDS": 1,
    "KILL_SECONDS": 1,
    "GRACE_SECONDS": 3,
    "DUMPABLE": os.geteuid() != 0,  # tests look for the ledger by its open files
    **json.loads(os.environ.get("TEST_QUEUECTL", "{}")),
}
