"""huey on SQLite: a consumer with two worker processes."""

import os
import sys
from collections.abc import Sequence

import contest

CONSUMER = os.path.join(os.path.dirname(sys.executable), "huey_consumer")


class Huey(contest.Queue):
    def enqueue(self, number: int) -> None:
        from tasks import noop

        noop(number)

    def enqueue_many(self, numbers: Sequence[int]) -> None:
        """In one transaction, by its storage: huey has no bulk enqueue, and loading is not timed."""
        from tasks import huey, noop

        with huey.storage.db(commit=True) as cursor:
            for number in numbers:
                message = huey.serialize_task(noop.s(number))
                cursor.execute(
                    "insert into task (queue, data, priority) values (?, ?, 0)",
                    (huey.storage.name, message),
                )

    def analyze(self) -> None:
        from tasks import huey

        huey.storage.sql("analyze", commit=True)

    def workers(self) -> list[list[str]]:
        polling = ["--delay", "0.01", "--max-delay", "0.1"]
        kind = ["--workers", "2", "--worker-type", "process", "--no-periodic"]
        return [[sys.executable, CONSUMER, "tasks.huey", *kind, *polling, "--quiet"]]

    def recorded(self) -> int:
        from tasks import huey

        return huey.storage.sql("select count(*) from kv", results=True)[0][0]


if __name__ == "__main__":
    contest.main(Huey())
