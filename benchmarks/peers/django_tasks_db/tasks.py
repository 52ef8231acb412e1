import tally
from django.tasks import task


@task
def noop(number: int) -> None:
    tally.mark(number)
