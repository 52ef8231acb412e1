"""Settings of a site whose apps start a thread: its worker cannot fork, and starts its processes afresh."""

from threading import Event, Thread

from django.apps import AppConfig

from tests.acceptance.quick import *  # noqa: F403
from tests.acceptance.quick import INSTALLED_APPS as _APPS


class Threaded(AppConfig):
    name = "tests.acceptance"
    label = "threaded"

    def ready(self) -> None:
        Thread(target=Event().wait, daemon=True).start()


INSTALLED_APPS = [*_APPS, "tests.acceptance.threaded.Threaded"]
