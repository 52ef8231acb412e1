"""The tables of docs/reliability.md, made of what runs have recorded.

python -m tests.chaos.report [DIRECTORY]     takes over the summaries in it, and writes the page
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.chaos.faults import CATALOGUE

RECORDED = Path(__file__).with_name("recorded.json")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def _head(*names: str) -> str:
    return f"| {' | '.join(names)} |\n| {' | '.join('---' for _ in names)} |\n"


_COUNTED = ("Jobs acknowledged", "Lost", "Run twice without cause", "Longest rescue")
HEAD = _head("Fault", "Database", "Commit", "Times", "In soaks", *_COUNTED)
SOAKS_HEAD = _head("Database", "Minutes", "Seed", "Commit", "Jobs/s", *_COUNTED, "Faults")
NO_SOAK = "None is recorded yet.\n"


def table(summaries: Iterable[dict[str, Any]]) -> str:
    """A row for each fault, or mixture of faults, and database, with how often soaks had it too."""
    groups: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    in_soaks: dict[str, Counter[str]] = {name: Counter() for name in NAMES}
    for summary in summaries:
        base = summary["database"]
        if summary.get("soak"):
            in_soaks[base].update(summary["faults"])
            continue
        place, name = _what(list(summary["faults"]))
        groups.setdefault((place, name, base), []).append(summary)
    return HEAD + "".join(
        _row(name, base, runs, in_soaks[base]) for (_, name, base), runs in sorted(groups.items())
    )


def soaks(summaries: Iterable[dict[str, Any]]) -> str:
    """A row for each soak."""
    ordered = sorted(
        (run for run in summaries if run.get("soak")), key=lambda r: (r["database"], r["seed"])
    )
    return SOAKS_HEAD + "".join(map(_soak, ordered)) if ordered else NO_SOAK


def _soak(run: dict[str, Any]) -> str:
    counts, rescue = run["counts"], run["counts"]["longest_rescue"]
    cells = [
        NAMES[run["database"]], f"{run['seconds'] / 60:.0f}", run["seed"], run["commit"],
        f"{run['rate']:g}",
        counts["acknowledged"], counts["lost"], counts["twice_without_cause"],
        f"{rescue:.1f} s" if rescue else "-",
        _landed(run["faults"]),
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |\n"


def _landed(faults: dict[str, int]) -> str:
    """A pair is one fault beside another, and each of these is counted under its own name."""
    alone = [times for name, times in faults.items() if not CATALOGUE[name].pair[0]]
    pairs = sum(faults.values()) - sum(alone)
    return f"{sum(alone)} of {len(alone)} kinds, {2 * pairs} of them in pairs"


def _what(faults: list[str]) -> tuple[int, str]:
    """What a run was about, and where it stands in the table."""
    if not faults:
        return -1, "none, one slot, in order"
    if len(faults) == 1:
        kind = CATALOGUE[faults[0]]
        return list(CATALOGUE).index(kind.name), f"{kind.name} ({kind.number.replace(' ', ', ')})"
    if all(name.startswith("failpoint") for name in faults):
        return len(
            CATALOGUE
        ), f"death, standstill or failure at a place inside, {len(faults)} ways (F2, F3)"
    if all(CATALOGUE[name].pair[0] for name in faults):
        return len(CATALOGUE) + 1, f"two faults at once, {len(faults)} pairs (F80)"
    return len(CATALOGUE) + 2, f"{len(faults)} kinds of faults in turn"


def _row(name: str, database: str, runs: list[dict[str, Any]], in_soaks: Counter[str]) -> str:
    counts = [run["counts"] for run in runs]
    times = sum(sum(run["faults"].values()) for run in runs)
    often = sum(in_soaks[fault] for fault in {fault for run in runs for fault in run["faults"]})
    rescue = max(c["longest_rescue"] for c in counts)
    cells = [
        name, NAMES[database], ", ".join(sorted({run["commit"] for run in runs})), times,
        often or "-",
        sum(c["acknowledged"] for c in counts), sum(c["lost"] for c in counts),
        sum(c["twice_without_cause"] for c in counts), f"{rescue:.1f} s" if rescue else "-",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |\n"


def key(summary: dict[str, Any]) -> str:
    """Runs of the same faults and seed are the same run: the last one counts."""
    what = "soak" if summary.get("soak") else sorted(summary["faults"])
    return f"{summary['database']} {what} {summary['seed']}"


def between(text: str, name: str, put: str) -> str:
    """The text with this put between the two marks of that name."""
    begin, end = (f"<!-- {name}: {word} -->\n" for word in ("begin", "end"))
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{put}\n{end}{rest.partition(end)[2]}"


def main() -> int:
    runs = {key(run): run for run in json.loads(RECORDED.read_text())} if RECORDED.exists() else {}
    for directory in sys.argv[1:]:
        for path in sorted(Path(directory).glob("*.json")):
            summary = json.loads(path.read_text())
            if summary["verdict"] != "held":
                sys.stdout.write(f"not taken over, {summary['verdict']}: {path}\n")
                continue
            runs[key(summary)] = summary
    ordered = [runs[name] for name in sorted(runs)]
    lines = ",\n".join(json.dumps(run, sort_keys=True) for run in ordered)
    RECORDED.write_text(f"[\n{lines}\n]\n")
    page = between(PAGE.read_text(), "measured", table(ordered))
    PAGE.write_text(between(page, "soaks", soaks(ordered)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
