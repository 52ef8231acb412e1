from django.apps import AppConfig
from django.core import checks


class JobsConfig(AppConfig):
    """The reusable app: package `jobs`, label `queuectl`, tables `queuectl_*`."""

    name = "jobs"
    label = "queuectl"
    verbose_name = "QueueCTL"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from .checks import settings

        checks.register(settings)
