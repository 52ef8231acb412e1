"""What the page of results says, and that it is what was measured."""

from pathlib import Path

import pytest

from benchmarks import adoption, targets
from benchmarks.databases import Sqlite
from benchmarks.measuring import Measurement, Series
from benchmarks.report import Results, page, rows

HERE = Path(targets.__file__).parent


def measured(ours: float, rival: float | None = None, *, more: bool = True) -> Measurement:
    theirs = None if rival is None else Series("other", (rival,))
    return Measurement("it", "unit", Series("QueueCTL", (ours,)), theirs, more_is_better=more)


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (measured(8.0, 10.0), True),
        (measured(7.9, 10.0), False),
        (measured(10.0, 8.0, more=False), True),
        (measured(10.0, 7.9, more=False), False),
        (measured(0.8, more=False), True),
        (measured(0.9, more=False), False),
    ],
)
def test_a_target_is_a_ratio_beside_a_rival_and_a_cost_without(
    found: Measurement, met: bool
) -> None:
    assert targets.Target("any", "*", 0.8).is_met(found) is met


def test_every_target_is_of_a_row() -> None:
    known = [(scenario, title) for scenario, title, _ in rows(Results(HERE))]
    scenarios = {scenario for scenario, _ in known}
    hit = {targets.of(scenario, title) for scenario, title in known}
    assert [t for t in targets.TARGETS if t.scenario in scenarios and t not in hit] == []


def test_every_target_that_is_missed_says_what_bounds_it() -> None:
    silent = [
        title
        for scenario, title, found in rows(Results(HERE))
        if (target := targets.of(scenario, title)) and not target.is_met(found) and not target.bound
    ]
    assert silent == []


def test_the_page_is_what_was_measured() -> None:
    assert (HERE / "RESULTS.md").read_text() == page(Results(HERE).stored)


def test_what_adoption_costs_is_measured_on_a_site_with_it_and_on_one_without(
    tmp_path: Path,
) -> None:
    site = adoption.new_site(tmp_path, 1, Sqlite(tmp_path))
    watched = site.environment("sqlite:///x")
    site.watched = False
    changed = dict(site.environment("sqlite:///x").items() ^ watched.items())
    assert changed.keys() == {"DJANGO_SETTINGS_MODULE"}
