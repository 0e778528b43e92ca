"""Notifications, progress of tasks, tickets of streams."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Inbox",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("user_name", models.CharField(max_length=150, unique=True)),
                ("last_number", models.BigIntegerField(db_default=0, default=0)),
            ],
            options={
                "db_table": "realtime_inbox",
            },
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "inbox_id", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("number", models.BigIntegerField()),
                ("kind", models.CharField(max_length=64)),
                ("payload", models.TextField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "inbox",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="notifications",
                        to="realtime.inbox",
                    ),
                ),
            ],
            options={
                "db_table": "realtime_notification",
                "indexes": [models.Index(fields=["created_at"], name="realtime_notification_age")],
            },
        ),
        migrations.CreateModel(
            name="ProgressRow",
            fields=[
                ("id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("user_name", models.CharField(max_length=150)),
                ("title", models.CharField(max_length=200)),
                ("state", models.CharField(db_default="running", default="running", max_length=9)),
                ("number", models.BigIntegerField(db_default=1, default=1)),
                ("current", models.BigIntegerField(db_default=0, default=0)),
                ("total", models.BigIntegerField(null=True)),
                ("message", models.CharField(db_default="", default="", max_length=500)),
                ("result", models.TextField(null=True)),
                ("error", models.CharField(max_length=500, null=True)),
                ("started_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("updated_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "realtime_progress",
                "indexes": [models.Index(fields=["updated_at"], name="realtime_progress_updated")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["running", "completed", "failed"])),
                        name="realtime_progress_state_known",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="StreamTicket",
            fields=[
                ("digest", models.BinaryField(primary_key=True, serialize=False)),
                ("token_id", models.CharField(max_length=64)),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "db_table": "realtime_stream_ticket",
                "indexes": [models.Index(fields=["expires_at"], name="realtime_stream_ticket_expiry")],
            },
        ),
    ]
