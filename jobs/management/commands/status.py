from ...cli import listing
from ...cli.door import Door


class Command(Door):
    help = "Counts by state, queues and workers."
    build = staticmethod(listing.build_status)
