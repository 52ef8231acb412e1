"""QueueCTL: a job queue for shell commands and Django tasks in the database a site already has."""

__version__ = "0.1.0"
