"""graphile-worker, in Node.js: two processes of 24 jobs at once, which fetch and complete in batches."""

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import contest

PACKAGES = os.path.join(sys.prefix, "node_modules")
COMMAND = os.path.join(PACKAGES, ".bin", "graphile-worker")
WORKER = os.path.join(os.path.dirname(__file__), "worker.js")

ADD_JOB = "SELECT graphile_worker.add_job('noop', json_build_object('number', %s::int))"
ADD_JOBS = """
SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
    SELECT json_populate_record(
        NULL::graphile_worker.job_spec,
        json_build_object('identifier', 'noop', 'payload', json_build_object('number', number))
    ) FROM unnest(%s::int[]) AS number
))
"""
GONE = """
SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('graphile_worker._private_jobs', 'id')), 0)
    - (SELECT count(*) FROM graphile_worker._private_jobs)
"""


class GraphileWorker(contest.Queue):
    def prepare(self) -> None:
        url = os.environ["BENCH_DATABASE"]
        subprocess.run([COMMAND, "--schema-only", "-c", url], check=True, capture_output=True)

    def enqueue(self, number: int) -> None:
        self.connection.execute(ADD_JOB, [number])

    def enqueue_many(self, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), 1000):
            self.connection.execute(ADD_JOBS, [list(numbers[start : start + 1000])])

    def analyze(self) -> None:
        self.connection.execute("VACUUM ANALYZE")

    def workers(self) -> list[list[str]]:
        os.environ["NODE_PATH"] = PACKAGES
        return [["node", WORKER]] * 2

    def recorded(self) -> int:
        """How many rows are gone of those there have been: a job that succeeded is deleted, one that
        failed for good is kept."""
        return int(self.connection.execute(GONE).fetchone()[0])

    @cached_property
    def connection(self) -> Any:
        import psycopg

        return psycopg.connect(os.environ["BENCH_DATABASE"], autocommit=True)


if __name__ == "__main__":
    contest.main(GraphileWorker())
