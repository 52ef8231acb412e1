"""The host project with a short patience, for command runners that tests start."""

from queuectl_project.settings import *  # noqa: F403

DATABASES = {}
QUEUECTL = {
    "KILL_SECONDS": 1,
    "OUTPUT_LIMIT_BYTES": 65_536,
    "COMMAND_ENV": ["PATH", "HOME", "SHOWN_*"],
    "COMMAND_ENV_EXCLUDE": ["*SECRET*"],
}
