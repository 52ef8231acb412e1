from argparse import ArgumentParser

from ...cli import listing
from ...cli.door import Door


class Command(Door):
    help = "Counts by state, queues and workers."

    def build(self, parser: ArgumentParser) -> None:
        listing.build_status(parser)
