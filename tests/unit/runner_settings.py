"""The host project with a short patience, for command runners that tests start.

TEST_QUEUECTL, a JSON object, changes single settings.
"""

import json
import os

from queuectl_project.settings import *  # noqa: F403

DATABASES = {}
QUEUECTL = {
    "KILL_SECONDS": 1,
    "OUTPUT_LIMIT_BYTES": 65_536,
    "COMMAND_ENV": ["PATH", "HOME", "SHOWN_*"],
    "COMMAND_ENV_EXCLUDE": ["*SECRET*"],
    **json.loads(os.environ.get("TEST_QUEUECTL", "{}")),
}
