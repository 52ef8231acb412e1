from __future__ import annotations

from argparse import ArgumentParser


def build(parser: ArgumentParser) -> None:
    parser.set_defaults(verb=lambda options, printer: 1)
