"""What processes report of their executors, as Django sees it; written and read by `executors.reports` alone."""

from __future__ import annotations

from django.db import models


class ExecutorReport(models.Model):
    """The executors of one process, renewed while it lives."""

    id = models.UUIDField(primary_key=True)
    host = models.CharField(max_length=200)
    pid = models.IntegerField()
    kind = models.CharField(max_length=30)
    """`web`, `listener`, `task worker`."""
    at = models.DateTimeField()
    """When it was last heard of."""
    executors = models.JSONField()
    """A list of figures, one for each executor that the process has used."""
