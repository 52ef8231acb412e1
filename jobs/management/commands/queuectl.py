from ...cli import tree
from ...cli.door import Door


class Command(Door):
    help = "Everything QueueCTL does, as one command."
    build = staticmethod(tree.build)
