from site_settings import *  # noqa: F403
from site_settings import INSTALLED_APPS, LOGGING

INSTALLED_APPS = [*INSTALLED_APPS, "django_ox"]
TASKS = {"default": {"BACKEND": "django_ox.backend.OxBackend", "QUEUES": []}}
LOGGING["loggers"]["django_ox"] = {"level": "WARNING"}
