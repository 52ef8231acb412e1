"""A site with a queue for each of its customers: what waits is seen among any number of them."""

from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from jobs import dialect, lockfile, stats
from jobs.models import Queue
from jobs.stats.overview import MOST_QUEUES
from tests.integration.builders import NOW, make_job, make_queues, make_worker
from tests.integration.test_commands import Run, run

__all__ = ["run"]

pytestmark = pytest.mark.django_db

EMPTY = [f"0-{number:03}" for number in range(MOST_QUEUES + 2)]


def make_waiting(number: int) -> list[str]:
    names = [f"a-{each:03}" for each in range(number)]
    make_queues(*names)
    for name in names:
        make_job(queue=name)
    return names


def serving(*names: str) -> None:
    make_worker(queues=list(names), heartbeat_at=dialect.now())


def test_what_waits_in_vain_behind_many_empty_queues_wants_attention(run: Run) -> None:
    make_queues(*EMPTY, "z")
    make_job(queue="z")
    with patch.object(lockfile, "is_alive", return_value=True):
        serving("default")
        said = run("status", "--check")
    assert said.code == 5
    assert "! z: 1 job waits and no live worker serves this queue." in said.out


def test_what_waits_in_vain_behind_many_queues_that_are_served_wants_attention(run: Run) -> None:
    names = make_waiting(MOST_QUEUES)
    Queue.objects.filter(name__in=names[:50]).update(paused_at=NOW)
    make_queues("z")
    make_job(queue="z")
    with patch.object(lockfile, "is_alive", return_value=True):
        serving(*names)
        said = run("status", "--check")
    assert said.code == 5
    assert "! z: 1 job waits" in said.out


def test_many_queues_of_which_none_waits_in_vain_want_no_attention(run: Run) -> None:
    make_queues(*EMPTY)
    names = make_waiting(MOST_QUEUES + 1)
    with patch.object(lockfile, "is_alive", return_value=True):
        serving(*names)
        assert run("status", "--check").code == 0


def test_a_list_of_queues_says_how_many_it_leaves_out(run: Run) -> None:
    make_queues(*EMPTY, "z")
    make_job(queue="z")
    for words in (["queue", "list"], ["--color", "always", "status"]):
        said = run(*words)
        assert "z  " in said.out and EMPTY[0] in said.out
        assert said.err == "and 3 more queues\n"
    Queue.objects.filter(name__in=EMPTY[:3]).delete()
    assert run("queue", "list").err == ""


def test_a_queue_is_shown_by_its_name_whatever_waits_in_it() -> None:
    make_queues("a", "b", "c")
    make_job(queue="b")
    assert [queue.name for queue in stats.snapshot().queues] == ["a", "b", "c"]


def test_what_waits_in_vain_beyond_what_is_shown_is_counted() -> None:
    names = make_waiting(MOST_QUEUES + 3)
    Queue.objects.filter(name=names[0]).update(paused_at=NOW)
    found = stats.snapshot()
    assert (
        stats.unserved(found)[-1].text == "2 more queues: jobs wait and no worker will take them."
    )
    assert stats.held_up(found)[-1].text == "1 more queue: jobs wait and are held up by a pause."
    assert stats.snapshot_object(found)["more_queues"] == 3


def test_the_overview_shows_what_waits_in_vain_behind_many_empty_queues(client: Client) -> None:
    make_queues(*EMPTY, "z")
    make_job(queue="z")
    client.force_login(User.objects.create_superuser("root"))
    text = client.get(reverse("queuectl:overview")).content.decode()
    assert "z: 1 job waits and no worker is running." in text


def test_the_admin_has_the_figures_of_every_queue_on_its_page(client: Client) -> None:
    make_queues(*EMPTY, "z")
    make_job(queue=EMPTY[-1])
    client.force_login(User.objects.create_superuser("root"))
    last = client.get(reverse("admin:queuectl_queue_changelist"), {"p": "3"})
    assert [row.figures.pending.number for row in last.context["cl"].result_list] == [0, 1, 0]
