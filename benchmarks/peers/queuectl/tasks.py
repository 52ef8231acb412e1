import tally

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task


@task
def noop(number: int) -> None:
    tally.mark(number)
