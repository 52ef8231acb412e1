"""`path("queue/", include("jobs.urls"))` puts the dashboard anywhere in a site."""

from django.urls import path, register_converter

from .dashboard import actions, sights, workers
from .pages.addresses import JobIdConverter

app_name = "queuectl"
register_converter(JobIdConverter, "queuectl_job")

urlpatterns = [
    path("", sights.overview, name="overview"),
    path("jobs/", sights.jobs, name="jobs"),
    path("jobs/<queuectl_job:key>/", sights.job, name="job"),
    path("jobs/<queuectl_job:key>/<slug:name>/", actions.act_on, name="act"),
    path("dlq/", sights.dlq, name="dlq"),
    path("charts/", sights.charts, name="charts"),
    path("new/", actions.new, name="new"),
    path("new/<str:name>/", actions.new_from, name="new-from"),
    path("workers/start/", workers.start_workers, name="start-workers"),
    path("workers/stop/", workers.stop_workers, name="stop-workers"),
]
