"""The settings of a site that has asked its database something before its worker starts a process."""

from django.apps import AppConfig

from tests.acceptance.quick import *  # noqa: F403
from tests.acceptance.quick import INSTALLED_APPS as APPS

INSTALLED_APPS = [*APPS, "tests.acceptance.connected.Connected"]


class Connected(AppConfig):
    name = "tests.acceptance"
    label = "connected"

    def ready(self) -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
