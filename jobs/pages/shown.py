"""A job as one person may see it: what they may not see never reaches a template."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.utils.html import escape

from ..models import Attempt, Job
from ..redaction import redacted
from ..states import JobState
from ..validation import visible
from ..wording import ICONS, seconds, when

LONGEST_LINE = 160
MOST_SHOWN, MOST_HTML = 131_072, 400_000
"""Characters of what a job runs: a command for a shell as a whole, a list of arguments may be longer; and
what they may take as HTML, in which a quotation mark is six."""

HIDDEN = "what it said is not shown"

_PROGRAM = re.compile(r"[\w./+-]+\Z")
_HOW = r"exit code \d{1,3}|signal \d{1,3} \(SIG[A-Z]{0,9}\d{0,3}\)"
_EXIT = re.compile(rf"\(({_HOW})\)\Z")
_RAISED = re.compile(r"([^\W\d]\w*(?:\.(?:[^\W\d]\w*|<locals>))*)(?:: |\Z)")
"""How Python tells of a task's exception: its class, then what it says, which may be anything."""

_EDITED = r" Somebody has edited its row in the database\."
_OURS = re.compile(
    rf"(?:Command failed|Its process ended) with (?:{_HOW})"
    r"|(?:Job|Task) timed out after [\d.e+]{1,20} seconds"
    rf"|Could not start: (?:its \w{{1,30}} (?:is not [a-z ]{{1,40}}"
    r"|was nested too deeply to be read, and is emptied)|one of its times is beyond the calendar)\."
    rf"{_EDITED}"
    r"|Could not start: its args are longer than the [\d,]{1,20} bytes that a worker can send\."
    r"|Could not start: it has no signature, and this site runs no job without one\."
    r"|Could not start: bad signature\. What it runs was changed in the database, or another key signed it\."
    r"|Held: the user who enqueued it has been disabled\."
    r"|Cancelled while it ran"
    r"|Interrupted: its worker had to stop it"
    r"|Interrupted \d+ times, more often than a job may be"
    r"|Lost: its (?:task|command) runner died"
    r"|(?:Lost: its worker is no more|Lost with its worker .{1,128}: "
    r"(?:none of its processes is left|its heartbeat stopped|its ledger process died))"
    rf"(?:; its lease cannot be read\.{_EDITED})?"
    r"|Lost \d+ times with its worker; it may be what kills it"
)
"""Sentences of QueueCTL itself that quote nothing."""

_NOT_STARTED = re.compile(r"(Could not start|Cannot import the task)[: ]")
_REASONS = {os.strerror(number) for number in errno.errorcode}


@dataclass(frozen=True, slots=True)
class Sight:
    """What a person may see of every job."""

    input: bool
    output: bool

    @classmethod
    def of(cls, user: Any) -> Sight:
        return cls(user.has_perm("queuectl.view_input"), user.has_perm("queuectl.view_output"))


class Shown:
    """One job, ready for a template: no control character, nothing the person may not see."""

    def __init__(self, job: Job, sight: Sight, now: datetime) -> None:
        self.job, self.sight, self.now = job, sight, now
        self.id = visible(job.key)
        self.state = JobState(job.state)
        self.icon = ICONS[self.state]

    @cached_property
    def command(self) -> str:
        """All of it but passwords; to those who may not see input, its first word."""
        if self.sight.input:
            # Cut once more after that: a secret that was cut in two would not be starred.
            text, most = redacted(self.job.title[: 2 * MOST_SHOWN]), MOST_SHOWN
            while len(escape(visible(text[:most], keep="\n\t"))) > MOST_HTML:
                most //= 2
            left_out = len(self.job.title) - most
            rest = f"\n[… {left_out:,} characters left out …]" if left_out > 0 else ""
            return visible(text[:most], keep="\n\t") + rest
        return self._first_word()

    @cached_property
    def title(self) -> str:
        """What it runs, in one line."""
        if self.sight.input:
            return one_line(redacted(self.job.title[: 25 * LONGEST_LINE]))
        return self._first_word()

    @cached_property
    def error(self) -> str:
        """Why it failed. The sentence may quote what the command printed, which is output."""
        return error(self.job.last_error, self.sight, task=self.job.task is not None)

    @cached_property
    def retries(self) -> str:
        return self.job.retries.replace("/", " / ")

    @cached_property
    def when(self) -> str:
        """The fact that matters about it in its state."""
        return when(self.job, self.now)

    @property
    def can_retry(self) -> bool:
        return self.state is JobState.DEAD

    def _first_word(self) -> str:
        first, _, rest = self.job.title.strip().partition(" ")
        # An assignment before the program may itself be the secret: PASSWORD=… program
        known = first if _PROGRAM.match(first) else ""
        return f"{known} …".strip() if rest or not known else known


class ShownAttempt:
    """One run of a job, as one person may see it."""

    def __init__(self, attempt: Attempt, sight: Sight, worker: str, *, task: bool) -> None:
        self.attempt, self.sight, self.worker = attempt, sight, visible(worker)
        self.task = task
        self.succeeded = attempt.outcome == "succeeded"

    @property
    def outcome(self) -> str:
        return self.attempt.get_outcome_display()

    @property
    def ended(self) -> str:
        """How its process ended."""
        if self.attempt.signal is not None:
            return f"signal {self.attempt.signal}"
        return "-" if self.attempt.exit_code is None else f"exit {self.attempt.exit_code}"

    @property
    def ran(self) -> str:
        return seconds(self.attempt.seconds)

    @property
    def cpu(self) -> str:
        return seconds(self.attempt.cpu_seconds)

    @property
    def error(self) -> str:
        return error(self.attempt.error, self.sight, task=self.task)


def error(text: str, sight: Sight, *, task: bool) -> str:
    """An error in one line; to those who may not see output only what it is known to quote nothing.

    That is sentences of ours, how a process ended, and the class of what a task raised.
    """
    if sight.output or not text or _OURS.fullmatch(text):
        return one_line(text, 400)
    if ended := _EXIT.search(text):
        return f"Failed with {ended[1]}; {HIDDEN}"
    if begun := _NOT_STARTED.match(text):
        reason = text.removeprefix("Could not start: ").partition(": ")[0]
        return f"{begun[1]}: {reason}" if reason in _REASONS else f"{begun[1]}; {HIDDEN}"
    if task and (raised := _RAISED.match(text)):
        return f"Failed with {one_line(raised[1])}; {HIDDEN}"
    return f"Failed; {HIDDEN}"


def one_line(text: str, limit: int = LONGEST_LINE) -> str:
    """Text in one line, cut where it is too long, every control character spelled out."""
    line = visible(" ↵ ".join(text[: 4 * limit].splitlines()))
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[: limit - 1]}…"
