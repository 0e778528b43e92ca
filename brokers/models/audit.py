"""The append-only record of changes: who did what to which resource, written in the change's own transaction."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class AuditEntry(models.Model):
    """One change. Rows are inserted and never updated or deleted by the product."""

    at = models.DateTimeField(db_default=Now())
    principal = models.CharField(max_length=200)
    surface = models.CharField(max_length=16)
    operation = models.CharField(max_length=32)
    resource_type = models.CharField(max_length=16)
    resource = models.CharField(max_length=249)
    details = models.JSONField(default=dict)

    class Meta:
        db_table = "brokers_audit_entry"
        indexes = [models.Index(fields=["resource_type", "resource", "-id"], name="brokers_audit_by_resource")]

    def __str__(self) -> str:
        return f"{self.at} {self.principal} {self.operation} {self.resource_type} {self.resource}"
