"""django-tasks-db: two workers, which each run one task at a time."""

import contest
from django_queue import DjangoQueue, manage

WORKER = ["db_worker", "--interval", "0.05", "--no-startup-delay", "--verbosity", "0"]


class DjangoTasksDb(DjangoQueue):
    def workers(self) -> list[list[str]]:
        return [manage(*WORKER), manage(*WORKER)]

    def recorded(self) -> int:
        from django_tasks_db.models import DBTaskResult

        return DBTaskResult.objects.successful().count()


if __name__ == "__main__":
    contest.main(DjangoTasksDb())
