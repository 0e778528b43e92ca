"""The tables of the topic log, of access and of the audit record."""

import uuid

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="LogPending",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "xid", "seq", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("xid", models.BigIntegerField()),
                ("seq", models.BigIntegerField()),
                ("step", models.SmallIntegerField(default=0)),
                ("partition_id", models.IntegerField(default=0)),
                ("offset_span", models.IntegerField(default=0)),
            ],
            options={
                "db_table": "brokers_log_pending",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="DeletedPartition",
            fields=[
                ("partition_id", models.IntegerField(primary_key=True, serialize=False)),
            ],
            options={
                "db_table": "brokers_deleted_partition",
            },
        ),
        migrations.CreateModel(
            name="LogBatch",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "partition_id", "base_offset", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("partition_id", models.IntegerField()),
                ("base_offset", models.BigIntegerField()),
                ("offset_span", models.IntegerField()),
                ("base_ts", models.BigIntegerField()),
                ("last_ts", models.BigIntegerField()),
                ("max_ts", models.BigIntegerField()),
                ("stored_at", models.BigIntegerField()),
                ("codec", models.SmallIntegerField()),
                ("payload", models.BinaryField()),
            ],
            options={
                "db_table": "brokers_log_batch",
            },
        ),
        migrations.CreateModel(
            name="Partition",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("number", models.IntegerField()),
                ("earliest_offset", models.BigIntegerField(default=0)),
            ],
            options={
                "db_table": "brokers_partition",
            },
        ),
        migrations.CreateModel(
            name="ProcessRow",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ("kind", models.CharField(max_length=20)),
                ("host", models.CharField(max_length=200)),
                ("pid", models.IntegerField()),
                ("started_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("beat_at", models.DateTimeField()),
            ],
            options={
                "db_table": "brokers_process",
            },
        ),
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token_id", models.CharField(max_length=16, unique=True)),
                ("name", models.CharField(max_length=200)),
                ("secret_sha256", models.BinaryField(unique=True)),
                ("superuser", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("created_by", models.CharField(default="", max_length=200)),
                ("expires_at", models.DateTimeField(null=True)),
                ("revoked_at", models.DateTimeField(null=True)),
                ("last_used_at", models.DateTimeField(null=True)),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="api_tokens",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "db_table": "brokers_api_token",
            },
        ),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("principal", models.CharField(max_length=200)),
                ("surface", models.CharField(max_length=16)),
                ("operation", models.CharField(max_length=32)),
                ("resource_type", models.CharField(max_length=16)),
                ("resource", models.CharField(max_length=249)),
                ("details", models.JSONField(default=dict)),
            ],
            options={
                "db_table": "brokers_audit_entry",
                "indexes": [
                    models.Index(fields=["resource_type", "resource", "-id"], name="brokers_audit_by_resource")
                ],
            },
        ),
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "principal", "topic_id", "key", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("principal", models.CharField(max_length=200)),
                ("topic_id", models.BigIntegerField()),
                ("key", models.CharField(max_length=255)),
                ("body_sha256", models.BinaryField()),
                ("answer", models.BinaryField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "brokers_idempotency_key",
                "indexes": [models.Index(fields=["created_at"], name="brokers_idempotency_by_age")],
            },
        ),
        migrations.CreateModel(
            name="PartitionCount",
            fields=[
                (
                    "partition",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="count",
                        serialize=False,
                        to="brokers.partition",
                    ),
                ),
                ("counted_offset", models.BigIntegerField(db_default=0, default=0)),
                ("counted_bytes", models.BigIntegerField(db_default=0, default=0)),
                ("cleaned_offset", models.BigIntegerField(db_default=0, default=0)),
            ],
            options={
                "db_table": "brokers_partition_count",
            },
        ),
        migrations.CreateModel(
            name="Topic",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=249, unique=True)),
                ("partitioner", models.CharField(default="crc32", max_length=200)),
                ("retention_ms", models.BigIntegerField(null=True)),
                ("retention_bytes", models.BigIntegerField(null=True)),
                ("max_record_bytes", models.IntegerField()),
                ("cleanup_policy", models.CharField(default="delete", max_length=16)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "brokers_topic",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("cleanup_policy__in", ["delete", "compact"])),
                        name="brokers_topic_cleanup_policy_known",
                    )
                ],
            },
        ),
        migrations.AddField(
            model_name="partition",
            name="topic",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="partitions", to="brokers.topic"
            ),
        ),
        migrations.CreateModel(
            name="TopicMinute",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("minute", models.DateTimeField()),
                ("records", models.BigIntegerField(default=0)),
                ("bytes", models.BigIntegerField(default=0)),
                (
                    "topic",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="minutes",
                        to="brokers.topic",
                    ),
                ),
            ],
            options={
                "db_table": "brokers_topic_minute",
            },
        ),
        migrations.CreateModel(
            name="Grant",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("operation", models.CharField(max_length=16)),
                ("resource_type", models.CharField(max_length=16)),
                ("name", models.CharField(blank=True, max_length=249)),
                ("match", models.CharField(default="literal", max_length=8)),
                ("effect", models.CharField(default="allow", max_length=8)),
                (
                    "token",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="grants",
                        to="brokers.apitoken",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="grants",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "db_table": "brokers_grant",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("token__isnull", False), ("user__isnull", True)),
                            models.Q(("token__isnull", True), ("user__isnull", False)),
                            _connector="OR",
                        ),
                        name="brokers_grant_has_one_holder",
                    )
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="partition",
            constraint=models.UniqueConstraint(
                fields=("topic", "number"), name="brokers_partition_by_topic_and_number"
            ),
        ),
        migrations.AddIndex(
            model_name="topicminute",
            index=models.Index(fields=["minute"], name="brokers_topic_minute_by_time"),
        ),
        migrations.AddConstraint(
            model_name="topicminute",
            constraint=models.UniqueConstraint(fields=("topic", "minute"), name="brokers_topic_minute_by_topic"),
        ),
    ]
