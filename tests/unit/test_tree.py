import subprocess
import sys
from io import StringIO

import pytest
from django.core.management import call_command

from jobs.cli.tree import TOP, Umbrella

LOADED = """
import sys, django
django.setup()
from jobs.cli.tree import Umbrella
Umbrella().run_from_argv(["queuectl", "", "enqueue", "--dry-run", "true"])
print(*sorted(name for name in sys.modules if name.startswith("jobs.")))
"""


def test_a_command_imports_no_room_of_another_command() -> None:
    result = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=60, check=True
    )
    rooms = {name.split(".")[1] for name in result.stdout.split()}
    assert rooms >= {"cli", "operations", "validation"}
    assert not rooms & {"worker", "execution", "ledger", "transfer", "dashboard"}


@pytest.mark.parametrize("verb", TOP)
def test_a_command_typed_has_the_arguments_that_it_has_in_the_whole_tree(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        Umbrella().run_from_argv(["queuectl", "", verb, "--help"])
    told = capsys.readouterr().out
    with pytest.raises(SystemExit):
        Umbrella().create_parser("queuectl", "").parse_args([verb, "--help"])
    assert told == capsys.readouterr().out


def test_a_call_from_python_may_name_the_options_of_any_command() -> None:
    call_command("queuectl", "enqueue", "true", dry_run=True, stdout=StringIO(), stderr=StringIO())
