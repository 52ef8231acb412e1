from argparse import ArgumentParser

from ...cli import worker
from ...cli.door import Door


class Command(Door):
    help = "Start, stop and list workers."

    def build(self, parser: ArgumentParser) -> None:
        worker.build(parser)
