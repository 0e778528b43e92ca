"""The tables of deliveries that are not settled: attempts so far, the redelivery lane, and what was processed."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class DeliveryAttempt(models.Model):
    """An attempt at a record that its group has neither handled nor given up.

    A row without `ended_at` was counted before the call: if another worker finds it, the one that called was lost.
    """

    pk = models.CompositePrimaryKey("group_id", "partition_id", "record_offset", "redelivery_id", "number")
    group_id = models.BigIntegerField()
    partition_id = models.IntegerField()
    record_offset = models.BigIntegerField()
    redelivery_id = models.BigIntegerField(default=0, db_default=0)
    """The redelivery that it belongs to; 0 for the reading of the log."""
    number = models.IntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    error = models.TextField(default="", db_default="")
    exception_class = models.CharField(max_length=300, default="", db_default="")
    stacktrace = models.TextField(default="", db_default="")
    frames = models.JSONField(default=list)
    delay_ms = models.BigIntegerField(null=True)
    worker = models.CharField(max_length=200, default="", db_default="")

    class Meta:
        db_table = "brokers_delivery_attempt"
        indexes = [models.Index(fields=["started_at"], name="brokers_delivery_attempt_at")]


class Redelivery(models.Model):
    """A record in its group's redelivery lane: parked by a retry that does not block, or given back by a replay.

    The lane of a partition is served by the partition's owner. Records of one key are served in the order of `id`:
    one that waits holds back those behind it. Those are marked, so that nobody walks over them to find what is due;
    a trigger unmarks the next one of a key when the one before it goes.
    """

    group_id = models.BigIntegerField()
    partition_id = models.IntegerField()
    topic = models.CharField(max_length=249)
    partition = models.IntegerField()
    record_offset = models.BigIntegerField()
    record_timestamp = models.BigIntegerField()
    due_at = models.DateTimeField()
    cause = models.CharField(max_length=8)
    """`retry` or `replay`."""
    key = models.BinaryField(null=True)
    key_hash = models.BigIntegerField(null=True)
    """Of the key; null without one, and then nothing is held back."""
    held = models.BooleanField(default=False, db_default=False)
    """Behind an earlier one of its key, for certain. One that is not marked may be, too."""
    value = models.BinaryField(null=True)
    encoding = models.SmallIntegerField()
    headers = models.BinaryField()
    dead_letter_id = models.BigIntegerField(null=True)
    replay_item_id = models.BigIntegerField(null=True)
    revision = models.IntegerField(default=1, db_default=1)
    first_failed_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "brokers_redelivery"
        constraints = [
            models.CheckConstraint(
                name="brokers_redelivery_cause_known", condition=models.Q(cause__in=["retry", "replay"])
            ),
        ]
        indexes = [
            models.Index(
                fields=["group_id", "partition_id", "due_at", "id"],
                condition=models.Q(held=False),
                name="brokers_redelivery_due",
            ),
            models.Index(
                fields=["group_id", "partition_id", "key_hash", "id"],
                condition=models.Q(key_hash__isnull=False),
                name="brokers_redelivery_key",
            ),
            models.Index(fields=["partition_id", "group_id", "id"], name="brokers_redelivery_partition"),
        ]

    def __str__(self) -> str:
        return f"redelivery {self.pk} of {self.topic}/{self.partition}@{self.record_offset}"


class ProcessedMessage(models.Model):
    """A key that a consumer has processed: written in the transaction of its effects."""

    pk = models.CompositePrimaryKey("consumer", "message_key")
    consumer = models.CharField(max_length=249)
    message_key = models.CharField(max_length=1024)
    processed_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "processed_messages"
        indexes = [models.Index(fields=["processed_at"], name="processed_messages_at")]
