"""The original's files: jobs.json, an object id -> job with sixteen keys, and config.json with four."""

from .common import STATES
from .config import CONFIG, config_entries, config_object, config_records, setting
from .reading import CONTENT, KEYS, entries, is_same, records
from .writing import WRITTEN, job_object

__all__ = [
    "CONFIG",
    "CONTENT",
    "KEYS",
    "STATES",
    "WRITTEN",
    "config_entries",
    "config_object",
    "config_records",
    "entries",
    "is_same",
    "job_object",
    "records",
    "setting",
]
