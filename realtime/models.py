"""The tables of live push: notifications of users, progress of tasks, tickets of streams.

Written by the hand-written statements of `realtime/sql`, each file by the module of its name.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Inbox(models.Model):
    """A user's notifications are numbered under the lock of this row, so that they commit in the order of numbers."""

    id = models.AutoField(primary_key=True)
    user_name = models.CharField(max_length=150, unique=True)
    last_number = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        db_table = "realtime_inbox"

    def __str__(self) -> str:
        return self.user_name


class Notification(models.Model):
    """Something that a user was told; the newest of each user are kept."""

    pk = models.CompositePrimaryKey("inbox_id", "number")
    inbox = models.ForeignKey(Inbox, on_delete=models.CASCADE, related_name="notifications", db_index=False)
    number = models.BigIntegerField()
    kind = models.CharField(max_length=64)
    payload = models.TextField()
    """JSON."""
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "realtime_notification"
        indexes = [models.Index(fields=["created_at"], name="realtime_notification_age")]

    def __str__(self) -> str:
        return f"{self.inbox_id}-{self.number} {self.kind}"


class ProgressRow(models.Model):
    """How far a long task has come. Its number grows by one with each change."""

    id = models.CharField(max_length=64, primary_key=True)
    user_name = models.CharField(max_length=150)
    title = models.CharField(max_length=200)
    state = models.CharField(max_length=9, default="running", db_default="running")
    number = models.BigIntegerField(default=1, db_default=1)
    current = models.BigIntegerField(default=0, db_default=0)
    total = models.BigIntegerField(null=True)
    message = models.CharField(max_length=500, default="", db_default="")
    result = models.TextField(null=True)
    """JSON, of one that has completed."""
    error = models.CharField(max_length=500, null=True)
    started_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "realtime_progress"
        indexes = [models.Index(fields=["updated_at"], name="realtime_progress_updated")]
        constraints = [
            models.CheckConstraint(
                name="realtime_progress_state_known",
                condition=models.Q(state__in=["running", "completed", "failed"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.title}"


class StreamTicket(models.Model):
    """Opens one stream for the owner of a token; used once, and soon or never."""

    digest = models.BinaryField(primary_key=True)
    token_id = models.CharField(max_length=64)
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "realtime_stream_ticket"
        indexes = [models.Index(fields=["expires_at"], name="realtime_stream_ticket_expiry")]

    def __str__(self) -> str:
        return f"a ticket of {self.token_id}"
