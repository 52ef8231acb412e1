from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import dialect
from ..models import StopMode, Worker
from ..validation import storable
from .actor import Actor
from .events import record
from .policy import must, must_start_worker


def start_worker(actor: Actor, start: Callable[[], int], *, host: str) -> int:
    """Have a worker started on this host by `start`, which returns its pid; returns that.

    Its event comes first, and stays where starting fails: no worker runs without one. Raises
    NotPermitted before anything is started, and whatever `start` raises.
    """
    subject = f"a worker on {host}"
    must_start_worker(actor, subject)
    with dialect.atomic():
        record(actor, "start", subject, now=dialect.now())
    return start()


def stop_workers(
    actor: Actor,
    *,
    names: Sequence[str] = (),
    only: Worker | None = None,
    mode: StopMode = StopMode.DRAIN,
) -> list[Worker]:
    """Ask live workers, all or those named, to stop; returns those asked, [] when none lives.

    With `only` it is that very one: others may have its name. They notice within a second, on
    whatever host they run.
    """
    names = [only.name] if only else names
    must(actor, "operate_worker", f"stop {mode}", ", ".join(names) or "all workers")
    with dialect.atomic():
        now = dialect.now()
        chosen = Worker.objects.live().named([storable(name) for name in names])
        if only:
            chosen = chosen.filter(id=only.id)
        workers = list(chosen.select_for_update().order_by("id"))
        if workers:
            asked = Worker.objects.filter(id__in=[worker.id for worker in workers])
            asked.update(stop_requested=mode.value, stop_requested_by=actor.name)
            subject = (
                f"worker {workers[0].name}" if len(workers) == 1 else f"{len(workers)} workers"
            )
            record(actor, f"stop {mode}", subject, now=now)
            dialect.notify()
    return workers
