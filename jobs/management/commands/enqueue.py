from argparse import ArgumentParser

from ...cli import enqueue
from ...cli.door import Door


class Command(Door):
    help = "Put jobs in the queue."

    def build(self, parser: ArgumentParser) -> None:
        enqueue.build(parser)
