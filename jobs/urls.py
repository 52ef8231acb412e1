"""`path("queue/", include("jobs.urls"))` puts the dashboard anywhere in a site."""

from django.urls import path, register_converter

from . import views
from .forms.addresses import JobIdConverter

app_name = "queuectl"
register_converter(JobIdConverter, "queuectl_job")

urlpatterns = [
    path("", views.overview, name="overview"),
    path("jobs/", views.jobs, name="jobs"),
    path("jobs/<queuectl_job:key>/", views.job, name="job"),
    path("jobs/<queuectl_job:key>/<slug:name>/", views.act_on, name="act"),
    path("dlq/", views.dlq, name="dlq"),
    path("charts/", views.charts, name="charts"),
    path("new/", views.new, name="new"),
    path("workers/start/", views.start_workers, name="start-workers"),
    path("workers/stop/", views.stop_workers, name="stop-workers"),
]
