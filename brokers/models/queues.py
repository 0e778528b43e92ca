"""The tables of exchanges and queues: what routes, what waits, who consumes, and how much of it there was.

`Message` is the hot one: a row for each message in each queue, written by the stored functions of migration 0008 and by
the statements of `brokers/sql/claims.sql`. It has no foreign key to its queue, which would be locked for each message.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F
from django.db.models.functions import MD5, Now

EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")
OVERFLOWS = ("drop-head", "reject-publish")
DEAD_LETTERS = ("unrouted", "none")


class Topology(models.Model):
    """The one row whose version each change of exchanges, bindings, queues and policies raises.

    Processes route by what they remember of the topology; a publish says by which version it was routed, and is routed
    anew when that is not the current one. Without a row it is 0: nothing was declared yet.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    version = models.BigIntegerField()

    class Meta:
        db_table = "brokers_topology"


class Exchange(models.Model):
    """Where messages are published to. The default exchange, whose name is empty, has no row."""

    id = models.AutoField(primary_key=True)
    name = models.CharField(max_length=249, unique=True)
    type = models.CharField(max_length=8)
    alternate_exchange = models.CharField(max_length=249, null=True)
    """By name, as in AMQP: it need not exist."""
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "brokers_exchange"
        constraints = [
            models.CheckConstraint(name="brokers_exchange_type_known", condition=models.Q(type__in=EXCHANGE_TYPES)),
        ]

    def __str__(self) -> str:
        return self.name


class QueueSettings(models.Model):
    """What a queue is declared with, and what a policy may set for many; null where nothing is said."""

    message_ttl_ms = models.BigIntegerField(null=True)
    expires_ms = models.BigIntegerField(null=True)
    max_length = models.BigIntegerField(null=True)
    overflow = models.CharField(max_length=16, null=True)
    dead_letter_exchange = models.CharField(max_length=249, null=True)
    """By name, empty for the default exchange; it need not exist."""
    dead_letter_routing_key = models.CharField(max_length=255, null=True)
    delivery_limit = models.IntegerField(null=True)
    """-1: none."""

    class Meta:
        abstract = True


class Queue(QueueSettings):
    """A durable queue as it was declared; what a policy adds is worked out when the topology is read."""

    id = models.AutoField(primary_key=True)
    name = models.CharField(max_length=249, unique=True)
    max_priority = models.SmallIntegerField(null=True)
    single_active_consumer = models.BooleanField(default=False, db_default=False)
    dead_letters = models.CharField(max_length=8, default="unrouted", db_default="unrouted")
    paused = models.BooleanField(default=False, db_default=False)
    """Nothing is handed out; publishing goes on."""
    temporary = models.BooleanField(default=False, db_default=False)
    """Made for one reader, such as a subscription or the replies of a process; it expires."""
    created_at = models.DateTimeField(db_default=Now())
    used_at = models.DateTimeField(db_default=Now())
    """When it was declared, claimed from or had a consumer; kept roughly, and only where `expires_ms` asks for it."""

    class Meta:
        db_table = "brokers_queue"
        constraints = [
            models.CheckConstraint(
                name="brokers_queue_overflow_known",
                condition=models.Q(overflow__isnull=True) | models.Q(overflow__in=OVERFLOWS),
            ),
            models.CheckConstraint(
                name="brokers_queue_dead_letters_known", condition=models.Q(dead_letters__in=DEAD_LETTERS)
            ),
        ]

    def __str__(self) -> str:
        return self.name


class QueuePolicy(QueueSettings):
    """Settings for all queues whose name matches; of several that match a queue the one of the highest priority."""

    name = models.CharField(max_length=249, unique=True)
    pattern = models.CharField(max_length=255)
    """A regular expression of PostgreSQL's, found anywhere in the name unless anchored."""
    priority = models.IntegerField(default=0, db_default=0)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "brokers_queue_policy"
        constraints = [
            models.CheckConstraint(
                name="brokers_queue_policy_overflow_known",
                condition=models.Q(overflow__isnull=True) | models.Q(overflow__in=OVERFLOWS),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Binding(models.Model):
    """From an exchange to a queue or to another exchange; one of the two is given."""

    exchange = models.ForeignKey(Exchange, on_delete=models.CASCADE, db_index=False, related_name="bindings")
    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, null=True, related_name="bindings")
    to_exchange = models.ForeignKey(Exchange, on_delete=models.CASCADE, null=True, related_name="sources")
    routing_key = models.CharField(max_length=255, default="", db_default="")
    arguments = models.TextField(default="{}", db_default="{}")
    """JSON text with sorted names, so that two equal declarations are equal text."""
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "brokers_binding"
        constraints = [
            models.CheckConstraint(
                name="brokers_binding_one_destination",
                condition=models.Q(queue__isnull=True, to_exchange__isnull=False)
                | models.Q(queue__isnull=False, to_exchange__isnull=True),
            ),
            models.UniqueConstraint(
                F("exchange"), F("queue"), F("routing_key"), MD5("arguments"), name="brokers_binding_to_queue_once"
            ),
            models.UniqueConstraint(
                F("exchange"),
                F("to_exchange"),
                F("routing_key"),
                MD5("arguments"),
                name="brokers_binding_to_exchange_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.exchange_id} to {self.queue_id or self.to_exchange_id} by {self.routing_key!r}"


class Message(models.Model):
    """One message in one queue.

    Ready: `lease_until` and `due_at` are null. Delayed: `due_at` is set. Unacknowledged: `lease_until` is set. The
    token is the last claim's; it settles the message until another claim takes it.
    """

    queue_id = models.IntegerField()
    priority = models.SmallIntegerField(default=0, db_default=0)
    pos = models.BigIntegerField()
    """The id that people and programs see, the same in all queues that the message was routed to, and its age: a
    requeued message keeps it, and so its place.
    """
    lease_until = models.DateTimeField(null=True)
    due_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    token = models.UUIDField(null=True)
    holder = models.CharField(max_length=250, null=True)
    """Who has claimed it last, for people and for a worker that comes back."""
    claimed_at = models.DateTimeField(null=True)
    published_at = models.DateTimeField(db_default=Now())
    deliveries = models.IntegerField(default=0, db_default=0)
    """How often it was claimed."""
    returns = models.IntegerField(default=0, db_default=0)
    """How many of those claims ended in a requeue that does not count towards the delivery limit."""
    attempts = models.IntegerField(default=0, db_default=0)
    """Rows of `MessageAttempt`."""
    revision = models.IntegerField(default=1, db_default=1)
    dead_letter_id = models.BigIntegerField(null=True)
    replay_item_id = models.BigIntegerField(null=True)
    """Of a message that a replay gave back."""
    encoding = models.SmallIntegerField()
    """As `Record.encoding`."""
    envelope = models.BinaryField()
    """All but the body, as JSON: see `brokers.queues.message`."""
    body = models.BinaryField()

    class Meta:
        db_table = "brokers_message"
        indexes = [
            models.Index(
                fields=["queue_id", "priority", "pos"],
                condition=models.Q(lease_until__isnull=True, due_at__isnull=True),
                name="brokers_message_ready",
            ),
            models.Index(
                fields=["queue_id", "lease_until"],
                condition=models.Q(lease_until__isnull=False),
                name="brokers_message_leased",
            ),
            models.Index(
                fields=["queue_id", "due_at"], condition=models.Q(due_at__isnull=False), name="brokers_message_due"
            ),
            models.Index(
                fields=["queue_id", "expires_at"],
                condition=models.Q(expires_at__isnull=False, lease_until__isnull=True),
                name="brokers_message_expiring",
            ),
        ]

    def __str__(self) -> str:
        return f"message {self.pk} in queue {self.queue_id}"


class MessageAttempt(models.Model):
    """An attempt at a message that failed, while the message is in its queue; a dead letter takes them with it."""

    pk = models.CompositePrimaryKey("message_id", "number")
    message_id = models.BigIntegerField()
    number = models.IntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    error = models.TextField(default="", db_default="")
    exception_class = models.CharField(max_length=300, default="", db_default="")
    stacktrace = models.TextField(default="", db_default="")
    frames = models.JSONField(default=list)
    delay_ms = models.BigIntegerField(null=True)
    worker = models.CharField(max_length=250, default="", db_default="")

    class Meta:
        db_table = "brokers_message_attempt"
        indexes = [models.Index(fields=["started_at"], name="brokers_message_attempt_at")]


class QueueConsumer(models.Model):
    """Who consumes a queue now: a listener's thread, a subscription, or a caller of a single-active queue."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="consumers")
    name = models.CharField(max_length=250)
    kind = models.CharField(max_length=10)
    """`listener`, `rest` or `stomp`."""
    prefetch = models.IntegerField(default=0, db_default=0)
    registered_at = models.DateTimeField(db_default=Now())
    lapses_at = models.DateTimeField()
    """Unless it is heard of before."""

    class Meta:
        db_table = "brokers_queue_consumer"
        constraints = [models.UniqueConstraint(fields=["queue", "name"], name="brokers_queue_consumer_once")]
        indexes = [models.Index(fields=["lapses_at"], name="brokers_queue_consumer_lapse")]

    def __str__(self) -> str:
        return self.name


class QueueChange(models.Model):
    """What one statement added to a queue and took away, or sent through an exchange; folded within seconds."""

    queue_id = models.IntegerField(null=True)
    exchange_id = models.IntegerField(null=True)
    arrived = models.IntegerField(default=0, db_default=0)
    """Of a queue: messages that came. Of an exchange: messages published to it."""
    gone = models.IntegerField(default=0, db_default=0)
    """Of a queue: messages that left. Of an exchange: those that reached no queue."""
    at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "brokers_queue_change"
        indexes = [
            models.Index(
                fields=["queue_id"], condition=models.Q(queue_id__isnull=False), name="brokers_queue_change_queue"
            )
        ]


class QueueCount(models.Model):
    """How many messages a queue holds, ready, delayed and unacknowledged, but for what `QueueChange` holds."""

    queue_id = models.IntegerField(primary_key=True)
    messages = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        db_table = "brokers_queue_count"


class QueueMinute(models.Model):
    """What came to a queue and left it in one minute, kept for seven days."""

    pk = models.CompositePrimaryKey("queue_id", "minute")
    queue_id = models.IntegerField()
    minute = models.DateTimeField()
    arrived = models.IntegerField()
    gone = models.IntegerField()

    class Meta:
        db_table = "brokers_queue_minute"
        indexes = [models.Index(fields=["minute"], name="brokers_queue_minute_at")]


class ExchangeMinute(models.Model):
    """What was published to an exchange in one minute, and what of it reached no queue, kept for seven days."""

    pk = models.CompositePrimaryKey("exchange_id", "minute")
    exchange_id = models.IntegerField()
    minute = models.DateTimeField()
    published = models.IntegerField()
    unrouted = models.IntegerField()

    class Meta:
        db_table = "brokers_exchange_minute"
        indexes = [models.Index(fields=["minute"], name="brokers_exchange_minute_at")]
