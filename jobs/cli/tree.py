"""All verbs of `queuectl`, and which of them stand alone under manage.py."""

from __future__ import annotations

from argparse import ArgumentParser
from importlib import import_module

from . import jobs
from .door import Door

TOP = {
    "enqueue": ("enqueue", "build", "put jobs in the queue"),
    "worker": ("worker", "build", "start, stop and list workers"),
    "status": ("listing", "build_status", "counts by state, queues and workers"),
    "list": ("listing", "build_list", "jobs, by state"),
    "job": ("jobs", "build", "one job: show, output, cancel, retry, run-now, discard"),
    "dlq": ("dlq", "build", "the dead letter queue: list, retry, discard"),
    "queue": ("queues", "build", "queues: list, pause, resume"),
    "config": ("config", "build", "settings that running workers obey"),
    "metrics": ("listing", "build_metrics", "success rate and run times"),
    "import": ("transfer", "build_import", "jobs and settings from a file, all or nothing"),
    "export": (
        "transfer",
        "build_export",
        "all jobs to a file, in our format or the original's",
    ),
    "web": ("web", "build", "serve the web page and the admin on this machine"),
    "demo": ("demo", "build", "sample jobs, a worker and the web server, to try things out"),
}
"""Where the arguments of each are, by name: a command imports no room but its own."""


class Umbrella(Door):
    """Every verb, and the verbs of `job` without their group too."""

    help = "Everything QueueCTL does, as one command."

    def build(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
        for name, (module, function, text) in TOP.items():
            child = verbs.add_parser(name, help=text, description=text.capitalize() + ".")
            if self.may_be_meant(name):
                getattr(import_module(f".{module}", __package__), function)(child)
        jobs.add_verbs(verbs, listed=False)
