"""The results as a page to read: RESULTS.md, rendered from results.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import chart, targets
from .measuring import Measurement, Series
from .scenarios import SCENARIOS, Scenario

INTRODUCTION = """\
Measured with `make bench` and `make bench-peers`; [README.md](README.md) says how to read it. Only
ratios taken in one run mean anything: above 1 QueueCTL is ahead, whichever way the figure counts.
Three figures are minimum / **median** / maximum. A target is one for the median unless it says
`always`; where it is missed the table says so, and below it stands what bounds the figure.
"""


class Results:
    """What has been measured, kept after every scenario, so that one can be measured again alone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "results.json"
        self.stored: dict[str, Any] = {"machine": {}, "scenarios": {}}
        if self.file.exists():
            self.stored = json.loads(self.file.read_text())

    def describe(self, machine: Mapping[str, str]) -> None:
        self.stored["machine"] = dict(machine)

    def keep(
        self,
        scenario: Scenario,
        found: Sequence[Measurement],
        skipped: Sequence[tuple[str, str]],
        circumstances: Mapping[str, str],
    ) -> None:
        self.stored["scenarios"][scenario.name] = {
            "circumstances": dict(circumstances),
            "measurements": [measurement.as_dict() for measurement in found],
            "skipped": [list(pair) for pair in skipped],
        }
        self.write()

    def write(self) -> None:
        """Make the page and the chart of what there is."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.stored, indent=1) + "\n")
        (self.directory / "RESULTS.md").write_text(page(self.stored))
        compared = [m for _, part in _parts(self.stored) for m in _measurements(part) if m.rival]
        (self.directory / "results.svg").write_text(chart.draw(compared))


def page(stored: Mapping[str, Any]) -> str:
    """All of it, scenario by scenario."""
    lines = ["# Results", "", INTRODUCTION]
    lines += ["![How many times QueueCTL is ahead, pair by pair](results.svg)", ""]
    lines += _table(("The machine", ""), stored["machine"].items())
    for scenario, part in _parts(stored):
        lines += [f"## {scenario.title}", "", scenario.explanation, ""]
        lines += _figures(scenario.name, _measurements(part))
        for what, why in part["skipped"]:
            lines.append(f"- **Not measured**: {what}: {why}")
        lines += [""] if part["skipped"] else []
        said = "; ".join(f"{name} {value}" for name, value in part["circumstances"].items())
        lines += [f"<sub>{said}</sub>", ""]
    if absent := [s.title for s in SCENARIOS if s.name not in stored["scenarios"]]:
        lines += ["## Not measured", "", *(f"- {title}" for title in absent)]
    return "\n".join(lines).rstrip() + "\n"


def rows(results: Results) -> Iterator[tuple[str, str, Measurement]]:
    """Scenario, title and figures of every row."""
    for scenario, part in _parts(results.stored):
        for measurement in _measurements(part):
            yield scenario.name, _title(measurement), measurement


def _parts(stored: Mapping[str, Any]) -> list[tuple[Scenario, dict[str, Any]]]:
    return [(s, stored["scenarios"][s.name]) for s in SCENARIOS if s.name in stored["scenarios"]]


def _measurements(part: Mapping[str, Any]) -> list[Measurement]:
    return [Measurement.from_dict(stored) for stored in part["measurements"]]


def _figures(scenario: str, measurements: Sequence[Measurement]) -> list[str]:
    """A table; a note that all its rows share stands below it once, and why a target is missed."""
    if not measurements:
        return []
    shared = [n for n in measurements[0].notes if all(n in m.notes for m in measurements)]
    heads = ["", "unit", "QueueCTL", "the other", "times ahead", "target", "pair by pair", "notes"]
    rows = [_row(scenario, measurement, shared) for measurement in measurements]
    kept = [column for column in range(len(heads)) if column < 3 or any(r[column] for r in rows)]
    lines = _table([heads[c] for c in kept], [[row[c] for c in kept] for row in rows])
    below = [f"Each: {note}." for note in shared] + _missed(scenario, measurements)
    return lines + [line for said in below for line in (said, "")]


def _missed(scenario: str, measurements: Sequence[Measurement]) -> list[str]:
    """What bounds the figures that miss their target, each reason once."""
    bounds: dict[str, None] = {}
    for m in measurements:
        target = targets.of(scenario, _title(m))
        if target and target.bound and not target.is_met(m):
            bounds[target.bound] = None
    return [f"What bounds it: {bound}" for bound in bounds]


def _title(m: Measurement) -> str:
    return f"{m.what}, against {m.rival.label}" if m.rival else m.what


def _row(scenario: str, measurement: Measurement, shared: Sequence[str]) -> list[str]:
    m, rival = measurement, measurement.rival
    target = targets.of(scenario, _title(m))
    return [
        _title(m),
        m.unit,
        _three(m.ours),
        _three(rival) if rival else "",
        _ratio(m),
        target.said(m) if target else "",
        " ".join(f"{ratio:.2f}" for ratio in m.ratios),
        "; ".join(note for note in m.notes if note not in shared),
    ]


def _three(found: Series) -> str:
    return f"{number(found.low)} / **{number(found.median)}** / {number(found.high)}"


def _ratio(measurement: Measurement) -> str:
    ratios = Series("", measurement.ratios)
    return (
        f"{ratios.low:.2f} / **{ratios.median:.2f}** / {ratios.high:.2f}" if ratios.values else ""
    )


def number(value: float) -> str:
    """
    >>> number(12_345.6), number(12.34), number(0.1234)
    ('12,346', '12.3', '0.12')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [*lines, *(f"| {' | '.join(row)} |" for row in cells), ""]
