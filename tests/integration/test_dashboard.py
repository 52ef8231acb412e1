"""The dashboard's pages: who may see and do what, what is said, and what it costs."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core import signing
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, reverse
from pytest_django.fixtures import Settings

from jobs import dialect, stats, urls
from jobs.dashboard import sights
from jobs.exceptions import TooBroad, WorkerRefused
from jobs.models import Attempt, Event, Job, Output, Queue, Stream, Worker
from jobs.pages import keyset
from jobs.pages.headers import HEADERS
from jobs.states import FINAL, JobState
from jobs.worker import detach
from tests.integration.builders import NOW, make_job, make_jobs, make_queues, make_worker, seconds
from tests.integration.test_spoilt_rows import SPOILT, spoil

pytestmark = pytest.mark.django_db

OPEN = {"COMMAND_POLICY": "shell", "START_WORKERS_FROM_WEB": True}
ROLES: dict[str, tuple[str, ...]] = {
    "staff": (),
    "viewer": ("view_job",),
    "operator": ("view_job", "operate_job", "operate_queue", "operate_worker", "delete_job"),
    "submitter": ("view_job", "submit_command"),
    "starter": ("view_job", "start_worker"),
}
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e{{98765*7}}'\"&"


def superuser() -> User:
    # No password to hash: that is most of such a test's time.
    return User.objects.create(username="root", is_superuser=True, is_staff=True)


def browser(role: str) -> Client:
    """A browser of somebody logged in with a role's permissions; staff, as for the admin."""
    client = Client()
    if role == "anonymous":
        return client
    if role == "superuser":
        user = superuser()
    else:
        user = User.objects.create_user(role, is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=ROLES[role]))
    client.force_login(user)
    return client


def page(name: str, *args: str) -> str:
    return reverse(f"queuectl:{name}", args=args)


def rows() -> Any:
    """All there is, but for the events of refusals."""
    found = [list(model.objects.order_by("pk").values()) for model in (Job, Queue, Worker)]
    return [*found, list(Event.objects.exclude(action="refused").order_by("pk").values())]


def html(response: Any) -> str:
    return str(response.content.decode())


def dead_job(**fields: Any) -> Job:
    """A job with one attempt and what it printed."""
    job = make_job(state=JobState.DEAD, runs=1, attempts=4, max_retries=3, **fields)
    Attempt.objects.create(
        job=job, number=1, outcome="failed", exit_code=7, started_at=NOW, finished_at=NOW + seconds(1),
        error=fields.get("last_error", ""), stdout_bytes=6,
    )  # fmt: skip
    return job


def printed(job: Job, data: bytes, stream: Stream = Stream.STDOUT, offset: int = 0) -> None:
    Output.objects.create(
        job=job, attempt=1, stream=stream, sequence=Output.objects.count(), offset=offset, data=data
    )


# Who may


SEEN = {
    "overview": (), "jobs": (), "job": ("j",), "dlq": (), "charts": (), "new": (),
    "start-workers": (), "stop-workers": (), "act": ("j", "retry"),
}  # fmt: skip
REFUSED_PAGES = {
    "staff": set(SEEN),
    "viewer": {"new", "start-workers", "stop-workers", "act"},
    "operator": {"new", "start-workers"},
    "submitter": {"start-workers", "stop-workers", "act"},
    "starter": {"new", "stop-workers", "act"},
    "superuser": set(),
}


@pytest.mark.parametrize("role", REFUSED_PAGES)
@pytest.mark.parametrize("name", SEEN)
def test_a_page_is_for_those_who_may(role: str, name: str, settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    make_job(key="j", state=JobState.DEAD)
    response = browser(role).get(page(name, *SEEN[name]))
    assert response.status_code == (403 if name in REFUSED_PAGES[role] else 200)
    if name in REFUSED_PAGES[role]:
        assert "needs the permission queuectl." in html(response)


DEEDS: dict[str, tuple[JobState, dict[str, str], set[str]]] = {
    "retry": (JobState.DEAD, {}, {"operator", "superuser"}),
    "run-now": (JobState.SCHEDULED, {}, {"operator", "superuser"}),
    "cancel": (JobState.PENDING, {}, {"operator", "superuser"}),
    "run-again": (JobState.COMPLETED, {}, {"submitter", "superuser"}),
    "move": (JobState.PENDING, {"queue": "other"}, {"operator", "superuser"}),
    "set-priority": (JobState.PENDING, {"priority": "7"}, {"operator", "superuser"}),
    "discard": (JobState.DEAD, {}, {"operator", "superuser"}),
}


@pytest.mark.parametrize("role", [*ROLES, "anonymous", "superuser"])
@pytest.mark.parametrize("verb", DEEDS)
def test_a_button_is_for_those_who_may(role: str, verb: str, settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    state, fields, allowed = DEEDS[verb]
    make_job(key="j", state=state)
    client, before = browser(role), rows()
    response = client.post(page("act", "j", verb), {"confirmed": "yes", **fields})
    if role in allowed:
        assert response.status_code == 302
        assert rows() != before
    else:
        assert response.status_code == (302 if role == "anonymous" else 403)
        assert rows() == before


def test_anonymous_people_are_led_to_the_login_from_every_address() -> None:
    for pattern in urls.urlpatterns:
        assert isinstance(pattern, URLPattern)
        converters = pattern.pattern.converters
        given = {"key": "j", "name": "retry"}
        kwargs = {name: given[name] for name in converters}
        address = reverse(f"queuectl:{pattern.name}", kwargs=kwargs)
        for response in (Client().get(address), Client().post(address)):
            assert response.status_code == 302
            assert response.headers["Location"].startswith("/accounts/login/?next=")


@pytest.mark.parametrize("policy", ["disabled", "templates", "argv"])
def test_with_commands_off_a_superuser_submits_none(policy: str, settings: Settings) -> None:
    settings.QUEUECTL = {"COMMAND_POLICY": policy}
    make_job(key="j", state=JobState.COMPLETED)
    client = browser("superuser")
    for address, data in (
        (page("new"), {"command": "id"}),
        (page("act", "j", "run-again"), {}),
    ):
        response = client.post(address, data)
        assert response.status_code == 403
        assert "COMMAND_POLICY" in html(response)
    assert Job.objects.count() == 1
    assert "COMMAND_POLICY" in html(client.get(page("new")))


def test_without_permission_the_command_is_redacted_and_the_output_withheld() -> None:
    job = dead_job(
        key="j", command="curl -H 'Token: s3cret' whole", last_error="canary (exit code 7)"
    )
    make_job(key="assigned", command="TOKEN=s3cret curl x")
    told = {"cwd": "/srv/s3cret", "env": {"s3cret_name": "x"}, "unique_key": "s3cret-key"}
    Job.objects.filter(key="j").update(**told)
    printed(job, b"canary\n")
    Attempt.objects.update(error="canary (exit code 7)")
    client = browser("viewer")
    for name, args in SEEN.items():
        seen = html(client.get(page(name, *args)))
        assert "s3cret" not in seen and "whole" not in seen
        assert "canary" not in seen
    seen = html(client.get(page("job", "j")))
    assert "curl …" in seen
    assert "Ask for queuectl.view_output" in seen
    assert "Failed with exit code 7" in seen
    owner = html(browser("superuser").get(page("job", "j")))
    assert "Token: ***&#x27; whole" in owner and "canary" in owner
    assert "s3cret_name" in owner and "/srv/s3cret" in owner and "s3cret-key" in owner
    assert "Token: s3cret" not in owner  # nor to those who may see input


def test_a_task_shows_its_traceback_and_its_result_to_whoever_may_see_output() -> None:
    args = {"args": [], "kwargs": {}}
    job = make_job(
        key="t",
        command=None,
        task="a.b",
        args=args,
        state=JobState.COMPLETED,
        runs=3,
        result=["canary"],
    )
    for number, outcome, text in (
        (1, "failed", "boom canary"),
        (2, "failed", ""),
        (3, "succeeded", ""),
    ):
        Attempt.objects.create(
            job=job, number=number, outcome=outcome, finished_at=NOW, traceback=text
        )
    owner, viewer = browser("superuser"), browser("viewer")
    told = {"1": "boom canary", "2": "Neither a result nor a traceback is kept.", "3": "canary"}
    for number, text in told.items():
        address = f"{page('job', 't')}?attempt={number}"
        seen = html(owner.get(address))
        assert text in seen
        assert ("boom" in seen) is (number == "1")
        assert "canary" not in html(viewer.get(address))


def test_of_a_very_long_list_of_arguments_the_beginning_is_shown() -> None:
    make_job(key="long", command=None, argv=["echo", *["\x01" * 131_000] * 10])
    response = browser("superuser").get(page("job", "long"))
    assert len(response.content) < 1_000_000
    assert "characters left out" in html(response)


def test_a_page_is_bounded_also_where_all_of_it_has_to_be_spelled_out() -> None:
    quotes = '"' * 131_071
    job = make_job(key="q", command=quotes, state=JobState.COMPLETED, runs=1)
    Attempt.objects.create(job=job, number=1, outcome="succeeded", finished_at=NOW)
    for stream in Stream:
        Output.objects.create(
            job=job, attempt=1, stream=stream, sequence=0, offset=0, data=quotes.encode()[:65_536]
        )
    response = browser("superuser").get(page("job", "q"))
    assert len(response.content) < 1_000_000
    shown = [len(each) // 6 for each in re.findall(r"(?:&quot;){100,}", html(response))]
    assert shown == [131_071 // 2 + 1, 32_768, 32_768]


# What a request may do


def test_a_get_changes_nothing(settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    make_job(key="j", state=JobState.DEAD)
    make_worker()
    client, before = browser("superuser"), rows()
    for name, args in SEEN.items():
        for query in ({}, {"confirmed": "yes", "count": "2", "command": "id", "queue": "q"}):
            assert client.get(page(name, *args), query).status_code in (200, 400)
    for verb in DEEDS:
        assert client.get(page("act", "j", verb), {"confirmed": "yes"}).status_code == 200
    assert rows() == before


def test_a_post_without_its_token_changes_nothing(settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    make_job(key="j", state=JobState.DEAD)
    make_worker()
    client = Client(enforce_csrf_checks=True)
    client.force_login(superuser())
    before = rows()
    for address in (
        page("act", "j", "retry"),
        page("act", "j", "discard"),
        page("new"),
        page("start-workers"),
        page("stop-workers"),
    ):
        data = {"confirmed": "yes", "command": "id", "count": "1"}
        assert client.post(address, data).status_code == 403
    assert rows() == before


@pytest.mark.parametrize("name", ["overview", "jobs", "dlq", "charts"])
def test_other_methods_are_refused(name: str) -> None:
    client = browser("superuser")
    assert client.post(page(name)).status_code == 405
    assert client.delete(page(name)).status_code == 405


def test_headers_are_strict_on_every_answer() -> None:
    client = browser("superuser")
    answers = [client.get(page(name, *args)) for name, args in SEEN.items()]
    answers += [client.get("/jobs/?state=bogus"), Client().get("/"), client.post("/jobs/")]
    for response in answers:
        assert {name: response.headers[name] for name in HEADERS} == HEADERS


def scan(text: str) -> list[str]:
    """What a strict policy would stop, or what only a script could do."""
    return re.findall(r"<script|<style|\sstyle=|\son[a-z]+=|javascript:|https?://", text)


def test_hostile_text_is_text_on_every_page(settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    key = "<script>alert(1)</script> {{98765*7}} a/b"
    job = dead_job(
        key=key, command=f"echo {HOSTILE}", last_error=HOSTILE, enqueued_by=HOSTILE[:100]
    )
    printed(job, f"{HOSTILE}\r\nbar 10%\rbar 99%\n\x1b]52;c;aGk=\x07".encode() + b"\xff\xfe")
    Attempt.objects.update(error=HOSTILE)
    make_worker(name=HOSTILE[:100], host=HOSTILE)
    client = browser("superuser")
    client.post(page("act", key, "retry"))
    Job.objects.update(state=JobState.DEAD, finished_at=NOW)
    addresses = [page(n, *(key if a == "j" else a for a in args)) for n, args in SEEN.items()]
    addresses += [page("jobs") + "?q=" + "<script>", page("job", "<script>x")]
    for address in addresses:
        seen = html(client.get(address))
        assert scan(seen.replace('xmlns="http://www.w3.org/2000/svg"', "")) == [], address
        assert not set("\x1b\u202e\x07\x9b") & set(seen)
        assert "691355" not in seen, "a template ran what it was to show"
    seen = html(client.get(page("job", key)))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in seen
    assert "{{98765*7}}" in seen
    assert "\\u202e" in seen
    assert "bar 99%" in seen and "bar 10%" not in seen


@pytest.mark.parametrize("key", ["a/b", "..", ".", "a~2Fb", "%41", "ä?#&;", "x y", "add", "a'b\""])
def test_every_id_has_an_address_of_its_own(key: str) -> None:
    make_job(key=key, state=JobState.DEAD)
    client = browser("superuser")
    assert client.get(page("job", key)).status_code == 200
    assert client.post(page("act", key, "retry")).headers["Location"] == page("job", key)
    assert Job.objects.get(key=key).state == JobState.PENDING


@pytest.mark.parametrize(
    "path",
    ["/jobs/%00/", "/jobs/%ff/", "/jobs//", "/jobs/a%2fb/", "/jobs/%1b/", f"/jobs/{'x' * 8192}/"],
)
def test_an_address_of_nothing_is_not_found(path: str) -> None:
    assert browser("superuser").get(path).status_code == 404


def test_an_unknown_id_names_its_neighbours() -> None:
    make_job(key="nightly-backup")
    response = browser("viewer").get(page("job", "nightly-bakup"))
    assert response.status_code == 404
    assert "closest ids: nightly-backup" in html(response)


def test_next_leads_only_to_this_site() -> None:
    make_jobs(3, state=JobState.DEAD)
    client = browser("operator")
    for named in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        key = Job.objects.dead().first().key  # type: ignore[union-attr]
        response = client.post(page("act", key, "retry"), {"next": named})
        assert response.headers["Location"] == page("job", key)


# What is said


def test_a_refusal_shows_the_job_as_it_is_now() -> None:
    make_job(key="j")
    client, before = browser("operator"), rows()
    response = client.post(page("act", "j", "retry"))
    assert response.status_code == 409
    assert "not in Dead Letter Queue" in html(response)
    assert rows() == before


def test_a_running_job_is_cancelled_only_after_a_page_that_asks() -> None:
    make_job(key="j", state=JobState.PROCESSING)
    client = browser("operator")
    asked = client.post(page("act", "j", "cancel"))
    assert asked.status_code == 200
    assert "SIGTERM" in html(asked)
    assert Job.objects.get().cancel_requested_at is None
    response = client.post(page("act", "j", "cancel"), {"confirmed": "yes"}, follow=True)
    assert "has been asked to stop it" in html(response)
    assert Job.objects.get().cancel_requested_at is not None


def test_a_job_is_deleted_only_after_a_page_that_asks() -> None:
    dead_job(key="j")
    client = browser("operator")
    assert "cannot be undone" in html(client.post(page("act", "j", "discard")))
    assert Job.objects.exists()
    client.post(page("act", "j", "discard"), {"confirmed": "yes"})
    assert not Job.objects.exists()
    assert Event.objects.get().action == "discard"


@pytest.mark.parametrize("text", ["high", "1.5", "5 ", "1_000", "\u0665", "1" * 30, "-1001", ""])
def test_a_priority_that_is_none_is_said_beside_the_field(text: str) -> None:
    make_job(key="j")
    response = browser("operator").post(
        page("act", "j", "set-priority"), {"confirmed": "yes", "priority": text}
    )
    assert response.status_code == 400
    assert "q-field-error" in html(response)
    assert Job.objects.get().priority == 5


def test_a_new_job_is_what_the_form_says(settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    data = {
        "id": "job-001", "command": "  echo hi", "priority": "9", "max_retries": "2",
        "run_at": "2031-01-02T03:04:05", "queue": "media",
    }  # fmt: skip
    response = browser("submitter").post(page("new"), data, follow=True)
    assert "enqueued successfully" in html(response)
    job = Job.objects.get()
    assert (job.key, job.command, job.priority, job.max_retries) == ("job-001", "  echo hi", 9, 2)
    assert (job.queue, job.state, job.enqueued_by) == ("media", "scheduled", "submitter")


WRONG = {
    "id": [" a", "a\x1b", "-a", "x" * 129, "\u202ea"],
    "command": ["", "   ", "x" * 131_072],
    "priority": ["high", "1.5", "1_000", "9999"],
    "max_retries": ["-1", "101", "NaN"],
    "run_at": ["tomorrow", "2026-02-30T00:00", "0001-01-01T00:00:00+14:00", "2999-01-01T00:00"],
    "queue": ["default;drop", "all", "x" * 65, "*"],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, vs in WRONG.items() for v in vs])
def test_what_is_wrong_is_said_beside_its_field(field: str, value: str, settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    response = browser("submitter").post(page("new"), {"command": "true", field: value})
    assert response.status_code == 400
    assert f'id="id_{field}_error"' in html(response)
    assert not Job.objects.exists()


def test_a_taken_id_is_refused_and_a_repeated_job_is_told(settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    client = browser("submitter")
    for command, status, said in (
        ("true", 200, "enqueued successfully"),
        ("true", 200, "was there already"),
        ("false", 400, "already exists"),
    ):
        response = client.post(page("new"), {"id": "j", "command": command}, follow=True)
        assert response.status_code == status
        assert said in html(response)
    assert Job.objects.count() == 1


def test_an_unknown_state_is_refused() -> None:
    response = browser("viewer").get(page("jobs"), {"state": "DONE"})
    assert response.status_code == 400
    assert "There is no state" in html(response)


@pytest.mark.parametrize("search", ["%", "_", "' OR 1=1 --", "\\", "\0", "x" * 5000])
def test_a_search_is_literal(search: str) -> None:
    make_job(key="other")
    response = browser("viewer").get(page("jobs"), {"q": search})
    assert response.status_code == 200
    assert ("other" in html(response)) == (search == "\0")


def test_the_end_of_long_output_is_shown_and_what_is_left_out_is_told() -> None:
    job = dead_job(key="j")
    printed(job, b"HEAD" + b"a" * 1000)
    printed(job, b"b" * 70_000 + b"TAIL", offset=900_000)
    seen = html(browser("superuser").get(page("job", "j")))
    assert f"{900_000 + 70_004 - 65_536} bytes left out" in seen
    assert "TAIL" in seen and "HEAD" not in seen


def test_a_gap_in_the_output_is_marked_where_it_is() -> None:
    job = dead_job(key="j")
    printed(job, b"before")
    printed(job, "ä".encode()[1:] + b"after", offset=106)
    seen = html(browser("superuser").get(page("job", "j")))
    assert "100 bytes left out" in seen
    assert "<pre>before</pre>" in seen and "<pre>after</pre>" in seen


def test_the_overview_counts_and_asks_for_attention() -> None:
    make_queues("default", "media")
    make_jobs(2)
    make_job(state=JobState.DEAD)
    Queue.objects.filter(name="media").update(paused_at=NOW)
    make_job(queue="media")
    seen = html(browser("viewer").get(page("overview")))
    assert "default: 2 jobs wait and no worker is running." in seen
    assert "media: 1 job waits and the queue is paused." in seen
    assert "Workers not running" in seen


def test_with_no_jobs_the_next_step_is_named() -> None:
    client = browser("viewer")
    for name in ("overview", "jobs"):
        assert "queuectl enqueue -- echo hello" in html(client.get(page(name)))
    assert "Nothing is dead." in html(client.get(page("dlq")))
    assert "No failed job" in html(client.get(page("jobs") + "?state=failed"))


# Workers


@pytest.fixture
def starting(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> list[int]:
    """Counts asked for, of workers that are only said to start."""
    settings.QUEUECTL = OPEN
    counts: list[int] = []

    def start(plan: Any, log: Any) -> Any:
        counts.append(plan.slots)
        return detach.Started(4711, log)

    monkeypatch.setattr(detach, "start", start)
    return counts


def test_a_worker_is_started_and_named(starting: list[int]) -> None:
    response = browser("starter").post(page("start-workers"), {"count": "2"}, follow=True)
    assert re.search(r"Started 2 worker\(s\) on \S+, pid 4711", html(response))
    assert starting == [2]
    event = Event.objects.get()
    assert (event.actor, event.via, event.action) == ("starter", "web", "start")


@pytest.mark.parametrize("count", ["0", "11", "1e3", "", "-1", "x"])
def test_a_wrong_number_of_workers_starts_none(count: str, starting: list[int]) -> None:
    assert browser("starter").post(page("start-workers"), {"count": count}).status_code == 400
    assert starting == []


def test_workers_are_not_started_where_that_is_off(starting: list[int], settings: Settings) -> None:
    settings.QUEUECTL = {}
    response = browser("superuser").post(page("start-workers"), {"count": "1"})
    assert response.status_code == 403
    assert "START_WORKERS_FROM_WEB" in html(response)
    assert "queuectl worker start" in html(response)
    assert starting == []


def test_workers_are_not_started_without_permission(starting: list[int]) -> None:
    response = browser("operator").post(page("start-workers"), {"count": "1"})
    assert response.status_code == 403
    assert "queuectl.start_worker" in html(response)
    assert starting == []


@pytest.mark.parametrize(("role", "may"), [("viewer", False), ("starter", True)])
def test_the_overview_lets_start_or_names_the_command(
    role: str, may: bool, settings: Settings
) -> None:
    settings.QUEUECTL = OPEN
    text = html(browser(role).get(page("overview"))).partition("Worker Status")[2]
    assert (page("start-workers") in text) == may
    assert ("queuectl worker start" in text) != may


def test_a_second_worker_on_this_host_is_not_started(
    starting: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs import lockfile

    monkeypatch.setattr(lockfile, "is_alive", lambda boot, lock, *, silent: True)
    make_worker(boot=lockfile.boot())
    response = browser("starter").post(page("start-workers"), {"count": "1"}, follow=True)
    assert "Workers are already running" in html(response)
    assert starting == []


def test_a_worker_that_dies_at_once_shows_the_end_of_its_log(
    starting: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(plan: Any, log: Any) -> Any:
        hint = "\n".join(f"line {n}\x1b" for n in range(50))
        raise WorkerRefused("The worker did not become ready", hint=hint)

    monkeypatch.setattr(detach, "start", start)
    response = browser("starter").post(page("start-workers"), {"count": "1"})
    assert response.status_code == 503
    assert "line 49\\x1b" in html(response) and "line 29" not in html(response)


def test_a_command_of_several_lines_is_stored_as_it_was_typed(settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    typed = "echo one\r\nprintf 'a\rb'\r\n"
    browser("submitter").post(page("new"), {"command": typed})
    assert Job.objects.get().command == "echo one\nprintf 'a\rb'\n"


@pytest.mark.parametrize("broken", ["directory", "file"])
def test_a_lock_directory_that_cannot_be_used_is_told(
    broken: str, starting: list[int], settings: Settings, tmp_path: Path
) -> None:
    locks = tmp_path / "locks"
    settings.QUEUECTL = {**OPEN, "LOCK_DIR": str(locks)}
    if broken == "directory":
        locks.write_text("")
    else:
        locks.mkdir(mode=0o700)
        (locks / "start-workers.turn").mkdir()
    response = browser("starter").post(page("start-workers"), {"count": "1"})
    assert response.status_code == 503
    text = html(response)
    assert str(locks) in text and "LOCK_DIR" in text and "its log" not in text
    assert starting == []


def test_stopping_asks_every_live_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs import lockfile

    monkeypatch.setattr(lockfile, "is_alive", lambda boot, lock, *, silent: True)
    make_worker(name="w1")
    client = browser("operator")
    assert "w1" in html(client.get(page("stop-workers")))
    assert "Stopping workers gracefully: w1" in html(client.post(page("stop-workers"), follow=True))
    assert Worker.objects.get().stop_requested == "drain"
    Worker.objects.update(stopped_at=NOW)
    assert "No workers are running" in html(client.post(page("stop-workers"), follow=True))


# What it costs


def captured(act: Callable[[], Any]) -> list[str]:
    with CaptureQueriesContext(dialect.connection()) as context:
        assert act().status_code == 200
    return [query["sql"] for query in context.captured_queries]


def unbounded(statements: Iterable[str]) -> list[str]:
    """Statements on the jobs that count, skip or gather."""
    words = re.compile(r"\bCOUNT\(|\bDISTINCT\b|\bOFFSET\b|\bGROUP BY\b", re.IGNORECASE)
    return [sql for sql in statements if '"queuectl_job"' in sql and words.search(sql)]


LISTS = [
    *(f"/jobs/?state={state}" for state in JobState), "/jobs/", "/jobs/?q=j", "/jobs/?queue=default",
    "/dlq/",
]  # fmt: skip


@pytest.mark.parametrize("address", LISTS)
def test_a_list_neither_counts_nor_skips_and_costs_the_same_for_any_number(address: str) -> None:
    make_queues("default")
    for state in JobState:
        worker = {"worker": make_worker()} if state is JobState.PROCESSING else {}
        make_jobs(3, state=state, **worker)
    client = browser("superuser")
    few = captured(lambda: client.get(address))
    for state in JobState:
        worker = {"worker": Worker.objects.get()} if state is JobState.PROCESSING else {}
        make_jobs(60, state=state, **worker)
    many = captured(lambda: client.get(address))
    assert unbounded(many) == []
    assert len(many) == len(few) <= 12


@pytest.mark.parametrize("address", ["/", *LISTS])
def test_a_list_does_not_read_what_it_does_not_show(address: str) -> None:
    make_jobs(2, state=JobState.DEAD)
    read = captured(lambda: browser("superuser").get(address))
    assert [sql for sql in read if re.search(r'"queuectl_job"\."(env|args|result)"', sql)] == []


@pytest.mark.parametrize("kind", [{}, {"command": None, "task": "a.b", "args": {}}])
def test_a_job_page_reads_little_more_than_it_shows(kind: dict[str, Any]) -> None:
    job = dead_job(key="j", **kind)
    printed(job, b"head")
    printed(job, b"x" * 65_536, offset=65_536)
    read = captured(lambda: browser("superuser").get(page("job", "j")))
    output = [sql for sql in read if "queuectl_output" in sql]
    assert all("LIMIT 1" in sql for sql in output) and len(output) == (0 if kind else 2)
    attempts = [sql for sql in read if "queuectl_attempt" in sql]
    assert "LIMIT 200" in attempts[0] and '"traceback"' not in attempts[0]
    assert len(attempts) == (2 if kind else 1)


# Pages of a list


@pytest.mark.parametrize("state", [None, *JobState])
def test_pages_hold_every_row_once_in_order_and_lead_back(state: JobState | None) -> None:
    order, name = keyset.order_of(state), state or JobState.PENDING
    worker = {"worker": make_worker()} if name is JobState.PROCESSING else {}
    for n in range(17):
        when = NOW + seconds(n // 5)  # ties, over the ends of pages too
        ended = {"finished_at": when} if name in FINAL else {}
        started = {"started_at": when if n % 4 else None} if worker else {}
        make_job(
            state=name, priority=n % 3, queue=f"q{n % 2}", due_at=when, created_at=when,
            updated_at=when, **ended, **started, **worker,
        )  # fmt: skip
    rows = Job.objects.filter(state=name)
    expected = [job.key for job in order.rows(rows).order_by(*order.columns)]
    pages = [keyset.page(rows, order, size=4)]
    while pages[-1].after:
        pages.append(keyset.page(rows, order, after=pages[-1].after, size=4))
    assert [job.key for page in pages for job in page.jobs] == expected
    assert [len(page.jobs) for page in pages] == [4, 4, 4, 4, 1]
    back = pages[-1]
    for page in reversed(pages[:-1]):
        back = keyset.page(rows, order, before=back.before, size=4)
        assert [job.key for job in back.jobs] == [job.key for job in page.jobs]
    assert not back.before


def test_a_page_stays_where_it_was_when_rows_come_and_go() -> None:
    jobs = make_jobs(10)
    first = keyset.page(Job.objects.all(), keyset.ALL, size=4)
    make_jobs(3)
    Job.objects.filter(key=first.jobs[-1].key).delete()
    second = keyset.page(Job.objects.all(), keyset.ALL, after=first.after, size=4)
    assert [job.key for job in second.jobs] == [job.key for job in jobs[5:1:-1]]


def test_a_list_is_cut_short_in_the_midst_of_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    make_job()
    monkeypatch.setattr(keyset, "PATIENCE_SECONDS", 0.1)
    counting = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    )
    slow = "pg_sleep(60) IS NULL" if dialect.can_notify() else f"({counting}) = 0"
    with pytest.raises(TooBroad) as refusal:
        keyset.page(Job.objects.extra(where=[slow]), keyset.ALL)
    assert "choose a state" in refusal.value.hint
    assert len(keyset.page(Job.objects.all(), keyset.ALL).jobs) == 1, "it is over with the one"


@pytest.mark.usefixtures("slow")
def test_a_list_that_takes_too_long_says_how_to_narrow_it() -> None:
    response = browser("superuser").get(page("jobs"), {"queue": "rare"})
    assert response.status_code == 400
    assert "takes too long to find" in html(response) and "choose a state" in html(response)


@pytest.mark.usefixtures("slow")
def test_metrics_that_take_too_long_are_to_be_had_at_a_shell() -> None:
    response = browser("superuser").get(page("charts"))
    assert response.status_code == 400
    assert "takes too long to find" in html(response) and "queuectl metrics" in html(response)


def test_the_page_of_metrics_has_the_times_of_the_newest_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sights, "NEWEST", 2)
    for number, key in enumerate(("oldest", "failed", "newest"), 1):
        outcome = "failed" if key == "failed" else "succeeded"
        Attempt.objects.create(
            job=make_job(key=key, state=JobState.COMPLETED), number=1, outcome=outcome,
            started_at=NOW, finished_at=NOW + seconds(number),
        )  # fmt: skip
    text = html(browser("superuser").get(page("charts")))
    assert "3.000s" in text and "newest" in text and "oldest" not in text
    assert "the newest 2 attempts" in text
    assert stats.metrics().total == 4


@pytest.mark.parametrize("mark", ["x", "x" * 1_000_000, "\0", "WzFd:1:2", "-1", "10" * 20])
def test_a_mark_that_was_made_up_is_the_first_page(mark: str) -> None:
    jobs = make_jobs(3)
    for found in (
        keyset.page(Job.objects.all(), keyset.ALL, after=mark),
        keyset.page(Job.objects.all(), keyset.ALL, before=mark),
    ):
        assert [job.key for job in found.jobs] == [job.key for job in reversed(jobs)]


@pytest.mark.parametrize("order", [keyset.ALL, *{*keyset.BY_STATE.values()}], ids=lambda o: o.name)
def test_a_mark_of_what_is_no_place_is_the_first_page(order: keyset.Order) -> None:
    """A row whose time nobody can read has none."""
    mark = signing.dumps([order.name, *[None for _ in order.columns]], salt="queuectl.keyset")
    assert order.read(mark) is None


def test_a_mark_of_another_order_is_the_first_page() -> None:
    make_jobs(3)
    mark = keyset.ALL.mark(Job.objects.order_by("id").last())
    other = keyset.order_of(JobState.PENDING)
    assert len(keyset.page(Job.objects.pending(), other, after=mark).jobs) == 3


@pytest.mark.parametrize(("column", "value"), [*SPOILT, ("env", """'[1, "a"]'""")], ids=str)
def test_a_row_edited_by_hand_has_its_page(settings: Settings, column: str, value: str) -> None:
    template = {"argv": ["tool", "{x}"], "parameters": {"x": {"type": "text"}}}
    settings.QUEUECTL = {**OPEN, "COMMANDS": {"tool": template}}
    job = make_job(key="j", argv=["true"])
    spoil(job, column, value)
    client = browser("superuser")
    for address in (
        page("job", "j"),
        page("jobs"),
        reverse("admin:queuectl_job_change", args=["j"]),
    ):
        assert client.get(address).status_code == 200
