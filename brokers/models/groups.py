"""The tables of consumer groups: who is a member, who reads which partition, and how far each group has come.

Written by the stored functions of migration 0003. None has a foreign key to a partition: deleting a topic must
not wait for a commit, nor a commit for it; rows of partitions that are gone are swept up later.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now


class ConsumerGroup(models.Model):
    """A named group of readers. Its row is what every change of membership, ownership or generation locks."""

    name = models.CharField(max_length=249, unique=True)
    generation = models.BigIntegerField(default=0)
    """Raised by every change of membership or partitions and every reset; a commit must carry it."""
    paused = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "brokers_consumer_group"

    def __str__(self) -> str:
        return self.name


class GroupMember(models.Model):
    """One reader's session. Ended ones are kept for a day, so that a late commit learns why it is refused."""

    group = models.ForeignKey(ConsumerGroup, on_delete=models.CASCADE, related_name="members", db_index=False)
    member_id = models.CharField(max_length=40, unique=True)
    topics = ArrayField(models.CharField(max_length=249))
    session_timeout_ms = models.IntegerField()
    max_poll_interval_ms = models.IntegerField()
    auto_offset_reset = models.CharField(max_length=8)
    joined_at = models.DateTimeField(db_default=Now())
    heartbeat_at = models.DateTimeField(db_default=Now())
    polled_at = models.DateTimeField(db_default=Now())
    """The last poll that asked for records; mere heartbeats leave it."""
    generation = models.BigIntegerField(default=0)
    """The group's generation as this member last heard it."""
    instance_id = models.CharField(max_length=249, null=True)
    """Set for a static member: one that joins again under it takes over at once what its former self owned."""
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=16, null=True)

    class Meta:
        db_table = "brokers_group_member"
        constraints = [
            models.CheckConstraint(
                name="brokers_member_end_reason_known",
                condition=models.Q(ended_at__isnull=True, end_reason__isnull=True)
                | models.Q(ended_at__isnull=False, end_reason__in=["left", "session", "poll_interval", "replaced"]),
            ),
            models.CheckConstraint(
                name="brokers_member_reset_known",
                condition=models.Q(auto_offset_reset__in=["earliest", "latest", "none"]),
            ),
            models.UniqueConstraint(
                fields=["group", "instance_id"],
                condition=models.Q(ended_at__isnull=True, instance_id__isnull=False),
                name="brokers_member_by_instance",
            ),
        ]
        indexes = [
            models.Index(fields=["group"], condition=models.Q(ended_at__isnull=True), name="brokers_member_live"),
            models.Index(fields=["ended_at"], condition=models.Q(ended_at__isnull=False), name="brokers_member_ended"),
        ]

    def __str__(self) -> str:
        return self.member_id


class GroupAssignment(models.Model):
    """Who reads a partition for a group (`owner`), and who shall once the owner has let go (`target`)."""

    pk = models.CompositePrimaryKey("group_id", "partition_id")
    group = models.ForeignKey(ConsumerGroup, on_delete=models.CASCADE, related_name="assignments", db_index=False)
    partition_id = models.IntegerField()
    owner = models.ForeignKey(
        GroupMember, null=True, on_delete=models.SET_NULL, related_name="owned", db_constraint=False
    )
    target = models.ForeignKey(
        GroupMember,
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    claimed_generation = models.BigIntegerField(default=0)
    """The generation in which the owner got it, or a reset moved it: what was polled before is void."""
    position = models.BigIntegerField(null=True)
    """Where the owner's last poll ended; null until its first."""
    start_offset = models.BigIntegerField(null=True)
    """Where the group began without a committed offset, so that the next owner begins there too."""
    careful = models.BooleanField(default=False, db_default=False)
    """Its last owner was lost: a listener reads one record at a time until it is past what that one may have had."""
    served_at = models.DateTimeField(null=True)
    """When records of it were last given; the partition that waited longest is read first."""

    class Meta:
        db_table = "brokers_group_assignment"


class CommittedOffset(models.Model):
    """The next offset that a group has to read of a partition."""

    pk = models.CompositePrimaryKey("group_id", "partition_id")
    group = models.ForeignKey(ConsumerGroup, on_delete=models.CASCADE, related_name="offsets", db_index=False)
    partition_id = models.IntegerField()
    committed_offset = models.BigIntegerField()
    committed_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "brokers_committed_offset"
        constraints = [
            models.CheckConstraint(
                name="brokers_committed_offset_not_negative", condition=models.Q(committed_offset__gte=0)
            ),
        ]
