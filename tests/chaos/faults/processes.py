"""Death, orderly ends and standstill of a worker's processes and of the client."""

import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

from tests.acceptance.site import freeze, signal_all, wait_gone
from tests.chaos import fleet
from tests.chaos.faults.kinds import (
    Arena,
    fault,
    killed,
    one,
    paused,
    started_by,
    victims,
    wait_until_busy,
)  # fmt: skip
from tests.chaos.place import OWN_PIDS
from tests.support import wait_until


@fault("kill-worker", "F1", "loses", "overlaps", "must-lose")
def kill_worker(arena: Arena, name: str) -> Iterator[str]:
    """All of a worker in one moment: none of its processes sees another die."""
    wait_until_busy(arena, name)
    worker = arena.fleet.forget(name)
    found = fleet.parts(worker)
    arena.killed.add(name)
    signal_all(found, signal.SIGSTOP)
    yield killed(found)
    worker.wait(10)


@fault("kill-supervisor", "F5", "interrupts", "loses")
def kill_supervisor(arena: Arena, name: str) -> Iterator[str]:
    wait_until_busy(arena, name)
    worker = arena.fleet.forget(name)
    left = fleet.parts(worker)
    worker.kill()
    worker.wait(10)
    yield "supervisor"
    wait_gone(left, arena.bounds.kill + 10)


@fault("kill-ledger", "F20", "loses", "interrupts")
def kill_ledger(arena: Arena, name: str) -> Iterator[str]:
    wait_until_busy(arena, name)
    arena.fleet.ledger_deaths[name] += 1
    yield killed(victims(lambda: fleet.ledgers(arena.fleet.workers[name])))


@fault("kill-runner", "F20", "loses")
def kill_runner(arena: Arena, name: str) -> Iterator[str]:
    wait_until_busy(arena, name)
    yield killed(one(arena, lambda: fleet.runners(arena.fleet.workers[name])))


@fault("kill-ledger-and-runners", "F4", "loses", "interrupts")
def kill_ledger_and_runners(arena: Arena, name: str) -> Iterator[str]:
    wait_until_busy(arena, name)
    arena.fleet.ledger_deaths[name] += 1
    found = victims(lambda: fleet.parts(arena.fleet.workers[name])[1:])
    signal_all(found, signal.SIGSTOP)
    yield killed(found)


@fault("kill-runner-and-supervisor", "F4", "loses", "interrupts")
def kill_runner_and_supervisor(arena: Arena, name: str) -> Iterator[str]:
    """Commands whose runner is dead, and he who would have ended them; the ledger is left."""
    wait_until_busy(arena, name)
    found = one(arena, lambda: fleet.runners(arena.fleet.workers[name]))
    if not found:
        yield ""
        return
    worker = arena.fleet.forget(name)
    left = fleet.parts(worker)
    found.append(worker.supervisor())
    signal_all(found, signal.SIGSTOP)
    yield killed(found)
    worker.wait(10)
    wait_gone(left, arena.bounds.kill + 10)


@fault("kill-task-runner", "F17", "fails")
def kill_task_runner(arena: Arena, name: str) -> Iterator[str]:
    """One inside a task, if there is one: that attempt has failed, by this signal."""
    worker = arena.fleet.workers[name]
    with suppress(AssertionError):
        wait_until(lambda: fleet.task_runners(worker, busy=True), timeout=3)
    yield killed(
        one(arena, lambda: fleet.task_runners(worker, busy=True) or fleet.task_runners(worker))
    )


@fault("kill-command", "F16", "fails")
def kill_command(arena: Arena, name: str) -> Iterator[str]:
    yield killed(one(arena, lambda: fleet.commands(arena.site, name)))


@fault("kill-client", "F78", aims=False)
def kill_client(arena: Arena, _: str) -> Iterator[str]:
    client = arena.client
    if client is None or client.poll() is not None:
        yield ""
        return
    client.kill()
    client.wait(10)
    yield f"client {client.pid}"


# Orderly ends


@fault("stop-by-signal", "F11", "interrupts")
def stop_by_signal(arena: Arena, name: str) -> Iterator[str]:
    _wait_until_it_listens(arena, name)
    worker = arena.fleet.forget(name)
    worker.terminate()
    limit = arena.bounds.grace + arena.bounds.kill + 5
    code = worker.wait(limit + 5)
    if code != 0:
        arena.fleet.complaints.append(f"{name} was asked to stop and ended with {code}")
    yield f"ended with {code}"


@fault("stop-by-two-signals", "F14", "interrupts")
def stop_by_two_signals(arena: Arena, name: str) -> Iterator[str]:
    _wait_until_it_listens(arena, name)
    worker = arena.fleet.forget(name)
    for number in (signal.SIGTERM, signal.SIGINT):
        worker.send_signal(number)
    code = worker.wait(arena.bounds.kill + 10)
    if code not in (0, 130):  # the two may arrive as one
        arena.fleet.complaints.append(f"{name} was told twice to stop and ended with {code}")
    yield f"ended with {code}"


def _wait_until_it_listens(arena: Arena, name: str) -> None:
    """A worker hears signals once it has said that it started; before that they simply end it."""
    arena.fleet.wait_ready([name])
    wait_until_busy(arena, name)


# Standing still


@fault("pause-short", "F7", "stands", holds=2)
def pause_short(arena: Arena, name: str) -> Iterator[str]:
    yield from paused(fleet.parts(arena.fleet.workers[name]))


@fault(
    "pause-long",
    "F8",
    "stands",
    holds=9,
    on_postgresql=("loses", "interrupts", "overlaps", "others-flow"),
)
def pause_long(arena: Arena, name: str) -> Iterator[str]:
    wait_until_busy(arena, name)
    yield from paused(fleet.parts(arena.fleet.workers[name]))


@fault("pause-ledger", "F8", "stands", "loses", "interrupts", holds=9)
def pause_ledger(arena: Arena, name: str) -> Iterator[str]:
    arena.fleet.ledger_deaths[name] += 1
    yield from paused(victims(lambda: fleet.ledgers(arena.fleet.workers[name])))


@fault("pause-runner", "F8", holds=3)
def pause_runner(arena: Arena, name: str) -> Iterator[str]:
    yield from paused(one(arena, lambda: fleet.runners(arena.fleet.workers[name])))


@fault("pause-task-runner", "F8", holds=3)
def pause_task_runner(arena: Arena, name: str) -> Iterator[str]:
    yield from paused(one(arena, lambda: fleet.task_runners(arena.fleet.workers[name])))


@fault("pause-supervisor", "F8", "stands", holds=7)
def pause_supervisor(arena: Arena, name: str) -> Iterator[str]:
    yield from paused([arena.fleet.workers[name].supervisor()])


@fault("freeze-all", "F10", "away", holds=8, aims=False, on_postgresql=("interrupts",))
def freeze_all(arena: Arena, _: str) -> Iterator[str]:
    yield from paused(freeze(lambda: _all_parts(arena)))


def _all_parts(arena: Arena) -> list[psutil.Process]:
    return [part for worker in arena.fleet.workers.values() for part in fleet.parts(worker)]


# Process 1


@fault("process-1", "F22", "interrupts", holds=5, aims=False, brings=True, needs=("own-pids",))
def process_1(arena: Arena, _: str) -> Iterator[str]:
    """A worker that is process 1 of a container: it reaps what is orphaned, and takes SIGTERM."""
    name = arena.fleet.start(f"init{arena.fleet.started}", before=OWN_PIDS)
    arena.fleet.wait_ready([name])
    first = psutil.Process(arena.fleet.workers[name].pid).children()[0]
    with suppress(AssertionError):
        wait_until(lambda: started_by(arena, name) >= 3, timeout=15)
    yield f"{name} started {n} jobs" if (n := started_by(arena, name)) else ""
    zombies = [p for p in first.children() if _is_zombie(p)]
    if zombies and all(_is_zombie(p) for p in zombies if not time.sleep(1)):
        arena.fleet.complaints.append(f"{name} does not reap {zombies}")
    worker = arena.fleet.forget(name)
    first.terminate()
    if (code := worker.wait(arena.bounds.grace + arena.bounds.kill + 20)) != 0:
        arena.fleet.complaints.append(f"{name} was asked to stop and ended with {code}")


def _is_zombie(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return False
