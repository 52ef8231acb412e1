"""The client of a run: a process that calls, and writes down what it calls and what it hears.

    python -m tests.chaos.client CALLS LOG [PROCESSES]

Each line is on the disk before the next step, so a client that is killed leaves an invocation
without an answer. Started again it goes on with what it had not yet called, or insists on.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.chaos.history import Call, now

INSISTS_SECONDS = 90.0


class Log:
    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, phase: str, op: str, key: str, said: str = "") -> None:
        line = {"phase": phase, "op": op, "key": key, "at": now(), "said": said[:200]}
        os.write(self._fd, f"{json.dumps(line)}\n".encode())
        os.fsync(self._fd)


def calls(path: Path) -> tuple[Call, ...]:
    """What a log says: an invocation that heard no answer is one in doubt."""
    found: list[Call] = []
    waiting: dict[tuple[str, str], dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        said = json.loads(line)
        name = said["op"], said["key"]
        if said["phase"] == "invoke":
            if name in waiting:
                found.append(Call(*name, waiting[name]["at"], "info", "its client died"))
            waiting[name] = said
        else:
            began = waiting.pop(name)["at"]
            found.append(Call(*name, began, said["phase"], said["said"]))
    found += [Call(*name, said["at"], "info", "its client died") for name, said in waiting.items()]
    return tuple(sorted(found, key=lambda call: call.began))


def main() -> None:
    plan, path = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    import django

    django.setup()
    many = int(sys.argv[3]) if sys.argv[3:] else 1
    children = [pid for n in range(1, many) if (pid := _carry_out_in_child(plan, path, n, many))]
    _carry_out(plan, path, 0, many)
    for child in children:
        os.waitpid(child, 0)


def _carry_out_in_child(plan: dict[str, Any], path: Path, first: int, many: int) -> int:
    if pid := os.fork():
        return pid
    _carry_out(plan, path, first, many)
    os._exit(0)


def _carry_out(plan: dict[str, Any], path: Path, first: int, many: int) -> None:
    settled = {(c.op, c.key): c.answer for c in calls(path)}
    log = Log(path)
    for step in plan["steps"][first::many]:
        answer = settled.get((step["op"], step["key"]), "")
        if answer in ("ok", "fail") or (answer == "info" and not step["insists"]):
            continue
        if (wait := plan["began"] + step["at"] - now()) > 0:
            time.sleep(wait)
        until = now() + INSISTS_SECONDS
        while _call(log, step) == "info" and step["insists"] and now() < until:
            time.sleep(0.2)


def _call(log: Log, step: dict[str, Any]) -> str:
    from jobs import dialect
    from jobs.exceptions import QueueCTLError

    op, key = step["op"], step["key"]
    log.write("invoke", op, key)
    try:
        said = OPERATIONS[op](step)
        phase = "ok"
    except QueueCTLError as refusal:
        phase, said = "fail", str(refusal)
    except Exception as error:  # whatever else went wrong, it may have been stored
        phase, said = "info", f"{type(error).__name__}: {error}"
        dialect.close()
    log.write(phase, op, key, said)
    return phase


def _enqueue(step: dict[str, Any]) -> str:
    from jobs import operations

    if "task" in step["request"]:
        return _enqueue_task(**step["request"])
    return str(operations.enqueue(step["request"]).created)


def _enqueue_task(task: str, id: str, delay: float, **given: Any) -> str:
    from django.utils.module_loading import import_string

    from jobs import operations

    using: dict[str, Any] = {"priority": given["priority"], "queue_name": given["queue"]}
    if delay:
        using["run_after"] = datetime.now(UTC) + timedelta(seconds=delay)
    # A task gets an id of its own making; here it must be known what was asked for.
    with patch.object(operations, "new_key", lambda: id):
        wanted = import_string(task).with_options(**given["options"]).using(**using)
        return str(wanted.enqueue(*given["args"]).id == id)


def _on_job(verb: str) -> Callable[[dict[str, Any]], str]:
    def act(step: dict[str, Any]) -> str:
        from jobs import operations
        from jobs.operations.actor import PYTHON

        job = operations.find(step["key"], by_prefix=False)
        return str(getattr(operations, verb)(job, PYTHON).state)

    return act


OPERATIONS = {"enqueue": _enqueue, "cancel": _on_job("cancel"), "retry": _on_job("retry")}

if __name__ == "__main__":
    main()
