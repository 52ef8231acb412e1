"""The tables, a page each: its fields, its constraints and what one table can do by itself."""

from .attempt import Attempt
from .event import Event
from .job import Job
from .legible import Legible
from .output import Output, Stream
from .queue import Queue
from .setting import Setting
from .worker import StopMode, Worker

__all__ = ["Attempt", "Event", "Job", "Output", "Queue", "Setting", "StopMode", "Stream", "Worker"]

for _model in Legible.__subclasses__():
    # By which Django follows a key and reads a row anew. Said in their Meta it would take a migration.
    _model._meta.base_manager_name = "objects"
