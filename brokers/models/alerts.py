"""The tables of alerts: rules that operators make, what they raised, and the notifications still to be sent."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, validate_email
from django.db import models
from django.db.models.functions import Now

METRICS = (
    ("depth", "Open dead letters"),
    ("growth", "New dead letters in a minute"),
    ("oldest_age", "Age of the oldest open dead letter, in seconds"),
    ("group_lag", "Lag of a consumer group, in records"),
    ("queue_depth", "Ready messages of a queue"),
    ("queue_age", "Age of a queue's oldest ready message, in seconds"),
)
SEVERITIES = (("warning", "Warning"), ("critical", "Critical"))


def validate_addresses(text: str) -> None:
    """Raises ValidationError for what is no list of e-mail addresses separated by commas."""
    for address in filter(None, (part.strip() for part in text.split(","))):
        try:
            validate_email(address)
        except ValidationError as error:
            raise ValidationError(f"{address!r} is not an e-mail address") from error


def validate_web_address(text: str) -> None:
    """Raises ValidationError for what is no http:// or https:// address, or holds a user name.

    Unlike Django's validator it takes names without a dot, as servers of a private network have.
    """
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError as error:
        raise ValidationError("Give a valid http:// or https:// address.") from error
    if parts.scheme not in ("http", "https") or not host or port == 0 or not text.isprintable() or " " in text:
        raise ValidationError("Give a valid http:// or https:// address.")
    if parts.username is not None:
        raise ValidationError("An address may not hold a user name or password.")


class AlertRule(models.Model):
    """Raises an alert when a figure of a source, consumer group or queue is at its threshold or above, long enough."""

    name = models.CharField(max_length=100, unique=True)
    metric = models.CharField(max_length=12, choices=METRICS)
    source = models.CharField(
        max_length=249,
        blank=True,
        default="",
        help_text="A topic or queue; a trailing * stands for any ending. Empty: each of them.",
    )
    group_name = models.CharField(
        "consumer group",
        max_length=249,
        blank=True,
        default="",
        help_text="Likewise. Empty: the groups of a source together.",
    )
    threshold = models.FloatField(validators=[MinValueValidator(0)])
    for_seconds = models.PositiveIntegerField(default=0, help_text="How long the figure must stay there.")
    severity = models.CharField(max_length=8, choices=SEVERITIES, default="warning")
    to_log = models.BooleanField("write to the log", default=True)
    emails = models.CharField(
        "e-mail to",
        max_length=1000,
        blank=True,
        default="",
        validators=[validate_addresses],
        help_text="Addresses, separated by commas.",
    )
    webhook_url = models.CharField(
        "webhook", max_length=1000, blank=True, default="", validators=[validate_web_address]
    )
    webhook_secret = models.CharField(
        max_length=200, blank=True, default="", help_text="Signs each call; see docs/alerts.md."
    )
    runbook_url = models.CharField(
        "runbook", max_length=1000, blank=True, default="", validators=[validate_web_address]
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    evaluated_at = models.DateTimeField(null=True, editable=False)
    """The newest evaluation, whether it succeeded or not."""
    highest = models.FloatField(null=True, editable=False)
    """The highest figure that it found; null when there was none."""
    error = models.CharField(max_length=500, default="", editable=False)
    """Why the newest evaluation failed; empty when it did not."""

    class Meta:
        db_table = "brokers_alert_rule"
        verbose_name = "alert rule"

    def __str__(self) -> str:
        return self.name


class Alert(models.Model):
    """Something that a rule found: pending until it lasted long enough, raised once, resolved once."""

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="alerts", db_index=False)
    scope = models.CharField(max_length=500)
    """What it is about: `topic orders`, `queue q`, `group g of topic orders`."""
    value = models.FloatField()
    """The newest figure."""
    began_at = models.DateTimeField(db_default=Now())
    raised_at = models.DateTimeField(null=True)
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "brokers_alert"
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "scope"], condition=models.Q(resolved_at__isnull=True), name="brokers_alert_once"
            ),
        ]
        indexes = [
            models.Index(fields=["-began_at", "-id"], name="brokers_alert_newest"),
            models.Index(fields=["rule", "-id"], name="brokers_alert_by_rule"),
            models.Index(fields=["resolved_at"], name="brokers_alert_resolved"),
        ]

    def __str__(self) -> str:
        return f"{self.rule_id}: {self.scope}"


class AlertNotification(models.Model):
    """One message on its way to one channel; retried until it is delivered or given up."""

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="notifications", db_index=False)
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="notifications", null=True, db_index=False)
    """Null for a test of a rule's channels."""
    event = models.CharField(max_length=8)
    """`raised`, `resolved` or `test`."""
    channel = models.CharField(max_length=8)
    """`log`, `email` or `webhook`."""
    value = models.FloatField(null=True)
    """The figure when it was raised or resolved."""
    created_at = models.DateTimeField(db_default=Now())
    attempts = models.IntegerField(default=0)
    due_at = models.DateTimeField(db_default=Now())
    delivered_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=500, default="")

    class Meta:
        db_table = "brokers_alert_notification"
        constraints = [
            models.UniqueConstraint(fields=["alert", "event", "channel"], name="brokers_alert_notification_once"),
        ]
        indexes = [
            models.Index(
                fields=["due_at", "id"],
                condition=models.Q(delivered_at__isnull=True, given_up_at__isnull=True),
                name="brokers_alert_notification_due",
            ),
            models.Index(fields=["rule", "-id"], name="brokers_alert_note_by_rule"),
        ]

    def __str__(self) -> str:
        return f"{self.event} of alert {self.alert_id} by {self.channel}"
