from django.apps import AppConfig


class JobsConfig(AppConfig):
    """The reusable app: package `jobs`, label `queuectl`, tables `queuectl_*`."""

    name = "jobs"
    label = "queuectl"
    verbose_name = "QueueCTL"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, router  # noqa: F401

        router.install(self.label)
