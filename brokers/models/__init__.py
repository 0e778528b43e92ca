"""The tables of the broker. The data plane reads and writes the log's by hand-written SQL, never through these."""

from brokers.models.access import ApiToken, Grant
from brokers.models.audit import AuditEntry
from brokers.models.groups import CommittedOffset, ConsumerGroup, GroupAssignment, GroupMember
from brokers.models.imports import FileImport
from brokers.models.processes import ProcessRow
from brokers.models.topics import (
    DeletedPartition,
    IdempotencyKey,
    LogBatch,
    LogPending,
    Partition,
    PartitionCount,
    Topic,
    TopicMinute,
)

__all__ = [
    "ApiToken",
    "AuditEntry",
    "CommittedOffset",
    "ConsumerGroup",
    "DeletedPartition",
    "FileImport",
    "Grant",
    "GroupAssignment",
    "GroupMember",
    "IdempotencyKey",
    "LogBatch",
    "LogPending",
    "Partition",
    "PartitionCount",
    "ProcessRow",
    "Topic",
    "TopicMinute",
]
