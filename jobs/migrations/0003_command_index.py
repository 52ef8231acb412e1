from django.db import migrations, models

from ..dialect.indexes import AddIndexBesideWriters


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("queuectl", "0002_put_off_since")]

    operations = [
        AddIndexBesideWriters(
            model_name="job",
            index=models.Index(
                models.F("queue"),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("due_at"),
                models.F("id"),
                condition=models.Q(("state", "pending"), ("task__isnull", True)),
                name="queuectl_job_command",
            ),
        ),
    ]
