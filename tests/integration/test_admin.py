"""The admin: windows on the tables, with buttons that go through `operations`."""

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import NoReverseMatch, reverse
from pytest_django.fixtures import Settings

from jobs import conf, lockfile
from jobs.admin.events import EventAdmin
from jobs.models import Event, Job, Queue, Setting, Worker
from jobs.pages.addresses import to_url
from jobs.pages.headers import HEADERS
from jobs.states import JobState
from tests.integration.builders import NOW, make_job, make_jobs, make_queues, make_worker, seconds
from tests.integration.test_dashboard import (
    DEEDS,
    HOSTILE,
    OPEN,
    browser,
    captured,
    dead_job,
    html,
    printed,
    rows,
    scan,
    superuser,
    unbounded,
)

pytestmark = pytest.mark.django_db

MODELS = ("job", "queue", "worker", "setting", "event")
VIEW = ("view_job", "view_queue", "view_worker", "view_setting", "view_event")


def listing(model: str = "job") -> str:
    return reverse(f"admin:queuectl_{model}_changelist")


def own_page(key: str) -> str:
    return reverse("admin:queuectl_job_change", args=[quote(to_url(key))])


def button(key: str, verb: str) -> str:
    return reverse("admin:queuectl_job_press", args=[quote(to_url(key)), verb])


def staff(*codenames: str) -> Client:
    """A browser of a member of staff with these permissions and those to look."""
    user = User.objects.create_user(f"staff-{User.objects.count()}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=[*VIEW, *codenames]))
    client = Client()
    client.force_login(user)
    return client


def select(client: Client, action: str, chosen: Any, model: str = "job", **more: Any) -> Any:
    """Choose an action of the list for some rows; more is what the page that asks adds."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in chosen], **more}
    if "confirmed" not in more:
        data["index"] = "0"
    return client.post(listing(model), data, follow=True)


# Who may


def every_address() -> list[str]:
    make_job(key="j", state=JobState.DEAD)
    make_queues("default")
    worker = make_worker()
    event = Event.objects.create(at=NOW, actor="a", via="cli", action="retry", subject="job j")
    subjects = {
        "job": "j",
        "queue": "default",
        "worker": worker.pk,
        "setting": "job-timeout",
        "event": event.pk,
    }
    found = [button("j", verb) for verb in DEEDS]
    for model in MODELS:
        found.append(listing(model))
        for name in ("change", "delete", "history"):
            found.append(reverse(f"admin:queuectl_{model}_{name}", args=[subjects[model]]))
        found.append(reverse(f"admin:queuectl_{model}_add"))
    return found


def test_strangers_are_led_to_the_login_from_every_address() -> None:
    clerk = Client()
    clerk.force_login(User.objects.create_user("clerk"))
    for address in every_address():
        for client in (Client(), clerk):
            for response in (client.get(address), client.post(address, {"confirmed": "yes"})):
                assert response.status_code == 302, address
                assert response.headers["Location"].startswith("/admin/login/")


@pytest.mark.parametrize("model", MODELS)
def test_who_may_change_does_not_see_without_the_permission_to_see(model: str) -> None:
    user = User.objects.create_user("changer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__regex="^(add|change|delete)_"))
    client, addresses = Client(), [listing(model)]
    client.force_login(user)
    make_job(key="j")
    if model == "job":
        addresses.append(own_page("j"))
    for address in addresses:
        assert client.get(address).status_code == 403, address
    assert model not in {
        entry["object_name"].lower()
        for app in client.get(reverse("admin:index")).context["app_list"]
        for entry in app["models"]
    }
    user.user_permissions.add(Permission.objects.get(codename=f"view_{model}"))
    for address in addresses:
        assert client.get(address).status_code == 200, address


def test_staff_without_permission_sees_and_does_nothing() -> None:
    client = browser("staff")
    addresses, before = every_address(), rows()
    for address in addresses:
        for response in (client.get(address), client.post(address, {"confirmed": "yes"})):
            assert response.status_code in (403, 405), address
    assert rows() == before


def test_no_row_is_added_changed_or_deleted_in_a_form_even_by_a_superuser() -> None:
    client = browser("superuser")
    addresses, before = every_address(), rows()
    for address in addresses:
        if address.endswith(("/add/", "/delete/")):
            assert client.get(address).status_code == 403
        if "/press/" not in address and "/setting/" not in address:
            crafted = {"command": "id", "name": "x", "state": "pending", "actor": "x", "_save": "1"}
            client.post(address, crafted)
    assert rows() == before
    for model in MODELS:
        registered = next(a for m, a in admin.site._registry.items() if m._meta.model_name == model)
        assert not registered.has_add_permission(None)  # type: ignore[arg-type]
        assert not registered.has_delete_permission(None)  # type: ignore[arg-type]


def test_a_get_changes_nothing(settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    client = browser("superuser")
    addresses, before = every_address(), rows()
    for address in addresses:
        query = {"confirmed": "yes", "action": "discard", "_selected_action": "1", "value": "7"}
        client.get(address, query)
    assert rows() == before
    assert not Setting.objects.exists()


def test_a_post_without_its_token_changes_nothing() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(superuser())
    addresses, before = every_address(), rows()
    for address in addresses:
        data = {"confirmed": "yes", "action": "retry", "_selected_action": "1", "value": "7"}
        assert client.post(address, data).status_code == 403
    assert rows() == before


PERMISSIONS = {
    verb: "submit_command"
    if verb == "run-again"
    else "delete_job"
    if verb == "discard"
    else "operate_job"
    for verb in DEEDS
}


@pytest.mark.parametrize("verb", DEEDS)
def test_a_button_needs_its_one_permission(verb: str, settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    state, fields, _ = DEEDS[verb]
    make_job(key="j", state=state)
    others = {"operate_job", "delete_job", "submit_command"} - {PERMISSIONS[verb]}
    before = rows()
    data = {"confirmed": "yes", **fields}
    assert staff(*others).post(button("j", verb), data).status_code == 403
    assert rows() == before
    assert staff(PERMISSIONS[verb]).post(button("j", verb), data).status_code == 302
    assert rows() != before


@pytest.mark.parametrize("verb", DEEDS)
def test_an_action_needs_its_one_permission(verb: str, settings: Settings) -> None:
    settings.QUEUECTL = OPEN
    state, fields, _ = DEEDS[verb]
    job = make_job(state=state)
    others = {"operate_job", "delete_job", "submit_command"} - {PERMISSIONS[verb]}
    action, before = verb.replace("-", "_"), rows()
    client = staff(*others)
    assert f'value="{action}"' not in html(client.get(listing()))
    select(client, action, [job], confirmed="yes", **fields)
    assert rows() == before
    client = staff(PERMISSIONS[verb])
    assert f'value="{action}"' in html(client.get(listing()))
    select(client, action, [job], confirmed="yes", **fields)
    assert rows() != before


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("model", ["job", "event"])
def test_a_list_that_takes_too_long_is_empty_and_says_so(model: str) -> None:
    make_job(key="j")
    response = browser("superuser").get(listing(model))
    assert response.status_code == 200
    assert "takes too long to find" in html(response)


@pytest.mark.usefixtures("slow")
def test_an_action_on_all_that_a_filter_finds_has_its_deadline_too() -> None:
    job = make_job(key="j", state=JobState.DEAD)
    response = select(browser("superuser"), "retry", [job], select_across="1")
    assert response.redirect_chain and "choose a state" in html(response)
    assert Job.objects.get().state == JobState.DEAD


@pytest.mark.parametrize("policy", ["disabled", "templates", "argv"])
def test_with_commands_off_a_superuser_repeats_none(policy: str, settings: Settings) -> None:
    settings.QUEUECTL = {"COMMAND_POLICY": policy}
    job = make_job(key="j", state=JobState.COMPLETED)
    client = browser("superuser")
    assert client.post(button("j", "run-again")).status_code == 403
    refused = select(client, "run_again", [job])
    assert (refused.status_code, "does not take commands" in html(refused)) == (403, True)
    assert Job.objects.count() == 1
    assert "COMMAND_POLICY" in html(client.get(own_page("j")))


def test_a_viewer_sees_neither_commands_nor_output() -> None:
    job = dead_job(key="j", command="curl s3cret", last_error="canary (exit code 7)")
    printed(job, b"canary")
    client = staff()
    for address in (listing(), own_page("j"), listing() + "?q=j"):
        seen = html(client.get(address))
        assert "s3cret" not in seen and "canary" not in seen
    assert "curl …" in html(client.get(listing()))
    seen = html(staff("view_input", "view_output").get(own_page("j")))
    assert "s3cret" in seen and "canary" in seen


# The list of jobs


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?q=j",
        "?kind=command",
        "?window=24h",
        "?queue=default",
        *(f"?state={s}" for s in JobState),
    ],
)
def test_the_list_neither_counts_nor_skips_and_costs_the_same_for_any_number(query: str) -> None:
    make_queues("default")
    worker = make_worker()
    holder = {JobState.PROCESSING: {"worker": worker}}
    for state in JobState:
        make_jobs(3, state=state, **holder.get(state, {}))
    client = browser("superuser")
    few = captured(lambda: client.get(listing() + query))
    for state in JobState:
        make_jobs(60, state=state, **holder.get(state, {}))
    many = captured(lambda: client.get(listing() + query))
    assert unbounded(many) == []
    assert len(many) == len(few) <= 12


def links(text: str, rel: str) -> list[str]:
    return [link.replace("&amp;", "&") for link in re.findall(rf'rel="{rel}" href="([^"]+)"', text)]


def test_pages_lead_through_all_jobs_and_back() -> None:
    jobs = make_jobs(120, state=JobState.DEAD)
    client, seen, address = browser("superuser"), [], listing() + "?state=dead"
    for _ in range(3):
        text = html(client.get(address))
        seen += re.findall(r'class="field-id_"><a href="[^"]+">([^<]+)', text)
        address = listing() + next(iter(links(text, "next")), "")
    assert seen == [job.key for job in reversed(jobs)]
    text = html(client.get(listing() + links(text, "prev")[0]))
    assert jobs[60].key in text
    assert "state=dead" in links(text, "prev")[0]


@pytest.mark.parametrize(
    "query",
    ["before=x", "after=" + "1" * 5000, "state=DONE", "p=-1", "p=99999999999", "all=1", "o=1.2",
     "queue=%27%20OR%201=1", "kind=x", "window=10**12", "before=a&after=b", "q=%00"],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_the_list(query: str) -> None:
    make_job(key="visible-job")
    response = browser("superuser").get(f"{listing()}?{query}")
    assert response.status_code == 200
    assert "visible-job" in html(response)


@pytest.mark.parametrize("query", ["command__contains=x", "worker__lock=x", "id__gt=0", "bogus=1"])
def test_filters_off_the_list_are_refused(query: str) -> None:
    response = browser("superuser").get(f"{listing()}?{query}")
    assert response.status_code in (302, 400) or "e=1" in str(response.headers)


@pytest.mark.parametrize(
    ("search", "found"),
    [("a%", {"a%b"}), ("a_", {"a_b"}), ("a", {"a%b", "a_b", "axb"}), ("b", set())],
)
def test_search_is_by_id_or_its_beginning_literally(search: str, found: set[str]) -> None:
    for key in ("a%b", "a_b", "axb"):
        make_job(key=key)
    text = html(browser("superuser").get(listing(), {"q": search}))
    assert {key for key in ("a%b", "a_b", "axb") if f">{key}</a>" in text} == found


def test_the_window_filter_takes_those_created_lately() -> None:
    from jobs import dialect

    make_job(key="new", created_at=dialect.now())
    make_job(key="old", created_at=dialect.now() - seconds(7200))
    text = html(browser("superuser").get(listing(), {"window": "1h"}))
    assert ">new</a>" in text and ">old</a>" not in text


# Actions on many


def test_an_event_whose_time_cannot_be_read_is_not_said_to_be_of_now() -> None:
    event = Event(at=None, actor="ann", action="retry", subject="job j")
    assert EventAdmin(Event, admin.site).at_(event) == "-"


def test_an_action_tells_what_it_did_and_what_it_left() -> None:
    jobs = [*make_jobs(2, state=JobState.DEAD), make_job(), make_job(state=JobState.COMPLETED)]
    text = html(select(browser("superuser"), "retry", jobs))
    assert "Retried 2 of 4; 1 was pending, 1 was completed." in text.replace("&#x27;", "'") or (
        "Retried 2 of 4; 1 was completed, 1 was pending." in text
    )
    assert Event.objects.count() == 1


def test_above_twenty_a_page_asks_first() -> None:
    jobs = make_jobs(21, state=JobState.DEAD)
    client = browser("superuser")
    asked = html(select(client, "retry", jobs))
    assert "Retry 21 jobs?" in asked and "and 11 more" in asked
    assert Job.objects.dead().count() == 21
    assert "Retried 21 jobs." in html(select(client, "retry", jobs, confirmed="yes"))
    assert Job.objects.pending().count() == 21


def test_the_page_that_asks_posts_what_was_chosen() -> None:
    jobs = make_jobs(2, state=JobState.DEAD)
    client = browser("superuser")
    asked = html(select(client, "discard", jobs))
    inputs = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', asked)
    data: dict[str, list[str]] = {}
    for name, value in inputs:
        data.setdefault(name, []).append(value)
    assert "cannot be undone" in asked
    assert "Discarded 2 jobs." in html(client.post(listing(), data, follow=True))
    assert not Job.objects.exists()


def test_moving_asks_for_the_queue() -> None:
    job = make_job()
    client = browser("superuser")
    assert 'name="queue"' in html(select(client, "move", [job]))
    wrong = select(client, "move", [job], confirmed="yes", queue="no good")
    assert wrong.status_code == 400 and "q-field-error" in html(wrong)
    assert "Moved 1 job." in html(select(client, "move", [job], confirmed="yes", queue="other"))
    assert Job.objects.get().queue == "other"


def test_cancelling_what_runs_asks_first() -> None:
    jobs = [make_job(), make_job(state=JobState.PROCESSING)]
    client = browser("superuser")
    assert "SIGTERM" in html(select(client, "cancel", jobs))
    assert Job.objects.filter(state=JobState.CANCELLED).count() == 0
    select(client, "cancel", jobs, confirmed="yes")
    assert Job.objects.filter(state=JobState.CANCELLED).count() == 1
    assert Job.objects.processing().get().cancel_requested_at is not None


def test_more_than_a_thousand_in_one_go_are_refused() -> None:
    from tests.integration.builders import new_job

    Job.objects.bulk_create([new_job(state=JobState.DEAD) for _ in range(1001)])
    client = browser("superuser")
    first = Job.objects.all()[:1]
    text = html(select(client, "retry", first, select_across="1", confirmed="yes"))
    assert "At most 1,000 jobs in one go" in text
    assert Job.objects.dead().count() == 1001


@pytest.mark.parametrize(("model", "action"), [("job", "discard"), ("queue", "pause")])
def test_what_is_confirmed_is_all_that_was_asked_about(model: str, action: str) -> None:
    names = [f"n{number:02}" for number in range(30)]
    make_queues(*names)
    for name in names:
        make_job(key=name, state=JobState.DEAD)
    rows: Any = {"job": Job, "queue": Queue}[model].objects.all()
    text = html(select(browser("superuser"), action, rows[:1], model, select_across="1"))
    carried = re.findall(r'name="_selected_action" value="([^"]+)"', text)
    assert sorted(carried) == sorted(str(row.pk) for row in rows)
    assert "and 20 more" in text


@pytest.mark.parametrize("number", [50, 51])
@pytest.mark.parametrize("action", ["pause", "resume"])
def test_more_queues_than_a_page_has_are_refused(action: str, number: int) -> None:
    make_queues(*(f"q{each}" for each in range(number)))
    Queue.objects.update(paused_at=None if action == "pause" else NOW)
    client, chosen = browser("superuser"), Queue.objects.all()[:1]
    text = html(select(client, action, chosen, "queue", select_across="1", confirmed="yes"))
    changed = Queue.objects.filter(paused_at__isnull=action == "resume").count()
    assert changed == (number if number == 50 else 0)
    assert ("At most 50 queues in one go; choose fewer" in text) is (number == 51)


@pytest.mark.parametrize("key", ["x", "-1", "1" * 30, "\0", "1 OR 1=1", "\u0663"])
def test_a_key_that_is_none_is_a_bad_request(key: str) -> None:
    job = make_job(state=JobState.DEAD)
    data = {"action": "retry", "index": "0", "_selected_action": [str(job.pk), key]}
    assert browser("superuser").post(listing(), data).status_code == 400
    assert Job.objects.get().state == JobState.DEAD


# A job's own page


def test_a_job_page_shows_everything_and_edits_nothing() -> None:
    job = dead_job(key="j", last_error="no route (exit code 7)")
    printed(job, b"hello\n")
    client = browser("superuser")
    client.post(button("j", "retry"))
    text = html(client.get(own_page("j")))
    for said in ("hello", "no route", "exit 7", "Attempts", "Events", "dead → pending"):
        assert said in text
    assert re.findall(r"<textarea|<select", text) == []
    assert client.post(own_page("j"), {"command": "id"}).status_code == 405


def test_a_button_that_does_nothing_stays_and_says_why() -> None:
    make_job(key="j")
    text = html(browser("superuser").get(own_page("j")))
    assert re.search(r'disabled aria-describedby="q-why-retry">Retry<', text)
    assert "This job is pending; it needs one that is dead." in text


@pytest.mark.parametrize("key", ["a/b", "..", "a~2Fb", "a_2Fb", "%41", "add", "ä ?#", "a'b\""])
def test_every_id_has_an_address_of_its_own(key: str) -> None:
    make_job(key=key, state=JobState.DEAD)
    client = browser("superuser")
    assert own_page(key).replace("'", "&#x27;") in html(client.get(listing()))
    assert client.get(own_page(key)).status_code == 200
    assert client.post(button(key, "retry")).headers["Location"] == own_page(key)


def test_an_unknown_id_is_not_found() -> None:
    client = browser("superuser")
    for address in (own_page("nobody"), button("nobody", "retry"), listing() + "%00/change/"):
        assert client.get(address).status_code == 404


def test_hostile_text_is_text_on_every_page() -> None:
    key = "<script>alert(1)</script> {{98765*7}} a/b"
    job = dead_job(
        key=key, command=f"echo {HOSTILE}", last_error=HOSTILE, enqueued_by=HOSTILE[:100]
    )
    printed(job, HOSTILE.encode() + b"\xff")
    make_worker(name=HOSTILE[:100], host=HOSTILE)
    make_queues("default")
    Queue.objects.update(paused_at=NOW, paused_by=HOSTILE, paused_reason=HOSTILE)
    Event.objects.create(
        at=NOW, actor=HOSTILE, via="cli", action="retry", subject=f"job {key}", note=HOSTILE
    )
    client = browser("superuser")
    addresses = [own_page(key), button(key, "discard"), *(listing(m) for m in MODELS)]
    answers = [client.get(address) for address in addresses]
    answers.append(select(client, "discard", [job]))
    for response in answers:
        text = html(response)
        assert "<script>alert" not in text
        assert not set("\x1b\u202e") & set(text), response.request
        assert "&lt;script&gt;" in text or "/setting/" in str(response.request)


def test_pages_bring_no_inline_script_or_style_and_strict_headers() -> None:
    client = browser("superuser")
    for address in every_address():
        if address.endswith(("/add/", "/delete/", "/history/")):
            continue
        response = client.get(address)
        text = re.sub(r'<script[^>]*\ssrc="[^>]*>\s*</script>', "", html(response), flags=re.S)
        text = re.sub(
            r'<script id="[\w-]+" type="application/json">.*?</script>', "", text, flags=re.S
        )
        text = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert [found for found in scan(text) if not found.startswith("http")] == [], address
        assert {name: response.headers[name] for name in HEADERS} == HEADERS


# Queues, workers, settings, events


def test_a_queue_is_paused_with_reason_and_until_and_resumed() -> None:
    make_queues("media", "other")
    make_jobs(2, queue="media")
    queues, client = Queue.objects.filter(name="media"), staff("operate_queue")
    assert 'name="reason"' in html(select(client, "pause", queues, "queue"))
    assert not Queue.objects.exclude(paused_at=None).exists()
    past = select(client, "pause", queues, "queue", confirmed="yes", until="2001-01-01T00:00")
    assert past.status_code == 400 and "it is past" in html(past)
    text = html(
        select(
            client, "pause", queues, "queue",
            confirmed="yes", reason="db migration", until="2999-01-01T12:00",
        )
    )  # fmt: skip
    assert "Queue &#x27;media&#x27; is paused" in text
    assert "db migration, until 2999-01-01 12:00" in text
    select(client, "resume", queues, "queue")
    assert not Queue.objects.exclude(paused_at=None).exists()
    text = html(select(client, "resume", queues, "queue"))
    assert "is not paused" in text
    assert [event.action for event in Event.objects.order_by("id")] == ["pause", "resume"]


def test_a_queue_is_not_paused_without_permission() -> None:
    make_queues("media")
    select(staff("operate_job"), "pause", Queue.objects.all(), "queue", confirmed="yes")
    assert not Queue.objects.exclude(paused_at=None).exists()


def test_a_worker_is_drained_after_a_page_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockfile, "is_alive", lambda boot, lock, *, silent: True)
    worker = make_worker(name="w1", slots=3)
    make_job(state=JobState.PROCESSING, worker=worker)
    client = staff("operate_worker")
    assert "1 / 3" in html(client.get(listing("worker")))
    assert "takes no more jobs" not in html(select(client, "drain", [worker], "worker"))
    assert Worker.objects.get().stop_requested == ""
    text = html(select(client, "drain", [worker], "worker", confirmed="yes"))
    assert "takes no more jobs" in text and "draining" in text
    assert Worker.objects.get().stop_requested == "drain"


def test_of_workers_of_one_name_the_chosen_one_is_drained() -> None:
    chosen, other = make_worker(name="w"), make_worker(name="w")
    text = html(select(staff("operate_worker"), "drain", [chosen], "worker", confirmed="yes"))
    assert "takes no more jobs" in text
    asked = Worker.objects.exclude(stop_requested="")
    assert list(asked.values_list("id", flat=True)) == [chosen.id] != [other.id]


@pytest.mark.parametrize("condition", ["live", "silent", "draining", "stopped", "bogus"])
def test_workers_are_filtered_by_condition(condition: str) -> None:
    from jobs import dialect

    now = dialect.now()
    make_worker(name="w-live", heartbeat_at=now)
    make_worker(name="w-silent", heartbeat_at=now - seconds(3600))
    make_worker(name="w-draining", heartbeat_at=now, draining=True)
    make_worker(name="w-stopped", heartbeat_at=now, stopped_at=now)
    expected = {
        "live": {"w-live", "w-silent", "w-draining"}, "silent": {"w-silent"},
        "draining": {"w-draining"}, "stopped": {"w-stopped"},
    }.get(condition, {"w-live", "w-silent", "w-draining", "w-stopped"})  # fmt: skip
    text = html(browser("superuser").get(listing("worker"), {"condition": condition}))
    assert set(re.findall(r">(w-\w+)</a>", text)) == expected


def test_every_setting_is_listed_and_changed_within_its_bounds() -> None:
    client = staff("change_setting")
    text = html(client.get(listing("setting")))
    assert all(name in text for name in conf.RUNTIME)
    address = reverse("admin:queuectl_setting_change", args=["job-timeout"])
    for value in ("0", "x", "1e400", "nan", "1_0", " 5", "", "5" * 50):
        response = client.post(address, {"value": value})
        assert response.status_code == 400, value
        assert "q-field-error" in html(response)
    assert not Setting.objects.exists()
    assert "set to 900" in html(client.post(address, {"value": "900"}, follow=True))
    assert Setting.objects.stored() == {"job-timeout": 900}
    assert Event.objects.get().action == "set"


def test_a_setting_is_not_changed_without_permission() -> None:
    address = reverse("admin:queuectl_setting_change", args=["job-timeout"])
    assert staff().get(address).status_code == 200
    assert staff().post(address, {"value": "9"}).status_code == 403
    assert not Setting.objects.exists()


def test_events_are_found_by_their_whole_object() -> None:
    for subject in ("job a", "job ab"):
        Event.objects.create(at=NOW, actor="ann", via="cli", action="retry", subject=subject)
    text = html(browser("superuser").get(listing("event"), {"q": "job a"}))
    assert "job a<" in text and "job ab<" not in text


def test_attempts_have_no_page_of_their_own() -> None:
    with pytest.raises(NoReverseMatch):
        reverse("admin:queuectl_attempt_changelist")
