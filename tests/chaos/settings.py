"""The settings of the programs of a run: short timings, and the room that breaks them on request."""

from tests.acceptance.quick import *  # noqa: F403
from tests.acceptance.quick import INSTALLED_APPS as HOST

INSTALLED_APPS = [*HOST, "tests.chaos.inside.Inside"]
