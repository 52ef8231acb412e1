"""A job's life as a state machine, beside a model that knows the rules and nothing of the code.

Hypothesis makes up lives: two workers claim, report, fall silent and are rescued while a person
presses every button and time passes. After each step the rows are what the model says.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import transaction
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobs import dialect, ledger, operations
from jobs.exceptions import QueueCTLError, WrongState
from jobs.ledger import Report
from jobs.models import Attempt, Event, Job
from jobs.operations import Actor
from jobs.outcome import Kind, Obstacle, Outcome
from jobs.work import Work
from tests.integration.builders import NOW, POLICY, make_queues, make_worker, seconds

pytestmark = pytest.mark.django_db

ANN = Actor("ann", "cli")
MAX_LOST, MAX_INTERRUPTS = 2, 1
QUEUES = ("mail", "media")
FINAL = {"completed", "dead", "cancelled"}
TIMED = {"scheduled", "failed"}
WAITING = {"pending", "scheduled", "failed"}
EVERYTHING = 1000
OUTCOMES = [(kind, False) for kind in Kind] + [(Kind.NOT_STARTED, True)]
"""What may become of an attempt; True: the machine was short of something."""


@dataclass
class Life:
    """What the model knows of one job."""

    order: int
    queue: str
    priority: int
    max_retries: int
    due_at: datetime
    state: str
    attempts: int = 0
    losses: int = 0
    interruptions: int = 0
    runs: int = 0
    trusted: bool = True
    """Never yet in the hands of a worker that died."""

    asked: bool = False
    """Somebody wants it stopped."""

    lease: str | None = None
    worker: int | None = None
    started: bool = False
    history: list[tuple[int, str]] = field(default_factory=list)

    @property
    def place(self) -> tuple[int, datetime, int]:
        return (-self.priority, self.due_at, self.order)

    def leave(self, state: str) -> None:
        """Out of its worker's hands."""
        self.state, self.lease, self.worker, self.started = state, None, None, False

    def give_back(self, *, heard: bool, in_doubt: bool = False) -> None:
        """Not run; `in_doubt`: its worker may have begun all the same, so the number is used up."""
        self.leave("cancelled" if heard and self.asked else "pending")
        self.runs += in_doubt and self.state == "pending"

    def end_attempt(self, kind: Kind, now: datetime, *, short: bool, heard: bool) -> None:
        """What its worker, or whoever rescued it, says became of the attempt."""
        if kind is Kind.NOT_STARTED and short:
            state, self.due_at = "scheduled", self.due_unless_asked(now + seconds(1), heard)
        else:
            self.runs += 1
            self.history.append((self.runs, str(kind)))
            state = self.after(kind, now, heard)
        waits = state in ("failed", "scheduled")
        if self.asked and state not in FINAL and (heard or waits):
            state = "cancelled"
        self.leave(state)

    def after(self, kind: Kind, now: datetime, heard: bool) -> str:
        if kind is Kind.SUCCEEDED:
            return "completed"
        if kind is Kind.CANCELLED:
            return "cancelled"
        if kind is Kind.LOST:
            self.losses += 1
            return "dead" if self.losses == MAX_LOST else "pending"
        if kind is Kind.INTERRUPTED:
            self.interruptions += 1
            return "dead" if self.interruptions > MAX_INTERRUPTS else "pending"
        self.attempts += 1
        if self.attempts > self.max_retries:
            return "dead"
        self.due_at = self.due_unless_asked(now + seconds(2**self.attempts), heard)
        return "failed"

    def due_unless_asked(self, due_at: datetime, heard: bool) -> datetime:
        """What ends instead of waiting keeps the place it had."""
        return self.due_at if heard and self.asked else due_at


class Lives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.lives: dict[str, Life] = {}
        self.claims: list[tuple[Work, int]] = []
        """Every claim there ever was, with its worker: also those whose lease is gone."""

        self.paused: dict[str, datetime | None] = {}
        self.numbers, self.events = 0, 0
        self.savepoint = transaction.atomic()
        self.savepoint.__enter__()
        know, insert = dialect.know, dialect.insert_at_once

        def insert_at_once(jobs: Any, *tables: Any, **given: Any) -> datetime | None:
            if insert(jobs, *tables, **given) is None:
                return None
            times = dict.fromkeys(given["now"], self.now)
            jobs.objects.filter(key=given["values"]["key"]).update(**times)
            return self.now

        self.clock = patch.multiple(
            dialect,
            now=lambda: self.now,
            know=lambda *asked: replace(know(*asked), now=self.now),
            insert_at_once=insert_at_once,
        )
        self.clock.start()

    def teardown(self) -> None:
        self.clock.stop()
        transaction.set_rollback(True)
        self.savepoint.__exit__(None, None, None)

    @initialize()
    def open(self) -> None:
        make_queues(*QUEUES)
        self.workers = [make_worker(started_at=self.now).id for _ in range(2)]
        for max_retries in range(3):
            self.enqueue("mail", max_retries - 1, max_retries, 0)

    # Time

    @rule(span=st.sampled_from([0, 1, 2, 4, 60]))
    def later(self, span: int) -> None:
        self.now += timedelta(seconds=span)
        assert ledger.survey((), self.now).queues == self.active()
        due = [v for v in self.lives.values() if v.state in TIMED and v.due_at <= self.now]
        assert ledger.survey((), self.now).due == bool(due)
        assert ledger.promote(self.now) == len(due)
        for life in due:
            life.state = "pending"

    # Workers

    def claimable(self, queue: str, wary: int) -> list[str]:
        found = [
            key
            for key, life in self.lives.items()
            if life.queue == queue and life.state == "pending" and (wary or not self.is_last(life))
        ]
        return sorted(found, key=lambda key: self.lives[key].place)

    def is_last(self, life: Life) -> bool:
        """One more loss would end it."""
        return life.losses >= MAX_LOST - 1

    def chosen(self, free: int, ahead: int, wary: int) -> list[str]:
        """Best first; of those that one more loss would end no more than `wary`."""
        candidates = [
            key for queue in self.active() for key in self.claimable(queue, wary)[: free + ahead]
        ]
        taken: list[str] = []
        for key in sorted(candidates, key=lambda key: self.lives[key].place):
            life = self.lives[key]
            if self.is_last(life):
                if not wary:
                    continue
                wary -= 1
            if not (len(taken) < free or (len(taken) < free + ahead and life.trusted)):
                break
            taken.append(key)
        return taken

    def active(self) -> list[str]:
        return [
            name
            for name in QUEUES
            if name not in self.paused
            or ((until := self.paused[name]) is not None and until <= self.now)
        ]

    @rule(
        who=st.integers(0, 1),
        free=st.sampled_from([1, 2, 0]),
        ahead=st.sampled_from([0, 1, 2]),
        wary=st.sampled_from([EVERYTHING, 1, 0]),
    )
    def claim(self, who: int, free: int, ahead: int, wary: int) -> None:
        self.take(who, free, ahead, wary)

    def take(self, who: int, free: int, ahead: int, wary: int) -> int:
        """Claim; returns how many there are to run."""
        queues = ledger.survey((), self.now).queues
        assert queues == self.active()
        expected = self.chosen(free, ahead, wary)
        room = ledger.Room(free=free, ahead=ahead, wary=wary)
        works = ledger.claim(self.workers[who], queues, room, policy=POLICY, now=self.now)
        assert [work.key for work in works] == [k for k in expected if not self.lives[k].asked]
        leases = {work.key: work for work in works}
        for index, key in enumerate(expected):
            life = self.lives[key]
            if life.asked:
                life.leave("cancelled")
                continue
            work = leases[key]
            assert work.lease not in {old.lease for old, _ in self.claims}
            assert (work.number, work.attempts) == (life.runs + 1, life.attempts)
            assert (work.losses, work.interruptions) == (life.losses, life.interruptions)
            assert work.ahead == (index >= free)
            life.state, life.lease, life.worker = "processing", work.lease, self.workers[who]
            life.started = not work.ahead
            self.claims.append((work, self.workers[who]))
        return len(works)

    def held(self, work: Work) -> Life | None:
        """The life this claim still is of; None where its lease is gone."""
        life = self.lives.get(work.key)
        return life if life and life.lease == work.lease else None

    def pick(self, number: int) -> tuple[Work, int]:
        """A claim, rather a late one that is not."""
        return self.claims[-1 - number % len(self.claims)]

    @precondition(lambda self: self.claims)
    @rule(
        number=st.integers(0, 5),
        outcome=st.sampled_from(OUTCOMES),
        heard=st.booleans(),
    )
    def report(self, number: int, outcome: tuple[Kind, bool], heard: bool) -> None:
        kind, short = outcome
        work, worker = self.pick(number)
        life = self.held(work)
        given = work._replace(cancel_requested=heard and life is not None and life.asked)
        obstacle = Obstacle.SHORT if short else None
        made = Report(given, Outcome(kind=kind, obstacle=obstacle), self.now, self.now)
        accepted = ledger.report([made], worker_id=worker, now=self.now)
        assert accepted == ({work.lease} if life else set())
        if life:
            life.end_attempt(kind, self.now, short=short, heard=heard)

    @rule(
        who=st.integers(0, 1),
        outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=2),
        times=st.integers(1, 3),
    )
    def work(self, who: int, outcomes: list[tuple[Kind, bool]], times: int) -> None:
        """One claim after the other, often of the same job: what is given back keeps its place."""
        for outcome in outcomes * times:
            if self.take(who, 1, 0, EVERYTHING):
                self.report(0, outcome, True)

    @precondition(lambda self: len(self.claims) > 1)
    @rule(numbers=st.lists(st.integers(0, 5), min_size=2, max_size=4))
    def report_several_at_once(self, numbers: list[int]) -> None:
        """Claims of any job, also the same twice: the second of it is late."""
        several = [self.pick(number) for number in numbers]
        reports = [
            Report(work, Outcome(kind=Kind.FAILED), self.now, self.now) for work, _ in several
        ]
        lives = {work.lease: life for work, _ in several if (life := self.held(work))}
        worker = several[0][1]
        assert ledger.report(reports, worker_id=worker, now=self.now) == set(lives)
        for life in lives.values():
            life.end_attempt(Kind.FAILED, self.now, short=False, heard=False)

    def release(self, number: int, heard: bool) -> None:
        work, _ = self.pick(number)
        life = self.held(work)
        given = work._replace(cancel_requested=heard and life is not None and life.asked)
        assert ledger.release([given], now=self.now) == (life is not None)
        if life:
            life.give_back(heard=heard)

    @precondition(lambda self: self.claims)
    @rule(
        number=st.integers(0, 5),
        what=st.sampled_from(["start", "release", "forget"]),
        heard=st.booleans(),
    )
    def hold(self, number: int, what: str, heard: bool) -> None:
        if what == "start":
            self.start_what_was_claimed_ahead(number)
        elif what == "release":
            self.release(number, heard)
        else:
            self.forget_the_reply_to_a_claim(number % 2)

    def start_what_was_claimed_ahead(self, number: int) -> None:
        work, _ = self.pick(number)
        ledger.mark_started([(work, self.now)], self.now)
        if life := self.held(work):
            life.started = True

    def in_the_hands_of(self, worker: int) -> list[Life]:
        return [life for life in self.lives.values() if life.worker == worker]

    def forget_the_reply_to_a_claim(self, who: int) -> None:
        lives = self.in_the_hands_of(self.workers[who])
        known = {life.lease for life in lives[1:] if life.lease}
        released = ledger.release_unknown(self.workers[who], known=known, now=self.now)
        assert released == len(lives[:1])
        for life in lives[:1]:
            life.give_back(heard=True)

    @rule(who=st.integers(0, 1), times=st.integers(1, MAX_LOST))
    def die(self, who: int, times: int) -> None:
        """With a job in hand if there is one; the next worker may die of the same."""
        for _ in range(times):
            self.take(who, 1, 0, EVERYTHING)
            self.rescue(who)

    @rule(who=st.integers(0, 1))
    def rescue(self, who: int) -> None:
        """Everything a dead worker held; another worker takes its place."""
        dead = self.workers[who]
        lives = self.in_the_hands_of(dead)
        if lives:
            assert ledger.rescue(dead, last_heard=None, now=self.now, why="gone") == len(lives)
        assert ledger.rescue(dead, last_heard=None, now=self.now, why="gone") == 0
        for life in lives:
            life.trusted = False
            if life.started:
                life.end_attempt(Kind.LOST, self.now, short=False, heard=True)
            else:
                life.give_back(heard=True, in_doubt=True)
        self.workers[who] = make_worker(started_at=self.now).id

    # People

    @rule(
        queue=st.sampled_from(QUEUES),
        priority=st.integers(-1, 1),
        max_retries=st.integers(0, 2),
        delay=st.sampled_from([0, 0, 3, 60]),
    )
    def enqueue(self, queue: str, priority: int, max_retries: int, delay: int) -> None:
        key = f"job{self.numbers}"
        given = {
            "command": "true",
            "queue": queue,
            "priority": priority,
            "max_retries": max_retries,
        }
        if delay:
            given["delay"] = delay
        assert operations.enqueue({"id": key, **given}, ANN).created
        assert not operations.enqueue({"id": key, **given}, ANN).created
        self.born(key, queue, priority, max_retries, delay)

    def born(self, key: str, queue: str, priority: int, max_retries: int, delay: int = 0) -> None:
        state, due_at = "scheduled" if delay else "pending", self.now + seconds(delay)
        self.lives[key] = Life(self.numbers, queue, priority, max_retries, due_at, state)
        self.numbers += 1

    def some(self, number: int) -> tuple[str, Life]:
        key = list(self.lives)[number % len(self.lives)]
        return key, self.lives[key]

    @precondition(lambda self: self.lives)
    @rule(
        number=st.integers(0, 20),
        state=st.sampled_from(
            ["processing", "dead", "failed", "pending", "scheduled", "completed"]
        ),
        verb=st.sampled_from(
            ["cancel", "retry", "run_now", "set_priority", "move", "run_again", "discard"]
        ),
    )
    def press_a_button(self, number: int, state: str, verb: str) -> None:
        """Of a job in this state, if there is one, so that every button meets every state."""
        getattr(self, verb)(self.among(state, number) if self.has(state) else number)

    def among(self, state: str, number: int) -> int:
        """The number of a job in this state."""
        found = [index for index, life in enumerate(self.lives.values()) if life.state == state]
        return found[number % len(found)]

    @precondition(lambda self: self.has("dead"))
    @rule(number=st.integers(0, 5))
    def retry_a_dead_one(self, number: int) -> None:
        self.retry(self.among("dead", number))

    @precondition(lambda self: self.has("processing"))
    @rule(
        number=st.integers(0, 5),
        outcome=st.none() | st.sampled_from(OUTCOMES),
        heard=st.booleans(),
    )
    def cancel_one_that_runs(
        self, number: int, outcome: tuple[Kind, bool] | None, heard: bool
    ) -> None:
        """Nobody can delete it. It ends or is given back, by a worker that has heard or has not."""
        index = self.among("processing", number)
        self.discard(index)
        self.cancel(index)
        _, life = self.some(index)
        leases = [work.lease for work, _ in reversed(self.claims)]
        if outcome:
            self.report(leases.index(str(life.lease)), outcome, heard)
        else:
            self.release(leases.index(str(life.lease)), heard)
        if life.state == "dead":
            self.retry(index)

    def has(self, state: str) -> bool:
        return any(life.state == state for life in self.lives.values())

    def press(self, life: Life, allowed: set[str], do: Any) -> bool:
        """Whether it was done, which the model knows; a refusal leaves no Event."""
        if life.state not in allowed:
            with pytest.raises(WrongState):
                do()
            return False
        do()
        self.events += 1
        return True

    def cancel(self, number: int) -> None:
        key, life = self.some(number)
        job = Job.objects.get(key=key)
        if self.press(life, WAITING | {"processing"}, lambda: operations.cancel(job, ANN)):
            self.cancelled(life)

    def cancelled(self, life: Life) -> None:
        if life.state == "processing":
            life.asked = True
        else:
            life.state = "cancelled"

    def retry(self, number: int) -> None:
        key, life = self.some(number)
        job = Job.objects.get(key=key)
        if self.press(life, {"dead"}, lambda: operations.retry(job, ANN)):
            self.retried(life)

    def retried(self, life: Life) -> None:
        life.state, life.due_at, life.asked = "pending", self.now, False
        life.attempts = life.losses = life.interruptions = 0

    def run_now(self, number: int) -> None:
        key, life = self.some(number)
        job = Job.objects.get(key=key)
        if self.press(life, TIMED, lambda: operations.run_now(job, ANN)):
            life.due_at = self.now

    def run_again(self, number: int) -> None:
        key, life = self.some(number)
        twin = operations.run_again(Job.objects.get(key=key), ANN)
        self.born(twin.key, life.queue, life.priority, life.max_retries)

    def discard(self, number: int) -> None:
        key, life = self.some(number)
        job = Job.objects.get(key=key)
        if self.press(life, WAITING | FINAL, lambda: operations.discard(job, ANN)):
            del self.lives[key]

    def set_priority(self, number: int) -> None:
        key, life = self.some(number)
        priority = number % 3 - 1
        job = Job.objects.get(key=key)
        if self.press(life, WAITING, lambda: operations.set_priority(job, priority, ANN)):
            life.priority = priority

    def move(self, number: int) -> None:
        key, life = self.some(number)
        queue = QUEUES[number // 2 % 2]
        job = Job.objects.get(key=key)
        if self.press(life, WAITING, lambda: operations.move(job, queue, ANN)):
            life.queue = queue

    @rule(what=st.sampled_from(["retry_all", "run_all_now", "cancel_all_of_one_queue"]))
    def bulk(self, what: str) -> None:
        getattr(self, what)()

    def retry_all(self) -> None:
        self.many(operations.retry_many, {"dead"}, self.retried)

    def cancel_all_of_one_queue(self) -> None:
        rows = Job.objects.filter(queue="mail")
        done = operations.cancel_many(rows, ANN)
        chosen = [v for v in self.lives.values() if v.queue == "mail" and v.state not in FINAL]
        assert done.changed == len(chosen)
        self.events += bool(chosen)
        for life in chosen:
            self.cancelled(life)

    def run_all_now(self) -> None:
        def hurried(life: Life) -> None:
            life.due_at = self.now

        self.many(operations.run_now_many, TIMED, hurried)

    def many(self, do: Any, allowed: set[str], change: Any) -> None:
        """One Event for all that changed, none for nothing; the rest is counted."""
        done = do(Job.objects.all(), ANN)
        chosen = [life for life in self.lives.values() if life.state in allowed]
        assert done.changed == len(chosen)
        assert sum(done.left.values()) == len(self.lives) - len(chosen)
        self.events += bool(chosen)
        for life in chosen:
            change(life)

    @rule(queue=st.sampled_from(QUEUES), span=st.sampled_from([None, 1, 5]), on=st.booleans())
    def hold_the_queue(self, queue: str, span: int | None, on: bool) -> None:
        if on:
            self.pause(queue, span)
        else:
            self.resume(queue)

    def pause(self, queue: str, span: int | None) -> None:
        until = None if span is None else self.now + seconds(span)
        operations.pause(queue, ANN, until=until)
        self.paused[queue] = until
        self.events += 1

    def resume(self, queue: str) -> None:
        if queue in self.active():
            with pytest.raises(QueueCTLError, match="not paused"):
                operations.resume(queue, ANN)
            return
        operations.resume(queue, ANN)
        del self.paused[queue]
        self.events += 1

    # What holds after every step

    @invariant()
    def the_rows_are_what_the_model_says(self) -> None:
        rows = {job.key: job for job in Job.objects.all()}
        assert rows.keys() == self.lives.keys()
        for key, life in self.lives.items():
            job = rows[key]
            said = (life.state, life.attempts, life.losses, life.interruptions, life.runs)
            assert (job.state, job.attempts, job.losses, job.interruptions, job.runs) == said, key
            asked = (life.queue, life.priority, life.max_retries, life.due_at, life.trusted)
            found = (job.queue, job.priority, job.max_retries, job.due_at, job.prefetchable)
            assert found == asked, key
            assert (f"{job.lease.hex}-{job.id}" if job.lease else None, job.worker_id) == (
                life.lease,
                life.worker,
            )
            assert (job.finished_at is not None) == (life.state in FINAL), key
            assert (job.lease is not None) == (life.state == "processing"), key
            if job.lease:
                assert (job.started_at is not None) == life.started, key
            assert (job.cancel_requested_at is not None) == life.asked, key

    @invariant()
    def every_attempt_is_there_once(self) -> None:
        history: dict[str, list[tuple[int, str]]] = {key: [] for key in self.lives}
        rows = Attempt.objects.order_by("number").values_list("job__key", "number", "outcome")
        for key, number, outcome in rows:
            history[key].append((number, outcome))
        assert history == {key: life.history for key, life in self.lives.items()}

    @invariant()
    def every_change_by_a_person_left_one_event(self) -> None:
        assert Event.objects.count() == self.events


def test_a_jobs_life_is_what_the_rules_say() -> None:
    limits = {"MAX_LOST": MAX_LOST, "MAX_INTERRUPTS": MAX_INTERRUPTS}
    with override_settings(QUEUECTL=limits):
        run_state_machine_as_test(
            Lives,
            settings=settings(
                max_examples=25,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
