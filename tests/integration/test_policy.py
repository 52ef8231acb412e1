"""Who may do what, looked at from every side: every address, every refusal, every door."""

import io
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.urls import get_resolver, reverse
from django.urls.resolvers import RegexPattern, URLResolver
from pytest_django.fixtures import Settings

from jobs import operations, transfer
from jobs.exceptions import DuplicateId, InvalidField, NotPermitted
from jobs.models import Attempt, Event, Job, Output, Queue, Setting, Stream, Worker
from jobs.operations import Actor, refusals
from jobs.pages.headers import HEADERS
from jobs.pages.shown import Sight, error
from jobs.states import JobState
from tests.integration.builders import NOW, make_job, make_queues, make_worker
from tests.integration.test_admin import button, listing, own_page, select
from tests.integration.test_dashboard import OPEN, browser, html, page, scan

pytestmark = pytest.mark.django_db

COMMANDS = {
    "greet": {
        "help": "Say hello.",
        "argv": ["echo", "Hello {name}", ["--times", "{times}"], "{mood}"],
        "parameters": {
            "name": {"type": "text", "max_length": 20},
            "times": {"type": "int", "min": 1, "max": 9, "optional": True},
            "mood": {"type": "choice", "choices": ["glad", "sad"], "default": "glad"},
        },
        "queue": "greetings",
        "timeout": 5,
        "max_retries": 0,
        "env": {"LOUD": "no"},
    }
}
TEMPLATES = {"COMMANDS": COMMANDS}
GREETING = ["echo", "Hello Ann", "glad"]

# Every address there is

SAMPLES = {
    "key": "j", "name": "retry", "object_id": "1", "app_label": "queuectl", "url": "nowhere", "path": "x",
    "content_type_id": "1", "id": "1",
}  # fmt: skip
DATA = Path(__file__).parents[1] / "data" / "original"
OPEN_TO_ALL = {"/accounts/login/", "/admin/login/"}
LOGS_OUT = {"/accounts/logout/", "/admin/logout/"}


def addresses(resolver: Any = None, before: str = "/") -> Iterator[str]:
    for pattern in (resolver or get_resolver()).url_patterns:
        text = str(pattern.pattern)
        if isinstance(pattern.pattern, RegexPattern):
            text = re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda m: SAMPLES[m[1]], text.strip("^$"))
        else:
            text = re.sub(r"<(?:\w+:)?(\w+)>", lambda m: SAMPLES[m[1]], text)
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern, before + text)
        else:
            yield before + text


def test_nobody_comes_in_without_a_login_by_any_address() -> None:
    make_job(key="j", state=JobState.DEAD)
    found = [address for address in addresses() if address not in OPEN_TO_ALL]
    assert len(found) > 50
    before = everything()
    for address in found:
        for response in (Client().get(address), Client().post(address, {"confirmed": "yes"})):
            where = response.headers.get("Location", "")
            if address in LOGS_OUT:
                assert response.status_code in (302, 405) and where in ("", *OPEN_TO_ALL, "/admin/")
            elif response.status_code != 404:
                assert where.split("?")[0] in OPEN_TO_ALL, (address, response.status_code)
    assert everything() == before


def everything() -> Any:
    """All there is, but for the events of refusals."""
    models = (Job, Queue, Worker, Setting, Attempt, Output, User, Group, Permission)
    found = [list(model._default_manager.order_by("pk").values()) for model in models]
    return [*found, list(Event.objects.exclude(action="refused").values())]


def test_a_crawl_changes_nothing_and_every_answer_is_strict(settings: Settings) -> None:
    settings.QUEUECTL = {**OPEN, **TEMPLATES}
    make_job(key="j", state=JobState.DEAD)
    make_queues("default")
    make_worker(pk=1)
    client = browser("superuser")
    more = [
        own_page("j"),
        button("j", "retry"),
        page("new-from", "greet"),
        "/nowhere",
        "/jobs/%00/",
    ]
    asks, before = {"confirmed": "yes", "count": "1", "command": "id", "value": "7"}, everything()
    for address in [*addresses(), *more]:
        response = client.get(address, asks)
        assert response.status_code < 500, address
        assert {name: response.headers.get(name) for name in HEADERS} == HEADERS, address
        if "/auth/" not in address and response.headers.get("Content-Type", "").startswith(
            "text/html"
        ):
            assert not re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", html(response)), (
                address
            )
    assert everything() == before


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
def test_a_page_of_a_refusal_is_strict_too(status: int, settings: Settings) -> None:
    settings.AXES_FAILURE_LIMIT = 1
    client = browser("viewer")
    client.raise_request_exception = False
    asked: dict[int, Callable[[], Any]] = {
        400: lambda: client.post(
            listing(), {"_selected_action": "\0", "action": "x", "index": "0"}
        ),
        403: lambda: Client(enforce_csrf_checks=True).post("/accounts/login/", {"username": "x"}),
        404: lambda: client.get("/nowhere"),
        429: lambda: Client().post("/accounts/login/", {"username": "x", "password": "y"}),
        500: lambda: client.get("/"),
    }
    with patch("jobs.dashboard.sights.frame", side_effect=RuntimeError("canary")):
        response = asked[status]()
    assert response.status_code == status
    assert {name: response.headers.get(name) for name in HEADERS} == HEADERS
    assert scan(html(response)) == [] and "canary" not in html(response)


def test_a_fresh_database_has_nobody_and_nothing_in_it() -> None:
    counts = [m._default_manager.count() for m in (User, Group, Job, Queue, Worker, Setting, Event)]
    assert counts == [0] * 7


# Refusals are written down


def shell(client: Client) -> Any:
    return client.post(page("new"), {"command": "id"})


REFUSALS: dict[str, tuple[str, dict[str, Any], Callable[[Client], Any], tuple[str, ...]]] = {
    "a page": ("staff", {}, lambda c: c.get("/jobs/"), ("web", "page /jobs/", "see", "view_job")),
    "a button": (
        "viewer",
        {},
        lambda c: c.post(page("act", "j", "retry")),
        ("web", "job j", "retry", "operate_job"),
    ),
    "deleting": (
        "viewer",
        {},
        lambda c: c.post(page("act", "j", "discard"), {"confirmed": "1"}),
        ("web", "job j", "discard", "delete_job"),
    ),
    "a command": ("viewer", OPEN, shell, ("web", "a new job", "enqueue", "submit_command")),
    "a command, by policy": (
        "superuser",
        TEMPLATES,
        shell,
        ("web", "a new job", "enqueue", "COMMAND_POLICY"),
    ),
    "the form": (
        "viewer",
        {},
        lambda c: c.get(page("new")),
        ("web", "a new job", "enqueue", "submit_command"),
    ),
    "a template": (
        "submitter",
        TEMPLATES,
        lambda c: c.post(page("new-from", "greet"), {"parameters.name": "A"}),
        ("web", "template greet", "enqueue", "submit_template"),
    ),
    "a template, by policy": (
        "superuser",
        {**TEMPLATES, "COMMAND_POLICY": "disabled"},
        lambda c: c.post(page("new-from", "greet"), {"parameters.name": "A"}),
        ("web", "template greet", "enqueue", "COMMAND_POLICY"),
    ),
    "a template, to another user": (
        "superuser",
        {**TEMPLATES, "CONFINE": {"other": {"user": "nobody"}}},
        lambda c: c.post(page("new-from", "greet"), {"parameters.name": "A", "queue": "other"}),
        ("web", "a new job", "enqueue", "queue 'other'"),
    ),
    "a move to another user": (
        "operator",
        {"CONFINE": {"other": {"user": "nobody"}}},
        lambda c: c.post(page("act", "j", "move"), {"queue": "other", "confirmed": "1"}),
        ("web", "job j", "move", "queue 'other'"),
    ),
    "a copy": (
        "superuser",
        {},
        lambda c: c.post(page("act", "j", "run-again")),
        ("web", "job j", "run again", "COMMAND_POLICY"),
    ),
    "starting": (
        "viewer",
        OPEN,
        lambda c: c.post(page("start-workers"), {"count": "1"}),
        ("web", "a worker on", "start", "start_worker"),
    ),
    "starting, by policy": (
        "superuser",
        {},
        lambda c: c.post(page("start-workers"), {"count": "1"}),
        ("web", "a worker on", "start", "START_WORKERS_FROM_WEB"),
    ),
    "the page to start": (
        "viewer",
        OPEN,
        lambda c: c.get(page("start-workers")),
        ("web", "a worker on", "start", "start_worker"),
    ),
    "stopping": (
        "viewer",
        {},
        lambda c: c.post(page("stop-workers")),
        ("web", "all workers", "stop drain", "operate_worker"),
    ),
    "the admin's list": (
        "staff",
        {},
        lambda c: c.get(listing()),
        ("admin", f"page {listing()}", "see", "the admin"),
    ),
    "the admin's page": (
        "staff",
        {},
        lambda c: c.get(own_page("j")),
        ("admin", "page /admin/queuectl/job/j/change/", "see", "the admin"),
    ),
    "the admin's button": (
        "viewer",
        {},
        lambda c: c.post(button("j", "cancel")),
        ("admin", "job j", "cancel", "operate_job"),
    ),
    "the admin's copy": (
        "superuser",
        {},
        lambda c: c.post(button("j", "run-again")),
        ("admin", "job j", "run again", "COMMAND_POLICY"),
    ),
    "a hidden action": (
        "viewer",
        {},
        lambda c: c.post(
            listing(),
            {"action": "retry", "index": "0", "_selected_action": [str(Job.objects.get().pk)]},
        ),
        ("admin", f"page {listing()}", "change", "retry"),
    ),
    "adding in the admin": (
        "superuser",
        {},
        lambda c: c.post("/admin/queuectl/job/add/", {"command": "id"}),
        ("admin", "page /admin/queuectl/job/add/", "change", "the admin"),
    ),
    "a setting": (
        "staff",
        {},
        lambda c: c.post("/admin/queuectl/setting/job-timeout/change/", {"value": "5"}),
        ("admin", "page /admin/queuectl/setting/job-timeout/change/", "change", "the admin"),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_leaves_one_event_and_nothing_else(name: str, settings: Settings) -> None:
    role, settings.QUEUECTL, act, (via, subject, action, why) = REFUSALS[name]
    make_job(key="j", state=JobState.DEAD)
    client, before = browser(role), everything()
    assert act(client).status_code == 403
    event = Event.objects.get()
    who = "root" if role == "superuser" else role
    assert (event.actor, event.via, event.action) == (who, via, "refused")
    assert event.subject.startswith(subject)
    assert event.note.startswith(f"{action}: ") and why in event.note
    assert everything() == before


def test_wrong_states_wrong_fields_and_strangers_leave_none(settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    make_job(key="j")
    client = browser("superuser")
    client.post(page("act", "j", "retry"))
    client.post(page("new"), {"command": ""})
    client.get(page("job", "nobody"))
    Client().post(page("act", "j", "cancel"))
    Client(enforce_csrf_checks=True).post(page("new"), {"command": "id"})
    assert not Event.objects.exists()


def someone(*codenames: str, via: str = "web") -> Actor:
    user = User.objects.create_user(f"user{User.objects.count()}")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return Actor(user.username, via, user)


def refused(actor: Actor, job: Job) -> None:
    with pytest.raises(NotPermitted):
        operations.retry(job, actor)


@pytest.mark.django_db(transaction=True)
def test_a_refusal_is_written_at_once_and_outlives_a_rollback() -> None:
    actor, job = someone(), make_job(key="j")
    refused(actor, job)
    assert Event.objects.count() == 1
    with transaction.atomic():
        refused(actor, make_job(key="k"))
        assert Event.objects.count() == 1
    assert Event.objects.count() == 2
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        refused(actor, make_job(key="l"))
        raise ZeroDivisionError
    refusals.settle()  # as the end of the request does
    assert [e.subject for e in Event.objects.order_by("id")] == ["job j", "job k", "job l"]
    assert not Job.objects.filter(key="l").exists()


@pytest.mark.django_db(transaction=True)
def test_a_refusal_that_was_rolled_back_does_not_suppress_its_equal() -> None:
    actor, job = someone(), make_job(key="j")
    with pytest.raises(NotPermitted), transaction.atomic():
        operations.retry(job, actor)
    assert not Event.objects.exists()
    refused(actor, job)
    assert [event.subject for event in Event.objects.all()] == ["job j"]
    refused(actor, job)
    assert Event.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_refusal_that_could_not_be_written_does_not_suppress_its_equal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    actor, job = someone(), make_job(key="j")
    with patch.object(refusals, "record", side_effect=OperationalError("disk full")):
        refused(actor, job)
    assert "could not be written" in caplog.text and not Event.objects.exists()
    refused(actor, job)
    assert Event.objects.count() == 1


@contextmanager
def every_request_in_a_transaction() -> Iterator[None]:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        yield
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False


@pytest.mark.django_db(transaction=True)
def test_with_a_transaction_a_request_a_refusal_is_written_all_the_same() -> None:
    make_job(key="j")
    client = browser("viewer")
    with every_request_in_a_transaction():
        assert client.post(button("j", "cancel")).status_code == 403
        assert client.post(page("act", "j", "cancel")).status_code == 403
    assert sorted(event.via for event in Event.objects.all()) == ["admin", "web"]


def test_a_client_that_is_refused_for_ever_does_not_fill_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(refusals.clock, "monotonic", lambda: now)
    monkeypatch.setattr(refusals.dialect, "in_transaction", lambda: False)
    actor, other, job = someone(), someone(), make_job(key="j")
    for _ in range(50):
        refused(actor, job)
    refused(other, job)
    assert Event.objects.count() == 2
    for n in range(50):
        refused(actor, make_job(key=f"j{n}"))
    assert Event.objects.filter(actor=actor.name).count() == refusals.MOST
    now += refusals.WINDOW
    refused(actor, job)
    assert Event.objects.latest("id").note.endswith("; 80 more before were not written down")


def test_events_are_only_added() -> None:
    Event.objects.create(at=NOW, actor="a", via="cli", action="retry", subject="job j")
    event = Event.objects.get()
    for change in (
        event.save, event.delete, Event.objects.all().delete, lambda: Event.objects.update(actor="b"),
        lambda: Event.objects.bulk_update([event], ["actor"]),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="only added"):
            change()
    assert Event.objects.get().actor == "a"


# Templates, by every door


@pytest.fixture(autouse=True)
def registered(settings: Settings) -> None:
    settings.QUEUECTL = TEMPLATES


def test_a_form_of_a_template_makes_a_job_with_its_defaults() -> None:
    client = clerk("submit_template")
    seen = html(client.get(page("new-from", "greet")))
    assert "Say hello." in seen and "echo" in seen and 'name="parameters.mood"' in seen
    data = {"parameters.name": "$(id) 'x'", "parameters.times": "", "parameters.mood": "sad", "id": "j",
            "queue": "", "priority": "", "max_retries": "", "run_at": ""}  # fmt: skip
    assert "enqueued successfully" in html(
        client.post(page("new-from", "greet"), data, follow=True)
    )
    job = Job.objects.get()
    assert (job.command, job.argv) == (None, ["echo", "Hello $(id) 'x'", "sad"])
    assert (job.queue, job.timeout, job.max_retries, job.env) == ("greetings", 5, 0, {"LOUD": "no"})
    assert job.enqueued_by == "clerk"


def clerk(*codenames: str) -> Client:
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_job", *codenames]))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ""), ("name", "-x"), ("name", "x" * 21), ("name", "a\x1bb"), ("times", "10"), ("times", "1_0"),
     ("mood", "angry")],
)  # fmt: skip
def test_what_is_wrong_in_a_template_is_said_beside_its_field(field: str, value: str) -> None:
    data = {"parameters.name": "Ann", "parameters.mood": "sad", f"parameters.{field}": value}
    response = clerk("submit_template").post(page("new-from", "greet"), data)
    assert response.status_code == 400
    assert f'id="id_parameters.{field}_error"' in html(response)
    assert not Job.objects.exists()


def test_the_page_offers_what_a_person_may_submit(settings: Settings) -> None:
    greet = page("new-from", "greet")
    root = browser("superuser")
    seen = html(root.get(page("new")))
    assert greet in seen and 'name="command"' not in seen
    settings.QUEUECTL = {**TEMPLATES, "COMMAND_POLICY": "shell"}
    seen = html(root.get(page("new")))
    assert greet in seen and 'name="command"' in seen
    seen = html(browser("submitter").get(page("new")))
    assert greet not in seen and 'name="command"' in seen
    assert root.get(page("new-from", "nothing")).status_code == 404


BAD_REQUESTS: list[tuple[dict[str, Any], str, str]] = [
    ({"template": "great"}, "template", "did you mean 'greet'?"),
    ({"template": 5}, "template", "known templates: greet"),
    ({"parameters": {"name": "x"}}, "template", "known templates: greet"),
    ({"template": "greet", "parameters": [1]}, "parameters", "an object of values"),
    ({"template": "greet"}, "parameters.name", "20 printable characters"),
    ({"template": "greet", "parameters": {"nmae": "x"}}, "parameters", "did you mean 'name'?"),
    *(({"template": "greet", "parameters": {"name": "x"}, name: value}, name, "leave")
      for name, value in (("command", "id"), ("argv", ["id"]), ("env", {"LD_PRELOAD": "x"}), ("cwd", "/"))),
]  # fmt: skip


@pytest.mark.parametrize(("given", "field", "hint"), BAD_REQUESTS)
def test_a_request_that_is_no_template_is_refused_by_name(
    given: dict[str, Any], field: str, hint: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        operations.enqueue(given)
    assert caught.value.field == field and hint in caught.value.hint
    assert not Job.objects.exists()


def test_what_is_asked_for_goes_before_the_templates_defaults() -> None:
    given = {
        "template": "greet",
        "parameters": {"name": "Ann"},
        "queue": "other",
        "timeout": None,
        "id": "j",
    }
    assert operations.enqueue(given).created
    assert not operations.enqueue(given).created
    job = Job.objects.get()
    assert (job.argv, job.queue, job.timeout) == (GREETING, "other", 5)


CREDENTIALS = ("submit_command", "submit_template", "submit_task", "import_jobs")
KINDS: dict[str, dict[str, Any]] = {
    "shell": {"command": "id"},
    "argv": {"argv": ["id"]},
    "template": {"template": "greet", "parameters": {"name": "Ann"}},
}
POLICY = {
    "disabled": set(),
    "templates": {"template"},
    "argv": {"argv", "template"},
    "shell": set(KINDS),
}


@pytest.mark.parametrize("policy", POLICY)
@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_holds_at_every_door_for_everybody(
    policy: str, kind: str, settings: Settings
) -> None:
    settings.QUEUECTL = {**TEMPLATES, "COMMAND_POLICY": policy}
    root = User.objects.create(username="root", is_superuser=True)
    for via in ("web", "admin", "api"):
        actor = Actor("root", via, root)
        if kind in POLICY[policy]:
            job = operations.find(operations.enqueue(KINDS[kind], actor).key)
            assert operations.run_again(job, actor).created
        else:
            for act in (operations.enqueue, lambda given, a: operations.enqueue_many([given], a)):
                with pytest.raises(NotPermitted, match="does not take"):
                    act(KINDS[kind], actor)
    assert operations.enqueue(KINDS[kind], Actor("root", "python", root)).created
    assert operations.enqueue(KINDS[kind], Actor("ann", "cli")).created


def test_an_import_submits_no_command_against_the_policy() -> None:
    root = User.objects.create(username="root", is_superuser=True)
    with pytest.raises(NotPermitted):
        transfer.import_file(DATA / "jobs.json", Actor("root", "web", root), keep_going=True)
    assert not Job.objects.exists()


def test_a_copy_of_what_a_template_could_have_made_needs_no_more_than_the_template() -> None:
    made = operations.find(operations.enqueue(KINDS["template"]).key)
    alike = {"argv": GREETING, "env": {"LOUD": "no"}}
    like = make_job(key="like", **alike)
    others = [
        make_job(key="env", **alike | {"env": {"LOUD": "no", "LD_PRELOAD": "x"}}),
        make_job(key="cwd", **alike, cwd="/tmp"),
        make_job(key="argv", **alike | {"argv": [*GREETING, "--more"]}),
        make_job(key="text", command="echo 'Hello Ann' glad", env={"LOUD": "no"}),
    ]
    actor = someone("submit_template")
    for job in (made, like):
        assert operations.run_again(job, actor).created
    for job in others:
        with pytest.raises(NotPermitted):
            operations.run_again(job, actor)


def test_a_copy_of_a_task_needs_submit_task_alone() -> None:
    make_job(key="t", task="site.tasks.run", args={"args": [], "kwargs": {}})
    for codename, status in (("submit_command", 403), ("submit_task", 302)):
        User.objects.filter(username="clerk").delete()
        assert clerk(codename).post(page("act", "t", "run-again")).status_code == status
    assert Job.objects.count() == 2


# What is stored is data


CANARY = "canary' OR 1=1 --"


def test_no_statement_holds_what_a_person_wrote(settings: Settings) -> None:
    settings.QUEUECTL = {**OPEN, **TEMPLATES}
    make_job(key=CANARY, state=JobState.DEAD)
    make_job(key="w")
    make_queues("q")
    client, statements = browser("superuser"), []

    def listen(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        statements.append(str(sql))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(listen):
        for address in (
            page("jobs"),
            listing(),
            *(listing(m) for m in ("queue", "worker", "event")),
        ):
            for name in (
                "q",
                "queue",
                "state",
                "kind",
                "before",
                "window",
                "paused",
                "action",
                "condition",
            ):
                client.get(address, {name: CANARY})
        client.get(page("job", CANARY))
        client.post(page("act", CANARY, "retry"))
        client.post(page("new"), {"command": CANARY, "id": CANARY + "2"})
        client.post(page("new-from", "greet"), {"parameters.name": CANARY, "id": CANARY + "3"})
        client.post(page("act", "w", "set-priority"), {"confirmed": "1", "priority": CANARY})
        select(
            client, "pause", Queue.objects.filter(name="q"), "queue", confirmed="1", reason=CANARY
        )
        Client().post("/accounts/login/", {"username": CANARY, "password": CANARY})
        client.get(f"/admin/queuectl/setting/{CANARY}/change/")
    assert len(statements) > 100
    assert [sql for sql in statements if "canary" in sql] == []
    assert Queue.objects.get(name="q").paused_reason == CANARY
    assert Job.objects.filter(key__startswith=CANARY).count() == 3


class _Watch:
    """Modules asked for, and classes found by pickle, while it looks."""

    def __init__(self) -> None:
        self.found: list[str] | None = None
        sys.addaudithook(self.hear)

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.found is not None and event in ("import", "pickle.find_class"):
            self.found.append(str(args[0]))


def test_no_row_makes_a_page_a_command_or_an_export_import_anything() -> None:
    data = pickle.dumps(("canary_module", 1))
    evil = {
        "__reduce__": ["os.system", "id"],
        "py/object": "canary_module.Evil",
        "text": repr(data),
    }
    job = make_job(
        key="j", state=JobState.DEAD, task="canary_module.run", args={"args": [evil], "kwargs": evil},
        result=evil, last_error="canary_module.Evil: boom", runs=1,
    )  # fmt: skip
    Attempt.objects.create(
        job=job,
        number=1,
        outcome="failed",
        started_at=NOW,
        finished_at=NOW,
        error="canary_module.Evil: x",
    )
    Output.objects.create(job=job, attempt=1, stream=Stream.STDOUT, sequence=0, offset=0, data=data)
    client, watch = browser("superuser"), _Watch()
    reads = [
        page("job", "j"),
        page("overview"),
        page("jobs"),
        page("dlq"),
        page("charts"),
        own_page("j"),
        listing(),
    ]
    for found in (None, []):  # once to import what these pages need themselves
        watch.found = found
        for address in reads:
            assert client.get(address).status_code == 200
        transfer.export(io.BytesIO(), "queuectl", Actor("ann", "cli"))
        client.post(page("act", "j", "retry"))
        Job.objects.update(state=JobState.DEAD, finished_at=NOW)
    heard, watch.found = watch.found, None
    assert heard is not None and not [
        name for name in heard if "canary" in name or "system" in name
    ]


@pytest.mark.parametrize("where", ["dashboard", "admin"])
def test_a_retry_in_vain_tells_the_unique_key_only_to_those_who_may_see_it(where: str) -> None:
    make_job(key="active", unique_key="canary-4711")
    make_job(key="j", state=JobState.DEAD, unique_key="canary-4711")
    address = page("act", "j", "retry") if where == "dashboard" else button("j", "retry")
    for client, sees in ((clerk("view_job", "operate_job"), False), (browser("superuser"), True)):
        said = html(client.post(address, follow=True))
        assert "An active job already has" in said
        assert ("canary-4711" in said) is sees
    assert Job.objects.get(key="j").state == JobState.DEAD


@pytest.mark.usefixtures("registered")
def test_whether_anothers_job_has_the_same_input_is_told_to_those_who_may_see_it() -> None:
    guess = {"id": "j", "template": "greet", "parameters": {"name": "Ann"}}
    wrong = guess | {"parameters": {"name": "Ben"}}
    owner, guesser = someone("submit_template"), someone("submit_template")
    assert operations.enqueue(guess, owner).created
    told = set()
    for given in (guess, wrong):
        with pytest.raises(DuplicateId) as caught:
            operations.enqueue(given, guesser)
        told.add(f"{caught.value}; {caught.value.hint}")
    assert len(told) == 1 and "somebody else enqueued it" in told.pop()
    reader = someone("submit_template", "view_input")
    for actor in (owner, reader, Actor("cron", "cli")):
        assert not operations.enqueue(guess, actor).created
        with pytest.raises(DuplicateId, match="already exists"):
            operations.enqueue(wrong, actor)
    assert Job.objects.count() == 1
    own = operations.run_again(Job.objects.get(), guesser).key
    for given in (guess, wrong):
        with pytest.raises(DuplicateId, match="already exists"):
            operations.enqueue(given | {"id": own}, guesser)


def test_what_a_job_printed_is_nowhere_for_those_who_may_not_see_it() -> None:
    secret = "canary-4711"
    for key, said in (
        ("j", f"{secret} (exit code 7)"),
        ("k", f"site.run.<locals>.MyError: {secret}"),
    ):
        what = (
            {"command": f"tool {secret}"}
            if key == "j"
            else {"task": "a.b", "args": {"args": [secret], "kwargs": {}}}
        )
        job = make_job(
            key=key, state=JobState.DEAD, runs=1, last_error=said, result={"x": secret},
            unique_key=secret, **what,
        )  # fmt: skip
        Attempt.objects.create(
            job=job, number=1, outcome="failed", exit_code=7, started_at=NOW, finished_at=NOW, error=said,
            traceback=secret, stdout_bytes=5,
        )  # fmt: skip
        Output.objects.create(
            job=job, attempt=1, stream=Stream.STDOUT, sequence=0, offset=0, data=secret.encode()
        )
    views = [p.codename for p in Permission.objects.filter(codename__startswith="view_")]
    rest = ["operate_job", "delete_job", "operate_queue", "operate_worker", "change_setting"]
    client = clerk(*(set(views) - {"view_output", "view_input"}), *rest)
    places = [*addresses(), own_page("j"), own_page("k"), page("job", "k"), page("jobs") + "?q=k"]
    places += [
        listing() + "?q=j",
        page("act", "j", "discard"),
        button("k", "discard"),
        page("new") + "?like=j",
    ]
    for address in places:
        assert secret not in html_of(client.get(address)), address
    text = html(select(client, "discard", Job.objects.all()))
    assert "j" in text and secret not in text
    for fmt in ("queuectl", "original"):
        with pytest.raises(NotPermitted):
            transfer.export(
                io.BytesIO(), fmt, Actor("clerk", "web", User.objects.get(username="clerk"))
            )
    assert secret in html(browser("superuser").get(page("job", "k")))


QUOTING: list[tuple[str, bool, str]] = [
    ("mod.f.<locals>.MyError: SECRET", True, "Failed with mod.f.<locals>.MyError; "),
    ("ValueError: SECRET\n(exit code 7)", True, "Failed with exit code 7; "),
    ("ValueError: x (signal 9 (SECRET))", True, "Failed with ValueError; "),
    ("SECRET", False, "Failed; "),
    ("SECRET: not found", False, "Failed; "),
    ("the key is SECRET", True, "Failed; "),
    ("Job timed out after 5 seconds: SECRET", False, "Failed; "),
    ("Max retries (3) exceeded. Last error: SECRET", False, "Failed; "),
    ("Lost with its worker w: SECRET", True, "Failed; "),
    ("Could not start: SECRET", False, "Could not start; "),
    ("Could not start: No such file or directory: /SECRET", False, ""),
    ("Cannot import the task a.b: KeyError: SECRET", True, "Cannot import the task; "),
]


@pytest.mark.parametrize(("text", "task", "begins"), QUOTING)
def test_of_an_error_only_what_is_known_to_quote_nothing_is_shown_to_all(
    text: str, task: bool, begins: str
) -> None:
    seen = error(text, Sight(input=True, output=False), task=task)
    assert "SECRET" not in seen and seen.startswith(begins)
    assert "SECRET" in error(text, Sight(input=False, output=True), task=task)


@pytest.mark.parametrize(
    "text",
    [
        "Command failed with exit code 1", "Command failed with signal 9 (SIGKILL)",
        "Its process ended with signal 35 (SIG35)", "Job timed out after 2.5 seconds",
        "Task timed out after 300 seconds", "Cancelled while it ran", "Lost: its worker is no more",
        "Interrupted: its worker had to stop it", "Lost: its task runner died",
        "Lost with its worker host-1-ab: its heartbeat stopped",
        "Could not start: its env is not an object of texts. Somebody has edited its row in the database.",
        "Could not start: its env was nested too deeply to be read, and is emptied."
        " Somebody has edited its row in the database.",
        "Could not start: its args are longer than the 50,331,648 bytes that a worker can send.",
        "Lost 3 times with its worker; it may be what kills it",
        "Interrupted 11 times, more often than a job may be", "",
    ],
)  # fmt: skip
def test_our_own_sentences_are_shown_to_all(text: str) -> None:
    for task in (True, False):
        assert error(text, Sight(input=False, output=False), task=task) == text


def html_of(response: Any) -> str:
    return "" if response.streaming else str(response.content.decode())


def test_one_with_no_permission_at_all_is_refused_at_every_address_of_ours() -> None:
    make_job(key="j", state=JobState.DEAD)
    make_worker(pk=1)
    client, before = browser("staff"), everything()
    ours = [a for a in addresses() if "/auth/" not in a and a not in OPEN_TO_ALL | LOGS_OUT]
    open_to_staff = {reverse("admin:index"), "/admin/jsi18n/", "/admin/password_change/"}
    for address in ours:
        if address.startswith("/admin/") and "queuectl/" not in address:
            continue
        for response in (client.get(address), client.post(address, {"confirmed": "yes"})):
            allowed = (302, 403, 404, 405) if address.startswith("/admin/") else (403,)
            assert address in open_to_staff or response.status_code in allowed, address
    assert everything() == before


def test_a_template_is_filled_in_at_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs.management.commands.queuectl import Command

    monkeypatch.setattr("jobs.dialect.close", lambda: None)

    def typed(*words: str) -> tuple[int, str]:
        code = 0
        try:
            Command().run_from_argv(["manage.py", "queuectl", "enqueue", *words])
        except SystemExit as end:
            code = int(end.code or 0)
        return code, "".join(capsys.readouterr())

    greet = ("--template", "greet")
    assert typed(*greet, "--param", "name=Ann", "--id", "j", "-q", "other")[0] == 0
    assert (
        typed('{"template": "greet", "parameters": {"name": "a=b", "times": 2}, "id": "k"}')[0] == 0
    )
    assert [job.argv for job in Job.objects.order_by("id")] == [
        GREETING, ["echo", "Hello a=b", "--times", "2", "glad"],
    ]  # fmt: skip
    for words, said in (
        ((*greet, "--param", "name"), "write --param NAME=VALUE"),
        ((*greet, "--param", "name=-x"), "not beginning with '-'"),
        (greet, "greet needs the parameter 'name'"),
        (("--param", "name=x"), "known templates: greet"),
        ((*greet, "--param", "name=x", "echo hi"), "takes parameters, no command"),
        ((*greet, "--param", "name=x", "--env", "A=b"), "takes no 'env'"),
        ((*greet, "--", "echo", "hi"), "takes no 'argv'"),
        (("--template", "great"), "did you mean 'greet'?"),
    ):
        code, text = typed(*words)
        assert code == 1 and said in text and "Traceback" not in text, words
    assert Job.objects.count() == 2


USERS: dict[str, dict[str, Any]] = {
    "*": {"user": "nobody"}, "media": {"user": "daemon"}, "photos": {"user": "daemon", "nice": 5},
    "admin": {"user": "root"},
}  # fmt: skip
PLACES = ("default", "media", "photos", "admin")


@pytest.fixture
def listing_files(settings: Settings) -> None:
    commands = {"here": {"argv": ["ls"]}, "media": {"argv": ["ls", "-l"], "queue": "media"}}
    settings.QUEUECTL = {"COMMANDS": commands, "CONFINE": USERS, "COMMAND_POLICY": "argv"}


@pytest.mark.usefixtures("listing_files")
@pytest.mark.parametrize(
    ("template", "free"), [("here", {"default"}), ("media", {"media", "photos"})]
)
def test_who_fills_in_a_template_does_not_choose_its_user(template: str, free: set[str]) -> None:
    def takes(actor: Actor) -> set[str]:
        taken = set()
        for queue in PLACES:
            try:
                operations.enqueue({"template": template, "queue": queue}, actor)
                taken.add(queue)
            except NotPermitted as refusal:
                assert "submit_command" in refusal.hint
        return taken

    assert takes(someone("submit_template")) == free
    assert takes(someone("submit_template", "submit_command")) == set(PLACES)
    assert takes(Actor("ann", "cli")) == set(PLACES)


@pytest.mark.usefixtures("listing_files")
@pytest.mark.parametrize(
    ("argv", "free"), [(["ls"], {"default"}), (["ls", "-l"], {"media", "photos"})]
)
def test_a_copy_is_the_templates_where_it_has_the_user_of_the_template(
    argv: list[str], free: set[str]
) -> None:
    actor, copied = someone("submit_template"), set()
    for queue in PLACES:
        job = make_job(key=queue, argv=argv, queue=queue)
        try:
            copied.add(Job.objects.get(key=operations.run_again(job, actor).key).queue)
        except NotPermitted as refusal:
            assert "submit_command" in f"{refusal} {refusal.hint}"
    assert copied == free


@pytest.mark.usefixtures("listing_files")
def test_who_moves_a_command_does_not_choose_its_user() -> None:
    mover, writer = someone("operate_job"), someone("operate_job", "submit_command")
    job = make_job(key="j", queue="media")
    seen_before = Job.objects.get(key="j")
    task = make_job(key="t", task="site.tasks.run", args={"args": [], "kwargs": {}}, queue="media")
    assert operations.move(job, "photos", mover).queue == "photos"
    for queue in ("admin", "default"):
        with pytest.raises(NotPermitted, match="another user"):
            operations.move(job, queue, mover)
    assert operations.move(job, "admin", writer).queue == "admin"
    with pytest.raises(NotPermitted, match="another user"):
        operations.move(seen_before, "media", mover)  # as it was read, it still was there
    assert operations.move(task, "admin", mover).queue == "admin"


@pytest.mark.usefixtures("listing_files")
def test_of_many_jobs_none_is_moved_if_one_would_get_another_user() -> None:
    mover, writer = someone("operate_job"), someone("operate_job", "submit_command")
    for queue in ("media", "admin"):
        make_job(key=queue, queue=queue)
    make_job(key="t", task="site.tasks.run", args={"args": [], "kwargs": {}}, queue="default")
    rows = Job.objects.all()
    with pytest.raises(NotPermitted, match="another user"):
        operations.move_many(rows, "photos", mover)
    assert set(rows.values_list("queue", flat=True)) == {"media", "admin", "default"}
    assert operations.move_many(rows.exclude(key="admin"), "photos", mover).changed == 2
    assert operations.move_many(rows, "admin", writer).changed == 3


@pytest.mark.usefixtures("listing_files")
def test_a_job_that_no_move_touches_does_not_keep_others_where_they_are() -> None:
    make_job(key="done", queue="admin", state=JobState.COMPLETED)
    make_job(key="waits", queue="media")
    moved = operations.move_many(Job.objects.all(), "photos", someone("operate_job"))
    assert (moved.changed, moved.left) == (1, {"completed": 1})


@pytest.mark.parametrize(
    "rights", [{"no_new_privs": False}, {"umask": 0o002}, {"group": "adm"}], ids=str
)
def test_a_queue_of_the_same_user_with_other_rights_is_not_free(
    settings: Settings, rights: dict[str, Any]
) -> None:
    confine = {"*": {"user": "nobody"}, "other": rights}
    settings.QUEUECTL = {**TEMPLATES, "CONFINE": confine, "COMMAND_POLICY": "argv"}
    actor, writer = someone("submit_template", "operate_job"), someone("submit_command")
    job = make_job(key="j", queue="greetings", argv=["true"])
    with pytest.raises(NotPermitted, match="other rights"):
        operations.enqueue({**KINDS["template"], "queue": "other"}, actor)
    with pytest.raises(NotPermitted, match="other rights"):
        operations.move(job, "other", actor)
    writer.user.user_permissions.add(Permission.objects.get(codename="operate_job"))
    assert operations.move(job, "other", writer).queue == "other"


def test_where_queues_differ_in_niceness_only_their_choice_is_free(settings: Settings) -> None:
    settings.QUEUECTL = {**TEMPLATES, "CONFINE": {"greetings": {"nice": 5, "open_files": 99}}}
    actor = someone("submit_template", "operate_job")
    made = operations.enqueue({**KINDS["template"], "queue": "other"}, actor)
    assert operations.move(operations.find(made.key), "greetings", actor).queue == "greetings"


@pytest.mark.usefixtures("listing_files")
def test_the_policy_stands_above_the_permission_to_choose_a_user(settings: Settings) -> None:
    settings.QUEUECTL = {**settings.QUEUECTL, "COMMAND_POLICY": "templates"}
    root = Actor("root", "web", User.objects.create(username="root", is_superuser=True))
    with pytest.raises(NotPermitted, match="another user"):
        operations.enqueue({"template": "here", "queue": "admin"}, root)
    with pytest.raises(NotPermitted, match="another user"):
        operations.move(make_job(key="j"), "admin", root)
