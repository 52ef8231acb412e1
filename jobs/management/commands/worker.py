from ...cli import worker
from ...cli.door import Door


class Command(Door):
    help = "Start, stop and list workers."
    build = staticmethod(worker.build)
