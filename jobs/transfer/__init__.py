"""Files of jobs, in and out: the original's jobs.json and config.json, and our own with history.

An import reads and checks everything first, then stores it in one transaction, or nothing.
"""

from .exporting import FORMATS, Exported, export, export_config
from .importing import Imported, Skipped, import_file

__all__ = ["FORMATS", "Exported", "Imported", "Skipped", "export", "export_config", "import_file"]
