"""Signals by which people and service managers end a program, and a process that they are not meant for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

USUAL: dict[signal.Signals, Callable[..., Any] | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
"""What each does to a program in Python."""


@dataclass(frozen=True)
class _Deaf:
    """A handler, not SIG_IGN: what this process starts would ignore them too."""

    home: int

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.home:  # forked without Python
            hear_again()
            signal.raise_signal(number)


def be_deaf() -> None:
    """Let these signals do nothing to this process. Programs that it starts hear them."""
    for number in USUAL:
        signal.signal(number, _Deaf(os.getpid()))


def hear_again() -> None:
    """In what a deaf process forked: whoever wants to end it does so by these signals."""
    for number, usual in USUAL.items():
        if isinstance(signal.getsignal(number), _Deaf):
            signal.signal(number, usual)
