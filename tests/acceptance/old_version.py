"""The project before a migration and those since: a copy whose code does not know its column.

Made from the code that is here, so that a clone without history has it too.
"""

import re
import shutil
from pathlib import Path

from tests.acceptance.databases import ROOT

COLUMN, MIGRATION, BEFORE = "signature", "0004_signature", "0003"
CUTS = {
    "models/job.py": [
        rf"    {COLUMN} = models\.CharField\(.*?\n    \)\n",
        rf", {COLUMN}s\b",
        rf"    job\.{COLUMN} = [^\n]*\n",
    ],
    "ledger/works.py": [rf"    {COLUMN}: [^\n]*\n"],
}
"""What to take out of which file."""


def old_version(root: Path) -> Path:
    """Make that project in a new directory; it has the same settings."""
    root.mkdir()
    shutil.copytree(ROOT / "jobs", root / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("queuectl_project", "templates", "tests"):
        (root / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "manage.py", root)
    for path in (root / "jobs" / "migrations").glob("[0-9]*.py"):
        if path.stem >= MIGRATION:
            path.unlink()
    for name, patterns in CUTS.items():
        path = root / "jobs" / name
        text = path.read_text()
        for pattern in patterns:
            text, found = re.subn(pattern, "", text, flags=re.DOTALL)
            assert found == 1, f"{pattern} was found {found} times in {name}"
        assert COLUMN not in text, f"{name} still knows {COLUMN}"
        path.write_text(text)
    return root
