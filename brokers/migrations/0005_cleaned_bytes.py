"""What compaction left of a partition, against which the bytes that came since are weighed."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("brokers", "0004_file_import"),
    ]

    operations = [
        migrations.AddField(
            model_name="partitioncount",
            name="cleaned_bytes",
            field=models.BigIntegerField(db_default=0, default=0),
        ),
    ]
