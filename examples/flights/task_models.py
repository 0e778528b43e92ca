"""What the scheduled tasks and the background export write."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class DailyReport(models.Model):
    """How the departures stood that the board held on one day; made anew for its day as often as anybody asks."""

    day = models.DateField(primary_key=True)
    """By New York's calendar."""
    made_at = models.DateTimeField()
    flights = models.BigIntegerField()
    delayed = models.BigIntegerField()
    cancelled = models.BigIntegerField()
    delay_minutes = models.BigIntegerField()
    """Of all flights that left; early ones count below zero."""
    by_carrier = models.JSONField()
    """The same numbers of each carrier, most flights first."""
    by_airport = models.JSONField()
    """Of each airport that they left from."""

    class Meta:
        db_table = "flights_daily_report"
        ordering = ["-day"]

    def __str__(self) -> str:
        return self.day.isoformat()


class Rate(models.Model):
    """The departures that reached the board within one minute."""

    minute = models.DateTimeField(primary_key=True)
    departures = models.BigIntegerField()
    delayed = models.BigIntegerField()
    cancelled = models.BigIntegerField()

    class Meta:
        db_table = "flights_rate"

    def __str__(self) -> str:
        return self.minute.isoformat()


class RatePosition(models.Model):
    """How far the roll-up has read the board's topic: part of the transaction that adds what it has read."""

    topic = models.BigIntegerField(primary_key=True)
    """Id of the topic; one that is made anew under the same name begins anew."""
    offsets: models.JSONField[Any, Any] = models.JSONField(default=list)
    """The next offset to read of each partition."""

    class Meta:
        db_table = "flights_rate_position"

    def __str__(self) -> str:
        return str(self.topic)


class Export(models.Model):
    """A file of all departures, for the user who asked for it; made in pieces, so that it goes on where it stopped."""

    id = models.CharField(max_length=64, primary_key=True, db_collation="C")
    """Chosen by the page that asks: however often a form is sent, it is one export. Also its progress's id."""
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    call = models.BigIntegerField(null=True)
    """The durable call that makes it."""
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)
    last = models.TextField(default="", db_collation="C")
    """Id of the last departure in it so far."""
    chunks = models.IntegerField(default=0)
    departures = models.BigIntegerField(default=0)
    size = models.BigIntegerField(default=0)
    """Bytes."""

    class Meta:
        db_table = "flights_export"
        ordering = ["-created_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["user"], name="flights_export_one_at_a_time", condition=Q(ended_at__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return self.id


class ExportChunk(models.Model):
    """One piece of an export's file."""

    pk = models.CompositePrimaryKey("export_id", "number")
    export = models.ForeignKey(Export, models.CASCADE, db_index=False, related_name="+")
    number = models.IntegerField()
    data = models.BinaryField()

    class Meta:
        db_table = "flights_export_chunk"

    def __str__(self) -> str:
        return f"{self.export_id}, piece {self.number}"
