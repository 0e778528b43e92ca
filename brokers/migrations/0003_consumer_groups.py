"""The tables of consumer groups and their stored functions."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

from brokers.migrations import _group_functions
from brokers.migrations._installing import run


class Migration(migrations.Migration):
    dependencies = [
        ("brokers", "0002_log_functions"),
    ]

    operations = [
        migrations.CreateModel(
            name="ConsumerGroup",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("name", models.CharField(max_length=249, unique=True)),
                ("generation", models.BigIntegerField(default=0)),
                ("paused", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "brokers_consumer_group",
            },
        ),
        migrations.CreateModel(
            name="GroupMember",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("member_id", models.CharField(max_length=40, unique=True)),
                (
                    "topics",
                    django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=249), size=None),
                ),
                ("session_timeout_ms", models.IntegerField()),
                ("max_poll_interval_ms", models.IntegerField()),
                ("auto_offset_reset", models.CharField(max_length=8)),
                ("joined_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("heartbeat_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("polled_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("generation", models.BigIntegerField(default=0)),
                ("ended_at", models.DateTimeField(null=True)),
                ("end_reason", models.CharField(max_length=16, null=True)),
                (
                    "group",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="members",
                        to="brokers.consumergroup",
                    ),
                ),
            ],
            options={
                "db_table": "brokers_group_member",
            },
        ),
        migrations.CreateModel(
            name="GroupAssignment",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "group_id",
                        "partition_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("partition_id", models.IntegerField()),
                ("claimed_generation", models.BigIntegerField(default=0)),
                ("position", models.BigIntegerField(null=True)),
                ("start_offset", models.BigIntegerField(null=True)),
                ("served_at", models.DateTimeField(null=True)),
                (
                    "group",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="assignments",
                        to="brokers.consumergroup",
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="owned",
                        to="brokers.groupmember",
                    ),
                ),
                (
                    "target",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="brokers.groupmember",
                    ),
                ),
            ],
            options={
                "db_table": "brokers_group_assignment",
            },
        ),
        migrations.CreateModel(
            name="CommittedOffset",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "group_id",
                        "partition_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("partition_id", models.IntegerField()),
                ("committed_offset", models.BigIntegerField()),
                ("committed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "group",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="offsets",
                        to="brokers.consumergroup",
                    ),
                ),
            ],
            options={
                "db_table": "brokers_committed_offset",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("committed_offset__gte", 0)),
                        name="brokers_committed_offset_not_negative",
                    )
                ],
            },
        ),
        migrations.AddIndex(
            model_name="groupmember",
            index=models.Index(
                condition=models.Q(("ended_at__isnull", True)), fields=["group"], name="brokers_member_live"
            ),
        ),
        migrations.AddIndex(
            model_name="groupmember",
            index=models.Index(
                condition=models.Q(("ended_at__isnull", False)),
                fields=["ended_at"],
                name="brokers_member_ended",
            ),
        ),
        migrations.AddConstraint(
            model_name="groupmember",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("end_reason__isnull", True), ("ended_at__isnull", True)),
                    models.Q(("end_reason__in", ["left", "session", "poll_interval"]), ("ended_at__isnull", False)),
                    _connector="OR",
                ),
                name="brokers_member_end_reason_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="groupmember",
            constraint=models.CheckConstraint(
                condition=models.Q(("auto_offset_reset__in", ["earliest", "latest", "none"])),
                name="brokers_member_reset_known",
            ),
        ),
        migrations.RunPython(run(_group_functions.FORWARD), run(_group_functions.REVERSE)),
    ]
