from argparse import ArgumentParser

from ...cli import dlq
from ...cli.door import Door


class Command(Door):
    help = "The dead letter queue: list, retry, discard."

    def build(self, parser: ArgumentParser) -> None:
        dlq.build(parser)
