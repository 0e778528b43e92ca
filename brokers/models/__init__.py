"""The tables of the broker. The data plane reads and writes the log's by hand-written SQL, never through these."""

from brokers.models.access import ApiToken, Grant
from brokers.models.alerts import Alert, AlertNotification, AlertRule
from brokers.models.audit import AuditEntry
from brokers.models.failures import (
    DeadLetter,
    DeadLetterAttempt,
    DeadLetterRevision,
    FailureChange,
    FailureGroup,
    FailureMinute,
)
from brokers.models.groups import CommittedOffset, ConsumerGroup, GroupAssignment, GroupMember
from brokers.models.imports import FileImport
from brokers.models.processes import ProcessRow
from brokers.models.queues import (
    Binding,
    Exchange,
    ExchangeMinute,
    Message,
    MessageAttempt,
    Queue,
    QueueChange,
    QueueConsumer,
    QueueCount,
    QueueMinute,
    QueuePolicy,
    Topology,
)
from brokers.models.redeliveries import DeliveryAttempt, ProcessedMessage, Redelivery
from brokers.models.replays import Replay, ReplayChange, ReplayItem
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
    "Alert",
    "AlertNotification",
    "AlertRule",
    "ApiToken",
    "AuditEntry",
    "Binding",
    "CommittedOffset",
    "ConsumerGroup",
    "DeadLetter",
    "DeadLetterAttempt",
    "DeadLetterRevision",
    "DeletedPartition",
    "DeliveryAttempt",
    "Exchange",
    "ExchangeMinute",
    "FailureChange",
    "FailureGroup",
    "FailureMinute",
    "FileImport",
    "Grant",
    "GroupAssignment",
    "GroupMember",
    "IdempotencyKey",
    "LogBatch",
    "LogPending",
    "Message",
    "MessageAttempt",
    "Partition",
    "PartitionCount",
    "ProcessRow",
    "ProcessedMessage",
    "Queue",
    "QueueChange",
    "QueueConsumer",
    "QueueCount",
    "QueueMinute",
    "QueuePolicy",
    "Redelivery",
    "Replay",
    "ReplayChange",
    "ReplayItem",
    "Topic",
    "TopicMinute",
    "Topology",
]
