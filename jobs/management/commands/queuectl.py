from ...cli.tree import Umbrella


class Command(Umbrella):
    pass
