"""A queue that is a Django app: what all of them share."""

import sys
from collections.abc import Sequence

import contest


def manage(*words: str) -> list[str]:
    return [sys.executable, "-m", "django", *words]


class DjangoQueue(contest.Queue):
    def __init__(self) -> None:
        import django

        django.setup()

    def prepare(self) -> None:
        from django.core.management import call_command

        call_command("migrate", verbosity=0)

    def enqueue(self, number: int) -> None:
        from tasks import noop

        noop.enqueue(number)

    def enqueue_many(self, numbers: Sequence[int]) -> None:
        from django.db import transaction

        for start in range(0, len(numbers), 1000):
            with transaction.atomic():
                self.enqueue_chunk(numbers[start : start + 1000])

    def enqueue_chunk(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.enqueue(number)

    def analyze(self) -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("ANALYZE" if connection.vendor == "sqlite" else "VACUUM ANALYZE")
