from django.db import migrations, models

from ..dialect.indexes import AddIndexBesideWriters


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("queuectl", "0004_signature")]

    operations = [
        AddIndexBesideWriters(
            model_name="job",
            index=models.Index(
                fields=["queue", "due_at", "id"],
                condition=models.Q(("state", "failed")),
                name="queuectl_job_failed_queue",
            ),
        ),
        AddIndexBesideWriters(
            model_name="job",
            index=models.Index(
                fields=["queue", "finished_at", "id"],
                condition=models.Q(("state", "dead")),
                name="queuectl_job_dead_queue",
            ),
        ),
    ]
