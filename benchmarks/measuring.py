"""How figures are taken: alternately, in pairs, with every single one kept."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Figures = dict[str, float]
Side = Callable[[], Figures]


@dataclass(frozen=True)
class Series:
    """The figures of one side, in the order they were taken."""

    label: str
    values: tuple[float, ...]

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass(frozen=True)
class Measurement:
    """One row of the results: ours, and a rival's taken in turn with it."""

    what: str
    unit: str
    ours: Series
    rival: Series | None = None
    more_is_better: bool = True
    notes: tuple[str, ...] = field(default=())

    @property
    def ratios(self) -> tuple[float, ...]:
        """Pair by pair, how many times better ours is: above 1 we are ahead."""
        if self.rival is None:
            return ()
        pairs = zip(self.ours.values, self.rival.values, strict=True)
        return tuple(a / b if self.more_is_better else b / a for a, b in pairs)

    @property
    def median_ratio(self) -> float:
        """Raises StatisticsError where there is no rival."""
        return statistics.median(self.ratios)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Measurement:
        def series(found: dict[str, Any] | None) -> Series | None:
            return Series(found["label"], tuple(found["values"])) if found else None

        ours = series(stored["ours"])
        assert ours is not None
        notes = tuple(stored["notes"])
        return cls(**stored | {"ours": ours, "rival": series(stored["rival"]), "notes": notes})


def alternate(ours: Side, rival: Side, pairs: int) -> tuple[list[Figures], list[Figures]]:
    """A B A B …, so that a machine that slows down slows both."""
    taken: tuple[list[Figures], list[Figures]] = ([], [])
    for _ in range(pairs):
        taken[0].append(ours())
        taken[1].append(rival())
    return taken


def series(label: str, taken: Sequence[Figures], name: str) -> Series:
    return Series(label, tuple(figures[name] for figures in taken))


def percentile(values: Sequence[float], percent: float) -> float:
    """
    >>> percentile([4, 1, 3, 2], 50), percentile([4, 1, 3, 2], 99)
    (2, 4)
    """
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * percent // 100).__int__() - 1)]


def two_digits(number: float) -> int:
    """
    >>> two_digits(12_345), two_digits(87), two_digits(3)
    (12000, 87, 3)
    """
    return int(float(f"{number:.2g}"))
