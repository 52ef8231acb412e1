"""The table of docs/reliability.md, made of what runs have recorded.

python -m tests.chaos.report [DIRECTORY]     takes over the summaries in it, and writes the page
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.chaos.faults import CATALOGUE

RECORDED = Path(__file__).with_name("recorded.json")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
HEAD = """\
| Fault | Database | Runs | Times | Jobs acknowledged | Lost | Run twice without cause | Longest rescue |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def table(summaries: Iterable[dict[str, Any]]) -> str:
    """A row for each fault, or mixture of faults, and database."""
    groups: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    for summary in summaries:
        place, name = _what(list(summary["faults"]))
        groups.setdefault((place, name, summary["database"]), []).append(summary)
    return HEAD + "".join(
        _row(name, base, runs) for (_, name, base), runs in sorted(groups.items())
    )


def _what(faults: list[str]) -> tuple[int, str]:
    """What a run was about, and where it stands in the table."""
    if len(faults) == 1:
        kind = CATALOGUE[faults[0]]
        return list(CATALOGUE).index(kind.name), f"{kind.name} ({kind.number.replace(' ', ', ')})"
    if all(name.startswith("failpoint") for name in faults):
        return len(
            CATALOGUE
        ), f"death, standstill or failure at a place inside, {len(faults)} ways (F2, F3)"
    return len(CATALOGUE) + 1, f"{len(faults)} kinds of faults in turn"


def _row(name: str, database: str, runs: list[dict[str, Any]]) -> str:
    counts = [run["counts"] for run in runs]
    times = sum(sum(run["faults"].values()) for run in runs)
    rescue = max(c["longest_rescue"] for c in counts)
    cells = [
        name, {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[database], len(runs), times,
        sum(c["acknowledged"] for c in counts), sum(c["lost"] for c in counts),
        sum(c["twice_without_cause"] for c in counts), f"{rescue:.1f} s" if rescue else "-",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |\n"


def key(summary: dict[str, Any]) -> str:
    """Runs of the same faults and seed are the same run: the last one counts."""
    return f"{summary['database']} {sorted(summary['faults'])} {summary['seed']}"


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
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + table(ordered) + "\n" + END + rest.partition(END)[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
