"""The tables of dead letters, redeliveries, replays and alerts; their counters are kept by triggers."""

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import brokers.models.alerts
from brokers.migrations import _failure_functions, _redelivery_functions
from brokers.migrations._installing import run


class Migration(migrations.Migration):
    dependencies = [
        ("brokers", "0005_cleaned_bytes"),
    ]

    operations = [
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("scope", models.CharField(max_length=500)),
                ("value", models.FloatField()),
                ("began_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("raised_at", models.DateTimeField(null=True)),
                ("resolved_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "brokers_alert",
            },
        ),
        migrations.CreateModel(
            name="AlertNotification",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("event", models.CharField(max_length=8)),
                ("channel", models.CharField(max_length=8)),
                ("value", models.FloatField(null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("attempts", models.IntegerField(default=0)),
                ("due_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("delivered_at", models.DateTimeField(null=True)),
                ("given_up_at", models.DateTimeField(null=True)),
                ("error", models.CharField(default="", max_length=500)),
            ],
            options={
                "db_table": "brokers_alert_notification",
            },
        ),
        migrations.CreateModel(
            name="AlertRule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100, unique=True)),
                (
                    "metric",
                    models.CharField(
                        choices=[
                            ("depth", "Open dead letters"),
                            ("growth", "New dead letters in a minute"),
                            ("oldest_age", "Age of the oldest open dead letter, in seconds"),
                            ("group_lag", "Lag of a consumer group, in records"),
                        ],
                        max_length=12,
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="A topic or queue; a trailing * stands for any ending. Empty: each of them.",
                        max_length=249,
                    ),
                ),
                (
                    "group_name",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Likewise. Empty: the groups of a source together.",
                        max_length=249,
                        verbose_name="consumer group",
                    ),
                ),
                ("threshold", models.FloatField(validators=[django.core.validators.MinValueValidator(0)])),
                (
                    "for_seconds",
                    models.PositiveIntegerField(default=0, help_text="How long the figure must stay there."),
                ),
                (
                    "severity",
                    models.CharField(
                        choices=[("warning", "Warning"), ("critical", "Critical")], default="warning", max_length=8
                    ),
                ),
                ("to_log", models.BooleanField(default=True, verbose_name="write to the log")),
                (
                    "emails",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Addresses, separated by commas.",
                        max_length=1000,
                        validators=[brokers.models.alerts.validate_addresses],
                        verbose_name="e-mail to",
                    ),
                ),
                (
                    "webhook_url",
                    models.CharField(
                        blank=True,
                        default="",
                        max_length=1000,
                        validators=[brokers.models.alerts.validate_web_address],
                        verbose_name="webhook",
                    ),
                ),
                (
                    "webhook_secret",
                    models.CharField(
                        blank=True, default="", help_text="Signs each call; see docs/alerts.md.", max_length=200
                    ),
                ),
                (
                    "runbook_url",
                    models.CharField(
                        blank=True,
                        default="",
                        max_length=1000,
                        validators=[brokers.models.alerts.validate_web_address],
                        verbose_name="runbook",
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("evaluated_at", models.DateTimeField(editable=False, null=True)),
                ("highest", models.FloatField(editable=False, null=True)),
                ("error", models.CharField(default="", editable=False, max_length=500)),
            ],
            options={
                "verbose_name": "alert rule",
                "db_table": "brokers_alert_rule",
            },
        ),
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("state", models.CharField(db_default="open", default="open", max_length=10)),
                ("reason", models.CharField(max_length=20)),
                ("source_kind", models.CharField(max_length=8)),
                ("source", models.CharField(max_length=249)),
                ("group_name", models.CharField(db_default="", default="", max_length=249)),
                ("partition_id", models.IntegerField(null=True)),
                ("partition", models.IntegerField(null=True)),
                ("record_offset", models.BigIntegerField(null=True)),
                ("record_timestamp", models.BigIntegerField(null=True)),
                ("exchange", models.CharField(max_length=249, null=True)),
                ("routing_key", models.CharField(max_length=255, null=True)),
                ("message_id", models.CharField(max_length=255, null=True)),
                ("correlation_id", models.CharField(max_length=255, null=True)),
                ("idempotency_key", models.CharField(max_length=1024, null=True)),
                ("exception_class", models.CharField(db_default="", default="", max_length=300)),
                ("error", models.CharField(db_default="", default="", max_length=500)),
                ("size", models.IntegerField()),
                ("attempts", models.IntegerField(db_default=0, default=0)),
                ("revision", models.IntegerField(db_default=1, default=1)),
                ("replays", models.IntegerField(db_default=0, default=0)),
                ("first_failed_at", models.DateTimeField()),
                ("failed_at", models.DateTimeField()),
                ("changed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("note", models.TextField(db_default="", default="")),
            ],
            options={
                "db_table": "brokers_dead_letter",
            },
        ),
        migrations.CreateModel(
            name="DeadLetterAttempt",
            fields=[
                (
                    "dead_letter",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tries",
                        to="brokers.deadletter",
                    ),
                ),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "dead_letter_id", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("number", models.IntegerField()),
                ("revision", models.IntegerField(db_default=1, default=1)),
                ("replay_id", models.BigIntegerField(null=True)),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                ("error", models.TextField(db_default="", default="")),
                ("exception_class", models.CharField(db_default="", default="", max_length=300)),
                ("stacktrace", models.TextField(db_default="", default="")),
                ("frames", models.JSONField(default=list)),
                ("delay_ms", models.BigIntegerField(null=True)),
                ("worker", models.CharField(db_default="", default="", max_length=200)),
            ],
            options={
                "db_table": "brokers_dead_letter_attempt",
            },
        ),
        migrations.CreateModel(
            name="DeadLetterRevision",
            fields=[
                (
                    "dead_letter",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="revisions",
                        to="brokers.deadletter",
                    ),
                ),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "dead_letter_id", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("number", models.IntegerField()),
                ("key", models.BinaryField(null=True)),
                ("value", models.BinaryField(null=True)),
                ("encoding", models.SmallIntegerField()),
                ("headers", models.BinaryField()),
                ("origin", models.CharField(db_default="original", default="original", max_length=12)),
                ("created_by", models.CharField(db_default="", default="", max_length=200)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "brokers_dead_letter_revision",
            },
        ),
        migrations.CreateModel(
            name="DeliveryAttempt",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "group_id",
                        "partition_id",
                        "record_offset",
                        "redelivery_id",
                        "number",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("group_id", models.BigIntegerField()),
                ("partition_id", models.IntegerField()),
                ("record_offset", models.BigIntegerField()),
                ("redelivery_id", models.BigIntegerField(db_default=0, default=0)),
                ("number", models.IntegerField()),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                ("error", models.TextField(db_default="", default="")),
                ("exception_class", models.CharField(db_default="", default="", max_length=300)),
                ("stacktrace", models.TextField(db_default="", default="")),
                ("frames", models.JSONField(default=list)),
                ("delay_ms", models.BigIntegerField(null=True)),
                ("worker", models.CharField(db_default="", default="", max_length=200)),
            ],
            options={
                "db_table": "brokers_delivery_attempt",
            },
        ),
        migrations.CreateModel(
            name="FailureChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("failure_group_id", models.BigIntegerField()),
                ("state", models.CharField(max_length=10)),
                ("change", models.IntegerField()),
                ("failures", models.IntegerField(db_default=0, default=0)),
                ("newest_id", models.BigIntegerField(null=True)),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "brokers_failure_change",
            },
        ),
        migrations.CreateModel(
            name="FailureGroup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("fingerprint", models.CharField(max_length=64, unique=True)),
                ("version", models.SmallIntegerField()),
                ("source_kind", models.CharField(max_length=8)),
                ("source", models.CharField(max_length=249)),
                ("group_name", models.CharField(db_default="", default="", max_length=249)),
                ("handler", models.CharField(db_default="", default="", max_length=300)),
                ("exception_class", models.CharField(db_default="", default="", max_length=300)),
                ("frame", models.CharField(db_default="", default="", max_length=500)),
                ("message", models.CharField(db_default="", default="", max_length=500)),
                ("reason", models.CharField(max_length=20)),
                ("first_failed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("last_failed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("sample_id", models.BigIntegerField(null=True)),
                ("failures", models.BigIntegerField(db_default=0, default=0)),
                ("open_count", models.BigIntegerField(db_default=0, default=0)),
                ("replaying_count", models.BigIntegerField(db_default=0, default=0)),
                ("replayed_count", models.BigIntegerField(db_default=0, default=0)),
                ("resolved_count", models.BigIntegerField(db_default=0, default=0)),
                ("discarded_count", models.BigIntegerField(db_default=0, default=0)),
            ],
            options={
                "db_table": "brokers_failure_group",
            },
        ),
        migrations.CreateModel(
            name="FailureMinute",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "failure_group_id", "minute", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("failure_group_id", models.BigIntegerField()),
                ("minute", models.DateTimeField()),
                ("failures", models.IntegerField()),
            ],
            options={
                "db_table": "brokers_failure_minute",
            },
        ),
        migrations.CreateModel(
            name="ProcessedMessage",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "consumer", "message_key", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("consumer", models.CharField(max_length=249)),
                ("message_key", models.CharField(max_length=1024)),
                ("processed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "processed_messages",
            },
        ),
        migrations.CreateModel(
            name="Redelivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("group_id", models.BigIntegerField()),
                ("partition_id", models.IntegerField()),
                ("topic", models.CharField(max_length=249)),
                ("partition", models.IntegerField()),
                ("record_offset", models.BigIntegerField()),
                ("record_timestamp", models.BigIntegerField()),
                ("due_at", models.DateTimeField()),
                ("cause", models.CharField(max_length=8)),
                ("key", models.BinaryField(null=True)),
                ("key_hash", models.BigIntegerField(null=True)),
                ("held", models.BooleanField(db_default=False, default=False)),
                ("value", models.BinaryField(null=True)),
                ("encoding", models.SmallIntegerField()),
                ("headers", models.BinaryField()),
                ("dead_letter_id", models.BigIntegerField(null=True)),
                ("replay_item_id", models.BigIntegerField(null=True)),
                ("revision", models.IntegerField(db_default=1, default=1)),
                ("first_failed_at", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "brokers_redelivery",
            },
        ),
        migrations.CreateModel(
            name="Replay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("state", models.CharField(max_length=10)),
                ("selection", models.JSONField()),
                ("consumers", models.JSONField(default=list)),
                ("target", models.JSONField(null=True)),
                ("edit", models.JSONField(null=True)),
                ("rate_per_second", models.FloatField(null=True)),
                ("canary", models.JSONField(null=True)),
                ("stop_when_failed_again", models.FloatField(null=True)),
                ("reason", models.TextField(db_default="", default="")),
                ("created_by", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("starts_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("expires_at", models.DateTimeField(null=True)),
                ("resumes_as", models.CharField(max_length=10, null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("changed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("stop_cause", models.TextField(db_default="", default="")),
                ("total", models.BigIntegerField(db_default=0, default=0)),
                ("skips", models.JSONField(default=dict)),
                ("next_position", models.BigIntegerField(db_default=0, default=0)),
                ("budget_at", models.DateTimeField(null=True)),
                ("sent", models.BigIntegerField(db_default=0, default=0)),
                ("succeeded", models.BigIntegerField(db_default=0, default=0)),
                ("failed_again", models.BigIntegerField(db_default=0, default=0)),
                ("skipped", models.BigIntegerField(db_default=0, default=0)),
            ],
            options={
                "db_table": "brokers_replay",
            },
        ),
        migrations.CreateModel(
            name="ReplayChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("replay_id", models.BigIntegerField()),
                ("sent", models.IntegerField()),
                ("succeeded", models.IntegerField()),
                ("failed_again", models.IntegerField()),
                ("skipped", models.IntegerField()),
            ],
            options={
                "db_table": "brokers_replay_change",
            },
        ),
        migrations.CreateModel(
            name="ReplayItem",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("position", models.BigIntegerField()),
                ("dead_letter_id", models.BigIntegerField()),
                ("revision", models.IntegerField()),
                ("outcome", models.CharField(db_default="waiting", default="waiting", max_length=12)),
                ("why", models.CharField(db_default="", default="", max_length=40)),
                ("sent_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "brokers_replay_item",
            },
        ),
        migrations.RemoveConstraint(
            model_name="groupmember",
            name="brokers_member_end_reason_known",
        ),
        migrations.AddField(
            model_name="groupassignment",
            name="careful",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="groupmember",
            name="instance_id",
            field=models.CharField(max_length=249, null=True),
        ),
        migrations.AddConstraint(
            model_name="groupmember",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("end_reason__isnull", True), ("ended_at__isnull", True)),
                    models.Q(
                        ("end_reason__in", ["left", "session", "poll_interval", "replaced"]),
                        ("ended_at__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="brokers_member_end_reason_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="groupmember",
            constraint=models.UniqueConstraint(
                condition=models.Q(("ended_at__isnull", True), ("instance_id__isnull", False)),
                fields=("group", "instance_id"),
                name="brokers_member_by_instance",
            ),
        ),
        migrations.AddField(
            model_name="alertnotification",
            name="alert",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="notifications",
                to="brokers.alert",
            ),
        ),
        migrations.AddField(
            model_name="alertnotification",
            name="rule",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="notifications",
                to="brokers.alertrule",
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="rule",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="alerts",
                to="brokers.alertrule",
            ),
        ),
        migrations.AddIndex(
            model_name="deliveryattempt",
            index=models.Index(fields=["started_at"], name="brokers_delivery_attempt_at"),
        ),
        migrations.AddIndex(
            model_name="failurechange",
            index=models.Index(fields=["failure_group_id"], name="brokers_failure_change_group"),
        ),
        migrations.AddIndex(
            model_name="failuregroup",
            index=models.Index(
                models.OrderBy(models.F("last_failed_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="brokers_failure_group_newest",
            ),
        ),
        migrations.AddIndex(
            model_name="failuregroup",
            index=models.Index(fields=["source_kind", "source"], name="brokers_failure_group_source"),
        ),
        migrations.AddIndex(
            model_name="failuregroup",
            index=models.Index(fields=["group_name"], name="brokers_failure_group_consumer"),
        ),
        migrations.AddField(
            model_name="deadletter",
            name="failure_group",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="letters",
                to="brokers.failuregroup",
            ),
        ),
        migrations.AddIndex(
            model_name="failureminute",
            index=models.Index(fields=["minute"], name="brokers_failure_minute_at"),
        ),
        migrations.AddIndex(
            model_name="processedmessage",
            index=models.Index(fields=["processed_at"], name="processed_messages_at"),
        ),
        migrations.AddIndex(
            model_name="redelivery",
            index=models.Index(
                condition=models.Q(("held", False)),
                fields=["group_id", "partition_id", "due_at", "id"],
                name="brokers_redelivery_due",
            ),
        ),
        migrations.AddIndex(
            model_name="redelivery",
            index=models.Index(
                condition=models.Q(("key_hash__isnull", False)),
                fields=["group_id", "partition_id", "key_hash", "id"],
                name="brokers_redelivery_key",
            ),
        ),
        migrations.AddIndex(
            model_name="redelivery",
            index=models.Index(fields=["partition_id", "group_id", "id"], name="brokers_redelivery_partition"),
        ),
        migrations.AddConstraint(
            model_name="redelivery",
            constraint=models.CheckConstraint(
                condition=models.Q(("cause__in", ["retry", "replay"])), name="brokers_redelivery_cause_known"
            ),
        ),
        migrations.AddIndex(
            model_name="replay",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", True)), fields=["id"], name="brokers_replay_live"
            ),
        ),
        migrations.AddConstraint(
            model_name="replay",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        ("planned", "waiting", "canary", "running", "paused", "stopped", "completed", "cancelled"),
                    )
                ),
                name="brokers_replay_state_known",
            ),
        ),
        migrations.AddIndex(
            model_name="replaychange",
            index=models.Index(fields=["replay_id"], name="brokers_replay_change_replay"),
        ),
        migrations.AddField(
            model_name="replayitem",
            name="replay",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="items", to="brokers.replay"
            ),
        ),
        migrations.AddIndex(
            model_name="alertnotification",
            index=models.Index(
                condition=models.Q(("delivered_at__isnull", True), ("given_up_at__isnull", True)),
                fields=["due_at", "id"],
                name="brokers_alert_notification_due",
            ),
        ),
        migrations.AddIndex(
            model_name="alertnotification",
            index=models.Index(fields=["rule", "-id"], name="brokers_alert_note_by_rule"),
        ),
        migrations.AddConstraint(
            model_name="alertnotification",
            constraint=models.UniqueConstraint(
                fields=("alert", "event", "channel"), name="brokers_alert_notification_once"
            ),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(fields=["-began_at", "-id"], name="brokers_alert_newest"),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(fields=["rule", "-id"], name="brokers_alert_by_rule"),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(fields=["resolved_at"], name="brokers_alert_resolved"),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(
                condition=models.Q(("resolved_at__isnull", True)), fields=("rule", "scope"), name="brokers_alert_once"
            ),
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(
                models.F("state"),
                models.OrderBy(
                    models.Func(
                        models.F("failed_at"),
                        output_field=models.DateTimeField(),
                        template="(%(expressions)s AT TIME ZONE 'UTC')",
                    ),
                    descending=True,
                ),
                models.OrderBy(models.F("id"), descending=True),
                name="brokers_dead_letter_by_state",
            ),
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(
                models.F("failure_group"),
                models.F("state"),
                models.OrderBy(models.F("failed_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="brokers_dead_letter_by_group",
            ),
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(
                models.F("source_kind"),
                models.F("source"),
                models.F("state"),
                models.OrderBy(models.F("failed_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="brokers_dead_letter_by_src",
            ),
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(
                models.F("group_name"),
                models.F("state"),
                models.OrderBy(models.F("failed_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="brokers_dead_letter_by_cons",
            ),
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(
                fields=["changed_at"],
                condition=models.Q(("state__in", ["replayed", "resolved", "discarded"])),
                name="brokers_dead_letter_settled",
            ),
        ),
        migrations.AddConstraint(
            model_name="deadletter",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ("open", "replaying", "replayed", "resolved", "discarded"))),
                name="brokers_dead_letter_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="deadletter",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "reason__in",
                        (
                            "exception",
                            "attempts_exhausted",
                            "worker_lost",
                            "rejected",
                            "expired",
                            "maxlen",
                            "delivery_limit",
                            "undecodable",
                        ),
                    )
                ),
                name="brokers_dead_letter_reason_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="deadletter",
            constraint=models.CheckConstraint(
                condition=models.Q(("source_kind__in", ("topic", "queue", "task"))),
                name="brokers_dead_letter_source_known",
            ),
        ),
        migrations.AddIndex(
            model_name="replayitem",
            index=models.Index(fields=["replay", "outcome", "position"], name="brokers_replay_item_outcome"),
        ),
        migrations.AddIndex(
            model_name="replayitem",
            index=models.Index(
                condition=models.Q(("outcome__in", ["succeeded", "failed_again"])),
                fields=["replay", "finished_at"],
                name="brokers_replay_item_finished",
            ),
        ),
        migrations.AddConstraint(
            model_name="replayitem",
            constraint=models.CheckConstraint(
                condition=models.Q(("outcome__in", ("waiting", "succeeded", "failed_again", "skipped"))),
                name="brokers_replay_item_outcome_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="replayitem",
            constraint=models.UniqueConstraint(fields=("dead_letter_id", "replay"), name="brokers_replay_item_once"),
        ),
        migrations.AddConstraint(
            model_name="replayitem",
            constraint=models.UniqueConstraint(fields=("replay", "position"), name="brokers_replay_item_position"),
        ),
        migrations.RunPython(run(_failure_functions.FORWARD), run(_failure_functions.REVERSE)),
        migrations.RunPython(run(_redelivery_functions.FORWARD), run(_redelivery_functions.REVERSE)),
    ]
