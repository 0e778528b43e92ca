"""The table of the imports of files: how far each has come."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("brokers", "0003_consumer_groups"),
    ]

    operations = [
        migrations.CreateModel(
            name="FileImport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("topic_id", models.BigIntegerField()),
                ("content_sha256", models.BinaryField()),
                ("file_format", models.CharField(max_length=8)),
                ("key_column", models.CharField(default="", max_length=500)),
                ("records_done", models.BigIntegerField(db_default=0, default=0)),
                ("started_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "brokers_file_import",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("topic_id", "content_sha256", "file_format", "key_column"),
                        name="brokers_file_import_by_content",
                    )
                ],
            },
        ),
    ]
