"""The README's session, typed as it stands there."""

import re
import shlex
from pathlib import Path

from tests.acceptance.site import Site
from tests.support import wait_until

README = Path(__file__).resolve().parents[2] / "README.md"


def sessions() -> list[tuple[str, str]]:
    """Every command of the console blocks, with what it prints there."""
    text = README.read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [
        (command, printed)
        for block in blocks
        for command, printed in re.findall(
            r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.MULTILINE
        )
    ]


def test_the_session_of_the_readme_prints_what_it_says(site: Site) -> None:
    assert len(sessions()) >= 5
    for command, printed in sessions():
        program, *words = shlex.split(command)
        assert program == "queuectl"
        if words[:2] == ["worker", "start"]:
            worker = site.start_worker(*words[2:])
            assert worker.output == printed
            wait_until(lambda: ("completed",) in site.sql("SELECT state FROM queuectl_job"))
        else:
            assert site.queuectl(*words).stdout == printed, command
