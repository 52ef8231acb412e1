from site_settings import *  # noqa: F403
from site_settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "jobs"]
TASKS = {"default": {"BACKEND": "jobs.backend.QueueCTLBackend", "QUEUES": []}}
