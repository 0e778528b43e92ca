"""The tables of what could not be handled: dead letters with their revisions and attempts, and their failure groups.

Counters of a failure group are kept by triggers (migration 0006): each change of a dead letter's state adds a row to
`brokers_failure_change`, in the same transaction and without a lock that others wait for; housekeeping folds them.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F
from django.db.models.functions import Now

STATES = ("open", "replaying", "replayed", "resolved", "discarded")
REASONS = (
    "exception",
    "attempts_exhausted",
    "worker_lost",
    "rejected",
    "expired",
    "maxlen",
    "delivery_limit",
    "undecodable",
)
SOURCE_KINDS = ("topic", "queue", "task")


class FailureGroup(models.Model):
    """Failures of one fingerprint. The counters lack what `FailureChange` holds and is not folded yet."""

    fingerprint = models.CharField(max_length=64, unique=True)
    version = models.SmallIntegerField()
    source_kind = models.CharField(max_length=8)
    source = models.CharField(max_length=249)
    group_name = models.CharField(max_length=249, default="", db_default="")
    """The consumer group that failed; empty for a queue or a task."""
    handler = models.CharField(max_length=300, default="", db_default="")
    exception_class = models.CharField(max_length=300, default="", db_default="")
    frame = models.CharField(max_length=500, default="", db_default="")
    """The innermost own frame, `module:function`; empty when there is none."""
    message = models.CharField(max_length=500, default="", db_default="")
    """The first message, stripped of its numbers and quoted parts."""
    reason = models.CharField(max_length=20)
    first_failed_at = models.DateTimeField(db_default=Now())
    last_failed_at = models.DateTimeField(db_default=Now())
    sample_id = models.BigIntegerField(null=True)
    """The newest dead letter counted."""
    failures = models.BigIntegerField(default=0, db_default=0)
    """Dead letters written, and written again after a replay."""
    open_count = models.BigIntegerField(default=0, db_default=0)
    replaying_count = models.BigIntegerField(default=0, db_default=0)
    replayed_count = models.BigIntegerField(default=0, db_default=0)
    resolved_count = models.BigIntegerField(default=0, db_default=0)
    discarded_count = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        db_table = "brokers_failure_group"
        indexes = [
            models.Index(F("last_failed_at").desc(), F("id").desc(), name="brokers_failure_group_newest"),
            models.Index(fields=["source_kind", "source"], name="brokers_failure_group_source"),
            models.Index(fields=["group_name"], name="brokers_failure_group_consumer"),
        ]

    def __str__(self) -> str:
        return f"{self.exception_class} in {self.handler}: {self.message}"


class FailureChange(models.Model):
    """What one statement changed of one failure group's counters; folded within seconds."""

    failure_group_id = models.BigIntegerField()
    state = models.CharField(max_length=10)
    change = models.IntegerField()
    failures = models.IntegerField(default=0, db_default=0)
    newest_id = models.BigIntegerField(null=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "brokers_failure_change"
        indexes = [models.Index(fields=["failure_group_id"], name="brokers_failure_change_group")]

    def __str__(self) -> str:
        return f"{self.failure_group_id} {self.state} {self.change:+}"


class FailureMinute(models.Model):
    """Failures of one failure group in one minute, kept for seven days: sparklines and the growth of alerts."""

    pk = models.CompositePrimaryKey("failure_group_id", "minute")
    failure_group_id = models.BigIntegerField()
    minute = models.DateTimeField()
    failures = models.IntegerField()

    class Meta:
        db_table = "brokers_failure_minute"
        indexes = [models.Index(fields=["minute"], name="brokers_failure_minute_at")]


_FAILED_AT_IN_UTC = models.Func(
    F("failed_at"), template="(%(expressions)s AT TIME ZONE 'UTC')", output_field=models.DateTimeField()
)
"""The time as the index of all dead letters has it. A list of one consumer's, in order of the time as it is, must not
be read from that index, passing over what all others have had since, however cheap a planner takes it for.
"""


class DeadLetter(models.Model):
    """A record or message that a consumer gave up. Payload, attempts and trace are in tables of their own."""

    state = models.CharField(max_length=10, default="open", db_default="open")
    reason = models.CharField(max_length=20)
    failure_group = models.ForeignKey(FailureGroup, on_delete=models.PROTECT, db_index=False, related_name="letters")
    source_kind = models.CharField(max_length=8)
    source = models.CharField(max_length=249)
    group_name = models.CharField(max_length=249, default="", db_default="")
    partition_id = models.IntegerField(null=True)
    """Row of the partition; no foreign key, because a dead letter outlives its topic."""
    partition = models.IntegerField(null=True)
    record_offset = models.BigIntegerField(null=True)
    record_timestamp = models.BigIntegerField(null=True)
    exchange = models.CharField(max_length=249, null=True)
    routing_key = models.CharField(max_length=255, null=True)
    message_id = models.CharField(max_length=255, null=True)
    correlation_id = models.CharField(max_length=255, null=True)
    envelope = models.BinaryField(null=True)
    """Of a message, all but its body as it died, as `brokers.queues.message` encodes it: what gives it back whole."""
    priority = models.SmallIntegerField(null=True)
    """A message's."""
    idempotency_key = models.CharField(max_length=1024, null=True)
    """What the handler's @idempotent calls it, so that a plan can tell what was processed already."""
    exception_class = models.CharField(max_length=300, default="", db_default="")
    error = models.CharField(max_length=500, default="", db_default="")
    """The newest failure's message in one line."""
    size = models.IntegerField()
    """Bytes of key, value and headers of the current revision."""
    attempts = models.IntegerField(default=0, db_default=0)
    revision = models.IntegerField(default=1, db_default=1)
    """The current one; those before it are superseded."""
    replays = models.IntegerField(default=0, db_default=0)
    first_failed_at = models.DateTimeField()
    failed_at = models.DateTimeField()
    changed_at = models.DateTimeField(db_default=Now())
    note = models.TextField(default="", db_default="")

    class Meta:
        db_table = "brokers_dead_letter"
        constraints = [
            models.CheckConstraint(name="brokers_dead_letter_state_known", condition=models.Q(state__in=STATES)),
            models.CheckConstraint(name="brokers_dead_letter_reason_known", condition=models.Q(reason__in=REASONS)),
            models.CheckConstraint(
                name="brokers_dead_letter_source_known", condition=models.Q(source_kind__in=SOURCE_KINDS)
            ),
        ]
        indexes = [
            models.Index("state", _FAILED_AT_IN_UTC.desc(), F("id").desc(), name="brokers_dead_letter_by_state"),
            models.Index(
                "failure_group", "state", F("failed_at").desc(), F("id").desc(), name="brokers_dead_letter_by_group"
            ),
            models.Index(
                "source_kind",
                "source",
                "state",
                F("failed_at").desc(),
                F("id").desc(),
                name="brokers_dead_letter_by_src",
            ),
            models.Index(
                "group_name", "state", F("failed_at").desc(), F("id").desc(), name="brokers_dead_letter_by_cons"
            ),
            models.Index(
                fields=["changed_at"],
                condition=models.Q(state__in=["replayed", "resolved", "discarded"]),
                name="brokers_dead_letter_settled",
            ),
        ]

    def __str__(self) -> str:
        return f"dead letter {self.pk} of {self.source}"


class DeadLetterRevision(models.Model):
    """What was given up (revision 1), and each edit after it. Bytes as they were published."""

    pk = models.CompositePrimaryKey("dead_letter_id", "number")
    dead_letter = models.ForeignKey(DeadLetter, on_delete=models.CASCADE, db_index=False, related_name="revisions")
    number = models.IntegerField()
    key = models.BinaryField(null=True)
    value = models.BinaryField(null=True)
    encoding = models.SmallIntegerField()
    """As `Record.encoding`."""
    headers = models.BinaryField()
    """JSON object, of text unless it is a message's, as bytes: PostgreSQL's own JSON refuses what a header may hold."""
    origin = models.CharField(max_length=12, default="original", db_default="original")
    """`original`, `edit` or `merge_patch`."""
    created_by = models.CharField(max_length=200, default="", db_default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "brokers_dead_letter_revision"


class DeadLetterAttempt(models.Model):
    """One call of the handler that failed, numbered over all replays of a dead letter."""

    pk = models.CompositePrimaryKey("dead_letter_id", "number")
    dead_letter = models.ForeignKey(DeadLetter, on_delete=models.CASCADE, db_index=False, related_name="tries")
    number = models.IntegerField()
    revision = models.IntegerField(default=1, db_default=1)
    replay_id = models.BigIntegerField(null=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    """Null when the worker was lost in it."""
    error = models.TextField(default="", db_default="")
    exception_class = models.CharField(max_length=300, default="", db_default="")
    stacktrace = models.TextField(default="", db_default="")
    frames = models.JSONField(default=list)
    """`[{"file", "line", "module", "function", "own"}]`, outermost first."""
    delay_ms = models.BigIntegerField(null=True)
    """The back-off chosen after it; null when there was no further attempt."""
    worker = models.CharField(max_length=200, default="", db_default="")

    class Meta:
        db_table = "brokers_dead_letter_attempt"
