from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("queuectl", "0002_put_off_since")]

    operations = [
        migrations.AddIndex(
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
