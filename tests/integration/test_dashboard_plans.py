"""Every page of every list is read through the index made for it, at its beginning and within."""

from typing import Any

import pytest

from jobs.models import Job
from jobs.pages import keyset
from jobs.states import FINAL, JobState
from tests.integration import test_query_plans
from tests.integration.test_query_plans import full_scans, plan, recorded

pytestmark = pytest.mark.django_db

crowd = test_query_plans.crowd
worker_id = test_query_plans.worker_id

INDEXES = {
    JobState.PENDING: "queuectl_job_claim",
    JobState.SCHEDULED: "queuectl_job_scheduled",
    JobState.FAILED: "queuectl_job_failed",
    JobState.PROCESSING: "queuectl_job_processing",
    **dict.fromkeys(FINAL, "queuectl_job_finished_at"),
}


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.DEAD])
def test_a_list_of_one_queue_is_read_in_the_order_of_its_index(
    worker_id: int, state: JobState
) -> None:
    with recorded() as statements:
        keyset.page(Job.objects.filter(state=state, queue="q1"), keyset.order_of(state), size=20)
    [text] = [plan(each) for each in statements if "queuectl_job" in each[0]]
    assert "TEMP B-TREE" not in text


@pytest.mark.parametrize("state", [None, *INDEXES])
def test_every_page_is_read_through_its_index(worker_id: int, state: JobState | None) -> None:
    rows: Any = Job.objects.filter(state=state) if state else Job.objects.all()
    order = keyset.order_of(state)
    places = list(order.rows(rows).order_by(*order.columns)[:60])
    mark = order.mark(places[-1])
    with recorded() as statements:
        keyset.page(rows, order, size=20)
        keyset.page(rows, order, after=mark, size=20)
        keyset.page(rows, order, before=mark, size=20)
    plans = [plan(statement) for statement in statements if "queuectl_job" in statement[0]]
    if state is None:
        # The first page walks the table itself, from its end, and stops.
        plans = [text.replace("SCAN queuectl_job", "") for text in plans]
        assert not any("TEMP B-TREE" in text for text in plans)
    assert [found for text in plans for found in full_scans(text)] == []
    if state:
        # A few dead or processing rows may be reached by another way that is as good.
        assert any(INDEXES[state] in text for text in plans), plans
