"""django-ox: a supervisor with two processes of two threads."""

from collections.abc import Sequence

import contest
from django_queue import DjangoQueue, manage


class DjangoOx(DjangoQueue):
    def enqueue_chunk(self, numbers: Sequence[int]) -> None:
        from django_ox.bulk import enqueue_many
        from tasks import noop

        enqueue_many(noop, [([number], {}) for number in numbers])

    def workers(self) -> list[list[str]]:
        return [manage("ox_worker", "--processes", "2", "--concurrency", "2", "--interval", "0.05")]

    def recorded(self) -> int:
        from django_ox.models import OxTask

        return OxTask.objects.filter(status="SUCCESSFUL").count()


if __name__ == "__main__":
    contest.main(DjangoOx())
