"""pgqueuer with asyncpg and uvloop: two processes, batches of 100."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import contest

COMMAND = [sys.executable, "-m", "pgqueuer"]
WORKER = os.path.join(os.path.dirname(__file__), "worker.py")


class Pgqueuer(contest.Queue):
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.connection: Any = None

    def prepare(self) -> None:
        url = os.environ["BENCH_DATABASE"]
        subprocess.run([*COMMAND, "--pg-dsn", url, "install"], check=True, capture_output=True)

    def enqueue(self, number: int) -> None:
        self.run(self.queries().enqueue("noop", str(number).encode()))

    def enqueue_many(self, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), 1000):
            chunk = numbers[start : start + 1000]
            payloads = [str(number).encode() for number in chunk]
            names, priorities = ["noop"] * len(chunk), [0] * len(chunk)
            self.run(self.queries().enqueue(names, payloads, priorities))

    def analyze(self) -> None:
        self.queries()
        self.run(self.connection.execute("VACUUM ANALYZE"))

    def workers(self) -> list[list[str]]:
        return [[sys.executable, WORKER], [sys.executable, WORKER]]

    def recorded(self) -> int:
        self.queries()
        statement = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"
        return self.run(self.connection.fetchval(statement))

    def queries(self) -> Any:
        from pgqueuer.db import AsyncpgDriver
        from pgqueuer.queries import Queries

        if self.connection is None:
            import asyncpg

            self.connection = self.run(asyncpg.connect(os.environ["BENCH_DATABASE"]))
            self.driver = self.run(self._driver(AsyncpgDriver))
        return Queries(self.driver)

    async def _driver(self, kind: Any) -> Any:
        return kind(self.connection)

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)


if __name__ == "__main__":
    contest.main(Pgqueuer())
