"""Files of jobs, in and out: the original's jobs.json and config.json, and our own with history.

An import reads and checks everything first, then stores it in one transaction, or nothing.
"""

from .exporting import FORMATS, Exported, export, export_config
from .imported import Imported, Skipped
from .importing import import_file

__all__ = ["FORMATS", "Exported", "Imported", "Skipped", "export", "export_config", "import_file"]
