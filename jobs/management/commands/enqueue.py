from ...cli import enqueue
from ...cli.door import Door


class Command(Door):
    help = "Put jobs in the queue."
    build = staticmethod(enqueue.build)
