"""Run workers under attack and check what is left.

python -m tests.chaos --database sqlite --seconds 20 --seed 1 --faults kill-worker,pause-short
"""

import argparse
import json
import random
import re
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import commit
from tests.acceptance.databases import ROOT
from tests.chaos import run, workload
from tests.chaos.checker import Verdict, check
from tests.chaos.faults import CATALOGUE
from tests.chaos.history import History
from tests.chaos.place import place


def main() -> int:
    asked = _parser().parse_args()
    if asked.check:
        return _judge_again(asked.check)
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    names = _names(asked.faults, asked.database)
    groups = [(name,) for name in names] if asked.each else [names]
    return max(one_run(asked, faults, seed) for faults in groups)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument(
        "--seed", type=int, help="draws jobs and faults; made up and printed if left out"
    )
    parser.add_argument(
        "--faults",
        default="all",
        help="names, comma between; or all, common, failpoints, pairs, rare, none",
    )
    parser.add_argument(
        "--each", action="store_true", help="a run for each fault instead of one with all"
    )
    parser.add_argument("--rate", type=float, default=6, help="jobs enqueued a second")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--kind", choices=tuple(workload.MIXES), default="both", help="of jobs")
    parser.add_argument("--soak", action="store_true", help="reported as a soak")
    parser.add_argument("--mutant", default="", help="a build that is broken on purpose")
    parser.add_argument(
        "--results", type=Path, default=Path("build/chaos"), help="where summaries go"
    )
    parser.add_argument(
        "--check", type=Path, help="only check a history that was kept, and correct its summary"
    )
    return parser


def _names(given: str, database: str) -> tuple[str, ...]:
    possible = run.faults_of(database)
    groups = {
        "all": possible,
        "none": (),
        "rare": tuple(k.name for k in CATALOGUE.values() if database in k.on and k.on_request),
        "failpoints": tuple(name for name in possible if name.startswith("failpoint")),
        "pairs": tuple(name for name in possible if CATALOGUE[name].pair[0]),
    }
    groups["common"] = tuple(
        name for name in possible if name not in (*groups["failpoints"], *groups["pairs"])
    )
    names = tuple(n for word in given.split(",") if word for n in groups.get(word, (word,)))
    if unknown := [name for name in names if name not in CATALOGUE]:
        raise SystemExit(f"unknown faults {unknown}; known: {', '.join(CATALOGUE)}")
    if elsewhere := [name for name in names if database not in CATALOGUE[name].on]:
        raise SystemExit(f"not on {database}: {', '.join(elsewhere)}")
    lacking = run.left_out(names)
    for name, words in lacking.items():
        sys.stdout.write(f"left out, this machine has no {words}: {name}\n")
    if not (left := tuple(name for name in names if name not in lacking)) and names:
        raise SystemExit("nothing is left to do")
    return left


def one_run(asked: argparse.Namespace, faults: tuple[str, ...], seed: int) -> int:
    plan = run.Plan(
        asked.database, seed, asked.seconds, faults, asked.rate, asked.workers, asked.slots,
        asked.kind, asked.mutant,
    )  # fmt: skip
    asked.results.mkdir(parents=True, exist_ok=True)
    what = faults[0] if len(faults) == 1 else "soak" if asked.soak else asked.faults[:64]
    kept = asked.results / f"{asked.database}-{re.sub(r'[^a-z0-9-]+', '-', what)}-{seed}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    with place(asked.database, plan.needs, int(plan.rate * plan.seconds)) as there:
        history = run.run(plan, there, kept)
    history.write(kept / "history.json")
    code, verdict = _judge(history, kept)
    summary = summarised(history, verdict, plan) | {"soak": asked.soak}
    (asked.results / f"{kept.name}.json").write_text(json.dumps(summary, indent=1) + "\n")
    if code == 0:
        shutil.rmtree(kept)
    return code


def _judge(history: History, kept: Path) -> tuple[int, Verdict]:
    verdict = check(history)
    landed = Counter(f.name for f in history.faults if f.landed)
    sys.stdout.write(f"{history.database} seed {history.seed}: {verdict.word}\n")
    sys.stdout.write(f"  landed: {dict(landed)}\n  counts: {verdict.counts}\n")
    for name, said in verdict.violations.items():
        sys.stdout.write("".join(f"  {name}: {line}\n" for line in said[:5]))
        if len(said) > 5:
            sys.stdout.write(f"  ... and {len(said) - 5} more\n")
    sys.stdout.write("".join(f"  invalid: {line}\n" for line in verdict.invalid))
    if verdict.word != "held":
        sys.stdout.write(f"  history: {kept}\n")
    sys.stdout.flush()
    return {"held": 0, "violated": 1, "invalid": 3}[verdict.word], verdict


def _judge_again(kept: Path) -> int:
    """A run is what its history says, whatever the checker of that day made of it.

    What a fault may do is the checker's to know, too.
    """
    history = History.read(kept / "history.json")
    faults = tuple(
        replace(f, may=CATALOGUE[f.name].consequences(history.database)) for f in history.faults
    )
    code, verdict = _judge(replace(history, faults=faults), kept)
    summary = kept.with_name(f"{kept.name}.json")
    again = json.loads(summary.read_text()) | _found(verdict)
    summary.write_text(json.dumps(again, indent=1) + "\n")
    return code


def _found(verdict: Verdict) -> dict[str, object]:
    return {"verdict": verdict.word, "invalid": verdict.invalid, "counts": verdict.counts}


def summarised(history: History, verdict: Verdict, plan: run.Plan) -> dict[str, object]:
    """What the report needs to know of a run."""
    landed = Counter(f.name for f in history.faults if f.landed)
    return {
        "database": plan.database,
        "seed": plan.seed,
        "commit": commit(ROOT),
        "seconds": plan.seconds,
        "jobs": len(history.planned),
        "rate": plan.rate,
        "workers": plan.workers,
        "faults": {name: landed[name] for name in plan.faults},
    } | _found(verdict)


if __name__ == "__main__":
    sys.exit(main())
