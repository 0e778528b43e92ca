"""What background work needs of a run: its failures so far, and the dead letter that it is given up to."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("scheduling", "0002_tasks"),
    ]

    operations = [
        migrations.CreateModel(
            name="RunAttempt",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "run_id", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("run_id", models.BigIntegerField()),
                ("number", models.IntegerField()),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                ("error", models.TextField(default="")),
                ("exception_class", models.CharField(default="", max_length=300)),
                ("stacktrace", models.TextField(default="")),
                ("frames", models.JSONField(default=list)),
                ("delay_ms", models.BigIntegerField(null=True)),
                ("worker", models.CharField(default="", max_length=255)),
            ],
        ),
        migrations.AddField("run", "began_at", models.DateTimeField(null=True)),
        migrations.AddField("run", "failures", models.IntegerField(db_default=0)),
        migrations.AddField("run", "same_failures", models.IntegerField(db_default=0)),
        migrations.AddField("run", "exception_class", models.CharField(db_default="", max_length=300)),
        migrations.AddField("run", "dead_letter_id", models.BigIntegerField(null=True)),
        migrations.AddField("run", "replay_item_id", models.BigIntegerField(null=True)),
        migrations.AddField("run", "revision", models.IntegerField(null=True)),
        migrations.AddIndex(
            "run",
            models.Index(condition=models.Q(("task__isnull", True)), fields=["-id"], name="run_calls"),
        ),
        migrations.AddIndex(
            "run",
            models.Index(
                condition=models.Q(("state", "dead"), ("task__isnull", True)), fields=["-id"], name="run_dead"
            ),
        ),
    ]
