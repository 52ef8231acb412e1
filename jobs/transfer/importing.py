"""One import: read and check all of a file while spooling it, then store it in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

from django.db import IntegrityError

from .. import dialect, signatures, validation
from ..exceptions import DuplicateId, DuplicateKey, InvalidText, NotPermitted, QueueCTLError
from ..models import Job, Queue, Setting
from ..operations import Actor
from ..operations.events import record
from ..operations.policy import Kind, must, must_have_room, must_submit
from ..states import ACTIVE
from . import bulk
from .formats import Format, format_of
from .imported import Imported
from .record import Record, ready
from .source import Source, open_source
from .spool import NoRoom, Spool, spooled

Progress = Callable[[str, int, int | None], None]
"""Told the step ("read", "compared", "stored"), how far it is, and out of how much if known."""


def import_file(
    what: str | Path | BinaryIO,
    actor: Actor,
    *,
    dry_run: bool = False,
    keep_going: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Store what a file holds: the original's jobs.json or config.json, or our own format.

    The file is told by its content. All of it is stored, or nothing; what is there already with
    the same content is counted, so that repeating an import adds nothing. With `keep_going` a job
    that is wrong, or whose id is taken by another, is left out and counted. `dry_run` stores
    nothing. The database is not locked before all has been read and checked. One Event.

    Raises NotPermitted, InvalidText, InvalidField, DuplicateId, DuplicateKey, QueueCTLError.
    """
    must(actor, "import_jobs", "import", "a file")
    tell = progress or (lambda step, done, total: None)
    source = open_source(what, lambda done: tell("read", done, source.size))
    with closing(source), bulk.unlogged():
        found = format_of(source)
        with spooled() as spool:
            result = Imported(dry_run)
            return _Import(source, found, spool, actor, keep_going, tell, result).run()


class _Import:
    """The steps of one import, in order."""

    def __init__(
        self,
        source: Source,
        chosen: Format,
        spool: Spool,
        actor: Actor,
        keep_going: bool,
        tell: Progress,
        result: Imported,
    ) -> None:
        self.source, self.format, self.spool, self.actor = source, chosen, spool, actor
        self.keep_going, self.tell, self.result = keep_going, tell, result
        self.now = dialect.now()
        self.settings: dict[str, int | float] = {}
        self.changes: dict[str, int | float] = {}
        self.queues: dict[str, dict[str, Any]] = {}
        self.new_queues: list[Queue] = []
        self.permitted: set[str | Kind] = set()
        self.runs: dict[str, int] = {}
        """The job that attempts and output may follow now, and the number of its last attempt."""

        self.seen, self.ended = 0, False

    def run(self) -> Imported:
        self.read()
        for _ in range(3):
            skipped, skips = self.result.skipped, list(self.result.skips)
            self.compare()
            if self.result.dry_run:
                return self.result
            try:
                return self.store()
            except IntegrityError:
                # Somebody took one of the ids since we compared: compare again, and find which.
                self.result.skipped, self.result.skips = skipped, skips
        raise QueueCTLError("Others are storing the same ids at this moment", hint="try again")

    # Read

    def read(self) -> None:
        """Check every entry and spool it. Raises for the first that is wrong, unless going on."""
        for place, entry in self.format.entries(self.source):
            try:
                if isinstance(entry, InvalidText):
                    raise entry
                for found in self.format.records(entry, self.now, self.actor.name):
                    self.keep(found, place)
            except QueueCTLError as error:
                self.refuse(error, place)
        if self.format.has_end and not self.ended:
            self.refuse(
                InvalidText("it is torn: the end is missing"),
                self.source.name,
            )

    def refuse(self, error: QueueCTLError, place: str) -> None:
        """Note what is left out; or end the import, where not going on or where that cannot help."""
        if isinstance(error, NotPermitted | NoRoom):
            raise error
        if not self.keep_going:
            error.args = (f"{place}: {error}",)
            error.hint = error.hint or "nothing was stored"
            raise error
        self.result.skip(place, f"{error}" + (f" ({error.hint})" if error.hint else ""))

    def keep(self, found: Record, place: str) -> None:
        if self.ended:
            raise InvalidText("there is more after the end line")
        match found.kind:
            case "job":
                self.keep_job(found, place)
            case "attempt" | "output":
                self.keep_history(found)
            case "queue":
                self.queues[found.key] = found.values
            case "setting":
                self.must("change_setting")
                self.settings[found.key] = found.values["value"]
            case "end":
                self.end(found.values["jobs"])

    def keep_job(self, found: Record, place: str) -> None:
        self.seen += 1
        self.runs = {}
        values = found.values | {"signature": signatures.sign(SimpleNamespace(**found.values))}
        if values["task"] is not None:
            self.must_submit(Kind.TASK)
        else:
            self.must_submit(Kind.SHELL if values["argv"] is None else Kind.ARGV)
        if not self.spool.add_job(place, values, active=values["state"] in ACTIVE):
            before = self.spool.place_of(found.key)
            if before is not None:
                raise _taken(found.key, f"it is in the file twice, first at {before}")
            raise DuplicateKey(values["unique_key"])
        self.runs = {found.key: values["runs"]}

    def keep_history(self, found: Record) -> None:
        if found.key not in self.runs:
            if self.keep_going:
                return  # of a job that was left out
            raise InvalidText(f"the {found.kind} is not of the job before it")
        number = found.values["number" if found.kind == "attempt" else "attempt"]
        if number > self.runs[found.key]:
            raise InvalidText(
                f"the {found.kind} is of attempt {number}, and the job had {self.runs[found.key]}"
            )
        add = self.spool.add_attempt if found.kind == "attempt" else self.spool.add_output
        if not add(found.values):
            raise InvalidText(f"the {found.kind} is there twice")

    def end(self, jobs: int) -> None:
        self.ended = True
        if jobs != self.seen and not self.result.skipped:
            raise InvalidText(f"it is not whole: {self.seen:,} of {jobs:,} jobs are there")

    def must(self, permission: str) -> None:
        if permission not in self.permitted:
            must(self.actor, permission, "import", self.subject)
            self.permitted.add(permission)

    def must_submit(self, kind: Kind) -> None:
        """An import decides commands: it needs what enqueueing them would need."""
        if kind not in self.permitted:
            must_submit(self.actor, kind, "import", self.subject)
            self.permitted.add(kind)

    @property
    def subject(self) -> str:
        return f"file {validation.visible(self.source.name)}"

    # Compare

    def compare_settings(self) -> None:
        """Settings are set, whatever they were; queues that are here already stay as they are."""
        here = Setting.objects.stored()
        self.changes = {k: v for k, v in self.settings.items() if here.get(k) != v}
        self.result.already = len(self.settings) - len(self.changes)
        known = set(Queue.objects.filter(name__in=self.queues).values_list("name", flat=True))
        self.new_queues = [Queue(**q) for name, q in self.queues.items() if name not in known]
        if any(queue.paused_at for queue in self.new_queues):
            self.must("operate_queue")

    def compare(self) -> None:
        """Find what is there already. Raises DuplicateId, DuplicateKey unless going on."""
        self.compare_settings()
        self.spool.keep_all()
        done = 0
        for page in self.spool.pages():
            stored = self.stored([values["key"] for _, _, values in page])
            taken = self.taken_unique_keys(
                [v["unique_key"] for _, _, v in page if v["unique_key"] and v["key"] not in stored]
            )
            for number, place, values in page:
                self.compare_one(number, place, values, stored.get(values["key"]), taken)
            done += len(page)
            self.tell("compared", done, self.spool.jobs)
        self.spool.settle()
        result = self.result
        result.jobs, result.attempts = self.spool.count(), self.spool.count_attempts()
        result.settings, result.queues = len(self.changes), len(self.new_queues)
        must_have_room(self.actor, self.spool.count_active(), "import", self.subject)

    def compare_one(
        self,
        number: int,
        place: str,
        values: Mapping[str, Any],
        stored: Mapping[str, Any] | None,
        taken: set[str],
    ) -> None:
        if stored is not None and self.format.is_same(values, stored):
            self.result.already += 1
        elif stored is not None:
            self.refuse(_taken(values["key"], "a job with other content has this id here"), place)
        elif values["unique_key"] in taken and values["state"] in ACTIVE:
            self.refuse(DuplicateKey(values["unique_key"]), place)
        else:
            return
        self.spool.leave_out(number)

    def stored(self, keys: list[str]) -> dict[str, dict[str, Any]]:
        rows = Job.objects.filter(key__in=keys).values("key", *self.format.content)
        return {row["key"]: ready(row) for row in rows}

    def taken_unique_keys(self, unique_keys: list[str]) -> set[str]:
        if not unique_keys:
            return set()
        rows = Job.objects.filter(unique_key__in=unique_keys, state__in=ACTIVE)
        return {key for key in rows.values_list("unique_key", flat=True) if key}

    # Store

    def store(self) -> Imported:
        """Everything in one transaction that does nothing but insert. Raises IntegrityError."""
        result = self.result
        if not result.changed:
            return result
        names, total = self.spool.queues(), result.jobs
        with bulk.at_hand(self.spool) as load:
            with dialect.atomic():
                now = dialect.now()
                Queue.objects.bulk_create(self.new_queues, ignore_conflicts=True)
                Queue.objects.ensure(names, now)
                if result.jobs:
                    load(lambda done: self.tell("stored", done, total))
                    self.tell("stored", total, total)
                changes = [self.set(name, value, now) for name, value in self.changes.items()]
                self.leave_event(changes, now)
                dialect.notify()
            result.seconds = (dialect.now() - now).total_seconds()
        return result

    def set(self, name: str, value: int | float, now: datetime) -> str:
        before = Setting.objects.stored().get(name, "default")
        Setting.objects.update_or_create(
            key=name,
            defaults={"value": value, "updated_at": now, "updated_by": self.actor.name},
        )
        return f"{name} {before} -> {value}"

    def leave_event(self, changes: list[str], now: datetime) -> None:
        result = self.result
        subject = ", ".join(
            f"{number:,} {noun}{'' if number == 1 else 's'}"
            for number, noun in (
                (result.jobs, "job"), (result.queues, "queue"), (result.settings, "setting"),
            )
            if number
        )  # fmt: skip
        note = [f"from {validation.visible(self.source.name)}", *changes]
        if result.already:
            note.append(f"{result.already:,} already there")
        if result.skipped:
            note.append(f"{result.skipped:,} skipped")
        record(self.actor, "import", subject, now=now, note="; ".join(note))


def _taken(key: str, hint: str) -> DuplicateId:
    error = DuplicateId(key)
    error.hint = hint
    return error
