"""The processes of all machines that report themselves."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now


class ProcessRow(models.Model):
    """A process that was alive at `beat_at`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    kind = models.CharField(max_length=20)
    host = models.CharField(max_length=200)
    pid = models.IntegerField()
    started_at = models.DateTimeField(db_default=Now())
    beat_at = models.DateTimeField()

    class Meta:
        db_table = "brokers_process"

    def __str__(self) -> str:
        return f"{self.kind} {self.pid} on {self.host}"
