from site_settings import *  # noqa: F403
from site_settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "dj_queue"]
TASKS = {
    "default": {
        "BACKEND": "dj_queue.backend.DjQueueBackend",
        "QUEUES": [],
        "OPTIONS": {
            # The best of the shapes tried: 1 to 4 processes, 1 to 8 threads, prefetch 2 to 100.
            "workers": [
                {
                    "queues": ["*"],
                    "processes": 2,
                    "threads": 4,
                    "prefetch_multiplier": 25,
                    "polling_interval": 0.05,
                }
            ],
        },
    }
}
