"""Celery with Redis: two workers of one process each (pool solo, faster here than prefork)."""

import sys

import contest

QUIET = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]


class CeleryQueue(contest.Queue):
    def prepare(self) -> None:
        self._results().flushall()

    def enqueue(self, number: int) -> None:
        from tasks import noop

        noop.delay(number)

    def workers(self) -> list[list[str]]:
        worker = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-P", "solo", *QUIET]
        return [[*worker, "-n", name] for name in ("one", "two")]

    def recorded(self) -> int:
        return self._results().dbsize()

    def _results(self):
        import redis
        from tasks import SOCKET

        return redis.Redis(unix_socket_path=SOCKET, db=1)


if __name__ == "__main__":
    contest.main(CeleryQueue())
