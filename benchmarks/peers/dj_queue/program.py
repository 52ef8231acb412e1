"""dj-queue: one supervisor, two processes of four threads."""

from collections.abc import Sequence

import contest
from django_queue import DjangoQueue, manage


class DjQueue(DjangoQueue):
    def enqueue_chunk(self, numbers: Sequence[int]) -> None:
        from tasks import noop

        noop.get_backend().enqueue_all([(noop, [number], {}) for number in numbers])

    def workers(self) -> list[list[str]]:
        return [manage("dj_queue", "--only-work")]

    def recorded(self) -> int:
        from dj_queue.models import Job

        return Job.objects.filter(finished_at__isnull=False).count()


if __name__ == "__main__":
    contest.main(DjQueue())
