"""The admin as a window with buttons: nothing is edited in a form, `operations` does what is done."""

from .events import EventAdmin
from .jobs import JobAdmin
from .queues import QueueAdmin
from .settings import SettingAdmin
from .workers import WorkerAdmin

__all__ = ["EventAdmin", "JobAdmin", "QueueAdmin", "SettingAdmin", "WorkerAdmin"]
