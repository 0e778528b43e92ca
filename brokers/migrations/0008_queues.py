"""Exchanges, queues, bindings, policies, messages, consumers, and the functions that write messages."""

import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.functions.text
from django.db import migrations, models

from brokers.migrations import _queue_functions
from brokers.migrations._installing import run


class Migration(migrations.Migration):
    dependencies = [
        ("brokers", "0007_listeners"),
    ]

    operations = [
        migrations.CreateModel(
            name="QueueCount",
            fields=[
                ("queue_id", models.IntegerField(primary_key=True, serialize=False)),
                ("messages", models.BigIntegerField(db_default=0, default=0)),
            ],
            options={
                "db_table": "brokers_queue_count",
            },
        ),
        migrations.CreateModel(
            name="Topology",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("version", models.BigIntegerField()),
            ],
            options={
                "db_table": "brokers_topology",
            },
        ),
        migrations.CreateModel(
            name="Exchange",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=249, unique=True)),
                ("type", models.CharField(max_length=8)),
                ("alternate_exchange", models.CharField(max_length=249, null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "brokers_exchange",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("type__in", ("direct", "topic", "fanout", "headers"))),
                        name="brokers_exchange_type_known",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ExchangeMinute",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "exchange_id", "minute", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("exchange_id", models.IntegerField()),
                ("minute", models.DateTimeField()),
                ("published", models.IntegerField()),
                ("unrouted", models.IntegerField()),
            ],
            options={
                "db_table": "brokers_exchange_minute",
                "indexes": [models.Index(fields=["minute"], name="brokers_exchange_minute_at")],
            },
        ),
        migrations.CreateModel(
            name="Message",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("queue_id", models.IntegerField()),
                ("priority", models.SmallIntegerField(db_default=0, default=0)),
                ("pos", models.BigIntegerField()),
                ("lease_until", models.DateTimeField(null=True)),
                ("due_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField(null=True)),
                ("token", models.UUIDField(null=True)),
                ("holder", models.CharField(max_length=250, null=True)),
                ("claimed_at", models.DateTimeField(null=True)),
                ("published_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("deliveries", models.IntegerField(db_default=0, default=0)),
                ("returns", models.IntegerField(db_default=0, default=0)),
                ("attempts", models.IntegerField(db_default=0, default=0)),
                ("revision", models.IntegerField(db_default=1, default=1)),
                ("dead_letter_id", models.BigIntegerField(null=True)),
                ("replay_item_id", models.BigIntegerField(null=True)),
                ("encoding", models.SmallIntegerField()),
                ("envelope", models.BinaryField()),
                ("body", models.BinaryField()),
            ],
            options={
                "db_table": "brokers_message",
                "indexes": [
                    models.Index(
                        condition=models.Q(("due_at__isnull", True), ("lease_until__isnull", True)),
                        fields=["queue_id", "priority", "pos"],
                        name="brokers_message_ready",
                    ),
                    models.Index(
                        condition=models.Q(("lease_until__isnull", False)),
                        fields=["queue_id", "lease_until"],
                        name="brokers_message_leased",
                    ),
                    models.Index(
                        condition=models.Q(("due_at__isnull", False)),
                        fields=["queue_id", "due_at"],
                        name="brokers_message_due",
                    ),
                    models.Index(
                        condition=models.Q(("expires_at__isnull", False), ("lease_until__isnull", True)),
                        fields=["queue_id", "expires_at"],
                        name="brokers_message_expiring",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="MessageAttempt",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "message_id", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("message_id", models.BigIntegerField()),
                ("number", models.IntegerField()),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                ("error", models.TextField(db_default="", default="")),
                ("exception_class", models.CharField(db_default="", default="", max_length=300)),
                ("stacktrace", models.TextField(db_default="", default="")),
                ("frames", models.JSONField(default=list)),
                ("delay_ms", models.BigIntegerField(null=True)),
                ("worker", models.CharField(db_default="", default="", max_length=250)),
            ],
            options={
                "db_table": "brokers_message_attempt",
                "indexes": [models.Index(fields=["started_at"], name="brokers_message_attempt_at")],
            },
        ),
        migrations.CreateModel(
            name="Queue",
            fields=[
                ("message_ttl_ms", models.BigIntegerField(null=True)),
                ("expires_ms", models.BigIntegerField(null=True)),
                ("max_length", models.BigIntegerField(null=True)),
                ("overflow", models.CharField(max_length=16, null=True)),
                ("dead_letter_exchange", models.CharField(max_length=249, null=True)),
                ("dead_letter_routing_key", models.CharField(max_length=255, null=True)),
                ("delivery_limit", models.IntegerField(null=True)),
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=249, unique=True)),
                ("max_priority", models.SmallIntegerField(null=True)),
                ("single_active_consumer", models.BooleanField(db_default=False, default=False)),
                ("dead_letters", models.CharField(db_default="unrouted", default="unrouted", max_length=8)),
                ("paused", models.BooleanField(db_default=False, default=False)),
                ("temporary", models.BooleanField(db_default=False, default=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("used_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "brokers_queue",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("overflow__isnull", True),
                            ("overflow__in", ("drop-head", "reject-publish")),
                            _connector="OR",
                        ),
                        name="brokers_queue_overflow_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("dead_letters__in", ("unrouted", "none"))),
                        name="brokers_queue_dead_letters_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="QueueChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("queue_id", models.IntegerField(null=True)),
                ("exchange_id", models.IntegerField(null=True)),
                ("arrived", models.IntegerField(db_default=0, default=0)),
                ("gone", models.IntegerField(db_default=0, default=0)),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "brokers_queue_change",
                "indexes": [
                    models.Index(
                        condition=models.Q(("queue_id__isnull", False)),
                        fields=["queue_id"],
                        name="brokers_queue_change_queue",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="QueueMinute",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "queue_id", "minute", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("queue_id", models.IntegerField()),
                ("minute", models.DateTimeField()),
                ("arrived", models.IntegerField()),
                ("gone", models.IntegerField()),
            ],
            options={
                "db_table": "brokers_queue_minute",
                "indexes": [models.Index(fields=["minute"], name="brokers_queue_minute_at")],
            },
        ),
        migrations.CreateModel(
            name="QueuePolicy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("message_ttl_ms", models.BigIntegerField(null=True)),
                ("expires_ms", models.BigIntegerField(null=True)),
                ("max_length", models.BigIntegerField(null=True)),
                ("overflow", models.CharField(max_length=16, null=True)),
                ("dead_letter_exchange", models.CharField(max_length=249, null=True)),
                ("dead_letter_routing_key", models.CharField(max_length=255, null=True)),
                ("delivery_limit", models.IntegerField(null=True)),
                ("name", models.CharField(max_length=249, unique=True)),
                ("pattern", models.CharField(max_length=255)),
                ("priority", models.IntegerField(db_default=0, default=0)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "brokers_queue_policy",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("overflow__isnull", True),
                            ("overflow__in", ("drop-head", "reject-publish")),
                            _connector="OR",
                        ),
                        name="brokers_queue_policy_overflow_known",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Binding",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("routing_key", models.CharField(db_default="", default="", max_length=255)),
                ("arguments", models.TextField(db_default="{}", default="{}")),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "exchange",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="bindings",
                        to="brokers.exchange",
                    ),
                ),
                (
                    "to_exchange",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="sources",
                        to="brokers.exchange",
                    ),
                ),
                (
                    "queue",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="bindings",
                        to="brokers.queue",
                    ),
                ),
            ],
            options={
                "db_table": "brokers_binding",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("queue__isnull", True), ("to_exchange__isnull", False)),
                            models.Q(("queue__isnull", False), ("to_exchange__isnull", True)),
                            _connector="OR",
                        ),
                        name="brokers_binding_one_destination",
                    ),
                    models.UniqueConstraint(
                        models.F("exchange"),
                        models.F("queue"),
                        models.F("routing_key"),
                        django.db.models.functions.text.MD5("arguments"),
                        name="brokers_binding_to_queue_once",
                    ),
                    models.UniqueConstraint(
                        models.F("exchange"),
                        models.F("to_exchange"),
                        models.F("routing_key"),
                        django.db.models.functions.text.MD5("arguments"),
                        name="brokers_binding_to_exchange_once",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="QueueConsumer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=250)),
                ("kind", models.CharField(max_length=10)),
                ("prefetch", models.IntegerField(db_default=0, default=0)),
                ("registered_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("lapses_at", models.DateTimeField()),
                (
                    "queue",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="consumers", to="brokers.queue"
                    ),
                ),
            ],
            options={
                "db_table": "brokers_queue_consumer",
                "indexes": [models.Index(fields=["lapses_at"], name="brokers_queue_consumer_lapse")],
                "constraints": [models.UniqueConstraint(fields=("queue", "name"), name="brokers_queue_consumer_once")],
            },
        ),
        migrations.AlterField(
            model_name="alertrule",
            name="metric",
            field=models.CharField(
                choices=[
                    ("depth", "Open dead letters"),
                    ("growth", "New dead letters in a minute"),
                    ("oldest_age", "Age of the oldest open dead letter, in seconds"),
                    ("group_lag", "Lag of a consumer group, in records"),
                    ("queue_depth", "Ready messages of a queue"),
                    ("queue_age", "Age of a queue's oldest ready message, in seconds"),
                ],
                max_length=12,
            ),
        ),
        migrations.AddField(
            model_name="deadletter",
            name="envelope",
            field=models.BinaryField(null=True),
        ),
        migrations.AddField(
            model_name="deadletter",
            name="priority",
            field=models.SmallIntegerField(null=True),
        ),
        migrations.RunPython(run(_queue_functions.FORWARD), run(_queue_functions.REVERSE)),
    ]
