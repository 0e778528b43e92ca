"""The tables of scheduled tasks and of runs, and the name of this database among those that share a Redis."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

INSTALLATION = """
create table scheduling_installation (
    only_row boolean primary key default true check (only_row),
    id uuid not null default gen_random_uuid()
);
insert into scheduling_installation default values
"""


class Migration(migrations.Migration):
    dependencies = [
        ("scheduling", "0001_shedlock"),
    ]

    operations = [
        migrations.RunSQL(INSTALLATION, "drop table scheduling_installation"),
        migrations.CreateModel(
            name="ScheduledTask",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=200, unique=True)),
                ("source", models.CharField(max_length=8)),
                ("periodic_task_id", models.IntegerField(null=True)),
                ("kind", models.CharField(max_length=12)),
                ("spec", models.JSONField()),
                ("options", models.JSONField(default=dict)),
                ("overlap", models.CharField(max_length=5)),
                ("misfire", models.CharField(max_length=8)),
                ("is_declared", models.BooleanField(default=True)),
                ("paused", models.BooleanField(default=False)),
                ("note", models.CharField(default="", max_length=500)),
                ("next_due", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("is_declared", True), ("paused", False)),
                        fields=["next_due"],
                        name="scheduled_task_due",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Run",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("due_at", models.DateTimeField()),
                ("trigger", models.CharField(max_length=10)),
                ("function", models.CharField(max_length=200)),
                ("arguments", models.JSONField(null=True)),
                ("state", models.CharField(max_length=9)),
                ("is_exclusive", models.BooleanField(default=False)),
                ("fired_by", models.CharField(default="", max_length=255)),
                ("rung_at", models.DateTimeField(null=True)),
                ("next_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("attempts", models.IntegerField(default=0)),
                ("losses", models.IntegerField(default=0)),
                ("token", models.UUIDField(null=True)),
                ("lease_until", models.DateTimeField(null=True)),
                ("started_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("process", models.CharField(default="", max_length=255)),
                ("result", models.JSONField(null=True)),
                ("error", models.TextField(default="")),
                ("called_by", models.CharField(default="", max_length=200)),
                (
                    "task",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="scheduling.scheduledtask",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("state__in", ["ready", "running"])), fields=["task", "id"], name="run_open"
                    ),
                    models.Index(condition=models.Q(("state", "ready")), fields=["next_at"], name="run_ready"),
                    models.Index(condition=models.Q(("state", "running")), fields=["lease_until"], name="run_running"),
                    models.Index(fields=["task", "-id"], name="run_history"),
                    models.Index(
                        condition=models.Q(("ended_at__isnull", False)), fields=["ended_at"], name="run_ended"
                    ),
                    models.Index(
                        condition=models.Q(("task__isnull", True)), fields=["function", "-id"], name="run_background"
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("task", "due_at"), name="run_once_per_due_time"),
                    models.UniqueConstraint(
                        condition=models.Q(("is_exclusive", True), ("state", "running")),
                        fields=("task",),
                        name="run_one_at_a_time",
                    ),
                ],
            },
        ),
    ]
