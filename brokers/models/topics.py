"""The tables of the topic log.

`Partition` and `LogBatch` are written by the stored functions of migration 0002 alone, and have no foreign key between
them: it would lock the partition's row once more for each append.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Topic(models.Model):
    """A named log, divided into partitions."""

    name = models.CharField(max_length=249, unique=True)
    partitioner = models.CharField(max_length=200, default="crc32")
    retention_ms = models.BigIntegerField(null=True)
    retention_bytes = models.BigIntegerField(null=True)
    max_record_bytes = models.IntegerField()
    cleanup_policy = models.CharField(max_length=16, default="delete")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "brokers_topic"
        constraints = [
            models.CheckConstraint(
                name="brokers_topic_cleanup_policy_known",
                condition=models.Q(cleanup_policy__in=["delete", "compact"]),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Partition(models.Model):
    """One ordered log. Its row is what an append locks; only retention changes it."""

    id = models.AutoField(primary_key=True)
    topic = models.ForeignKey(Topic, on_delete=models.CASCADE, related_name="partitions")
    number = models.IntegerField()
    earliest_offset = models.BigIntegerField(default=0)

    class Meta:
        db_table = "brokers_partition"
        constraints = [
            models.UniqueConstraint(fields=["topic", "number"], name="brokers_partition_by_topic_and_number"),
        ]

    def __str__(self) -> str:
        return f"{self.topic_id}/{self.number}"


class PartitionCount(models.Model):
    """How far housekeeping has come with a partition; apart from its row, which every append locks."""

    partition = models.OneToOneField(Partition, on_delete=models.CASCADE, primary_key=True, related_name="count")
    counted_offset = models.BigIntegerField(default=0, db_default=0)
    """Batches below this offset are in the minute roll-ups. Retention and compaction touch nothing above it."""
    counted_bytes = models.BigIntegerField(default=0, db_default=0)
    """Bytes of the batches from the partition's earliest offset to below `counted_offset`."""
    cleaned_offset = models.BigIntegerField(default=0, db_default=0)
    """Compaction has seen every record below this offset."""
    cleaned_bytes = models.BigIntegerField(default=0, db_default=0)
    """Bytes that compaction left below `cleaned_offset`."""

    class Meta:
        db_table = "brokers_partition_count"

    def __str__(self) -> str:
        return f"{self.partition_id}: {self.counted_offset}"


class LogBatch(models.Model):
    """A batch of records: one row, `offset_span` offsets from `base_offset` on.

    Negative base offsets are provisional: batches of a transaction that is still under way, visible to it alone.
    """

    pk = models.CompositePrimaryKey("partition_id", "base_offset")
    partition_id = models.IntegerField()
    base_offset = models.BigIntegerField()
    offset_span = models.IntegerField()
    base_ts = models.BigIntegerField()
    last_ts = models.BigIntegerField()
    max_ts = models.BigIntegerField()
    stored_at = models.BigIntegerField()
    codec = models.SmallIntegerField()
    payload = models.BinaryField()

    class Meta:
        db_table = "brokers_log_batch"


class LogPending(models.Model):
    """A staged batch awaiting its offset at commit; rows never outlive their transaction (unlogged)."""

    pk = models.CompositePrimaryKey("xid", "seq")
    xid = models.BigIntegerField()
    seq = models.BigIntegerField()
    step = models.SmallIntegerField(default=0)
    partition_id = models.IntegerField(default=0)
    offset_span = models.IntegerField(default=0)

    class Meta:
        db_table = "brokers_log_pending"
        managed = False


class DeletedPartition(models.Model):
    """A partition whose topic is gone and whose batches retention still has to remove."""

    partition_id = models.IntegerField(primary_key=True)

    class Meta:
        db_table = "brokers_deleted_partition"


class TopicMinute(models.Model):
    """Records and bytes stored in a topic in one minute: the source of rates and charts."""

    topic = models.ForeignKey(Topic, on_delete=models.CASCADE, related_name="minutes", db_index=False)
    minute = models.DateTimeField()
    records = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)

    class Meta:
        db_table = "brokers_topic_minute"
        constraints = [
            models.UniqueConstraint(fields=["topic", "minute"], name="brokers_topic_minute_by_topic"),
        ]
        indexes = [models.Index(fields=["minute"], name="brokers_topic_minute_by_time")]


class IdempotencyKey(models.Model):
    """The answer given to a publish that carried an Idempotency-Key; kept for 24 hours."""

    pk = models.CompositePrimaryKey("principal", "topic_id", "key")
    principal = models.CharField(max_length=200)
    topic_id = models.BigIntegerField()
    key = models.CharField(max_length=255)
    body_sha256 = models.BinaryField()
    answer = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "brokers_idempotency_key"
        indexes = [models.Index(fields=["created_at"], name="brokers_idempotency_by_age")]
