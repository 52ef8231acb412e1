from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("queuectl", "0003_command_index")]

    operations = [
        migrations.AddField(
            model_name="job",
            name="signature",
            field=models.CharField(
                blank=True,
                help_text="by the site's key, of what it runs",
                max_length=64,
                null=True,
            ),
        ),
    ]
