from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("queuectl", "0003_command_index")]

    operations = [
        migrations.AlterField(
            model_name="job",
            name="prefetchable",
            field=models.BooleanField(
                default=True,
                help_text="false once a worker died holding it, or stood still: then it takes a free slot only",
            ),
        ),
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
