from ...cli import dlq
from ...cli.door import Door


class Command(Door):
    help = "The dead letter queue: list, retry, discard."
    build = staticmethod(dlq.build)
