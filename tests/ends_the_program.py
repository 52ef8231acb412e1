"""A module of a site that is not set up, and ends whatever imports it."""

import sys

sys.exit("configure me")
